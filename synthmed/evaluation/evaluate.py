"""A judgement of a synthetic set against the store that it should resemble: all figures, a verdict, and pictures."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthmed.data.store import Store
from synthmed.data.synthetic import SyntheticSet
from synthmed.errors import UserError, present
from synthmed.evaluation.adherence import Agreement, Segmenter, adherence_section, agreement
from synthmed.evaluation.features import FeatureSpace, OfflineFeatures, RememberedFeatures
from synthmed.evaluation.fidelity import FidelityPlots, fidelity_sections
from synthmed.evaluation.figures import Section
from synthmed.evaluation.masks import MaskComparison, MaskGroup, compare_masks
from synthmed.evaluation.memorisation.audit import Audit, audit
from synthmed.evaluation.memorisation.features import FeatureSpace as NearestByFeatures
from synthmed.evaluation.pairs import closest_samples
from synthmed.evaluation.plausibility import MaskRanges
from synthmed.evaluation.reference import Slices, check_fit, like, read_real, read_synthetic
from synthmed.evaluation.result import About, Count, Evaluation, Means, Selected
from synthmed.evaluation.selection import Selection, select_best
from synthmed.evaluation.summary import summarise, warn
from synthmed.progress import Say, unheard


@dataclass(frozen=True)
class Judgement:
    """An evaluation with what its report draws.

    Attributes:
        evaluation: Every number.
        drawn: The synthetic slices.
        held_out: Held-out slices.
        maps: Mean occupancy of each foreground class, `[classes - 1, H, W]` by "synthetic", "training", "held_out".
        audit: For copies, sample by sample.
        closest: The samples closest to training slices, and for each its nearest one; None where nothing can be said.
        fidelity: Curves and points; None for label maps alone.
        selection: What was chosen; None where nothing was asked for.
    """

    evaluation: Evaluation
    drawn: Slices
    held_out: Slices
    maps: dict[str, NDArray[np.float64]]
    audit: Audit
    closest: tuple[Slices, Slices] | None = None
    fidelity: FidelityPlots | None = None
    selection: Selection | None = None


@dataclass(frozen=True)
class _Material:
    """What is compared: `floor` has as many training slices as there are synthetic ones, for the same noise."""

    drawn: Slices
    training: Slices
    floor: Slices
    held_out: Slices
    classes: tuple[str, ...]


def evaluate(
    store: Store,
    synthetic: SyntheticSet,
    *,
    space: FeatureSpace | None = None,
    segmenter: Segmenter | None = None,
    segmenter_hash: str = "",
    select: int | None = None,
    seed: int = 0,
    say: Say = unheard,
) -> Judgement:
    """Compare a synthetic set with the real slices of a store.

    Held-out slices are those of the validation and test patients; every figure is given for training slices as well,
    so that it has its floor beside it.

    Args:
        store: Real slices.
        synthetic: Generated slices, or label maps alone.
        space: Of the figures that compare features; by default one that needs no download.
        segmenter: For the adherence of images to their label maps; trained on real slices of training patients.
        segmenter_hash: What stands for it in the report.
        select: How many of the best samples to choose; None for no choice.
        seed: Of random subsets, directions and resamples.
        say: Called with a line at each step.

    Raises:
        UserError: If the set does not fit the store, or either is too small.
    """
    store.require_labels()
    check_fit(store, synthetic)
    say("reading slices")
    material = _read(store, synthetic)
    if select is not None and len(material.drawn) < len(synthetic):
        raise UserError(f"--select takes at most {len(material.drawn)} of a set's slices: give a smaller set")
    space = RememberedFeatures(space or OfflineFeatures(), say=say)
    sections: list[Section] = []
    plots, found = None, None
    if material.drawn.images is not None:
        say("fidelity and diversity")
        sections, plots = _fidelity(store, material, space, seed)
        say("adherence to label maps")
        found, section = _adherence(segmenter, material, seed)
        sections.append(section)
    say("copies of training slices")
    audited = _audit(store, synthetic, material.drawn, space, seed)
    say("label maps")
    masks = _masks(store, material, seed)
    told = tuple(_finite(section) for section in (*sections, audited.section, *masks.sections))
    about = _about(store, synthetic, material, seed)
    if material.drawn.images is not None:
        about = about.model_copy(
            update={"space": space.name, "space_identity": space.identity, "segmenter": segmenter_hash}
        )
    chosen = None if select is None else _select(select, material, audited, found)
    evaluation = Evaluation(
        about=about,
        summary=summarise(about, told),
        sections=told,
        means=_means(masks),
        audit=audited.verdict,
        selection=None if chosen is None else _selected(select or 0, chosen),
        warnings=(*_oddities(store, material.drawn, masks), *warn(about, told)),
    )
    closest = _closest(store, material.drawn, audited)
    return Judgement(evaluation, material.drawn, material.held_out, masks.maps, audited, closest, plots, chosen)


def _read(store: Store, synthetic: SyntheticSet) -> _Material:
    drawn = read_synthetic(synthetic)
    held_out, training = (read_real(store, held_out=which, images=drawn.images is not None) for which in (True, False))
    return _Material(drawn, training, like(training, len(drawn)), held_out, tuple(store.classes))


def _about(store: Store, synthetic: SyntheticSet, material: _Material, seed: int) -> About:
    drawn, floor, held_out = (
        Count(slices=len(one), units=one.units) for one in (material.drawn, material.floor, material.held_out)
    )
    return About(
        dataset=store.dataset,
        store_hash=store.content_hash,
        licence=store.licence,
        models=_models(synthetic),
        psi=tuple(sorted({float(sidecar["psi"]) for sidecar in synthetic.sidecars if "psi" in sidecar})),
        variant="masks" if material.drawn.images is None else "images",
        channels=synthetic.channels,
        classes=material.classes,
        size=store.size,
        synthetic=drawn,
        training=floor,
        held_out=held_out,
        seed=seed,
    )


def _models(synthetic: SyntheticSet) -> tuple[str, ...]:
    return tuple(sorted({str(sidecar["model_hash"]) for sidecar in synthetic.sidecars if "model_hash" in sidecar}))


def _fidelity(store: Store, material: _Material, space: FeatureSpace, seed: int) -> tuple[list[Section], FidelityPlots]:
    parts = material.drawn, material.training, material.held_out
    drawn, training, held_out = (present(part.images, "fidelity is asked of sets with images") for part in parts)
    return fidelity_sections(
        drawn,
        training,
        material.training.groups,
        held_out,
        material.held_out.groups,
        space,
        channels=store.channels,
        seed=seed,
    )


def _adherence(segmenter: Segmenter | None, material: _Material, seed: int) -> tuple[Agreement | None, Section]:
    def agree(slices: Slices) -> Agreement | None:
        if segmenter is None or slices.images is None:
            return None
        found = segmenter(slices.images)
        return agreement(slices.labels, found, classes=len(material.classes), groups=slices.groups)

    own = agree(material.drawn)
    return own, adherence_section(own, agree(material.held_out), classes=material.classes, seed=seed)


def _audit(store: Store, synthetic: SyntheticSet, drawn: Slices, space: FeatureSpace, seed: int) -> Audit:
    models = _models(synthetic)
    return audit(
        store,
        drawn.images,
        drawn.labels,
        cases=drawn.groups,
        features=None if drawn.images is None else NearestByFeatures(space, space.name),
        # A set of several generators has no verdict on one of them.
        model_hash=models[0] if len(models) == 1 else "",
        seed=seed,
    )


def _masks(store: Store, material: _Material, seed: int) -> MaskComparison:
    kinds = (material.drawn, material.floor, material.held_out)
    drawn, floor, held_out = (MaskGroup(one.labels, one.groups) for one in kinds)
    return compare_masks(drawn, floor, held_out, classes=material.classes, spacing=store.spacing, seed=seed)


def _select(count: int, material: _Material, audited: Audit, found: Agreement | None) -> Selection:
    ranges = MaskRanges(material.training.labels, classes=len(material.classes))
    return select_best(
        count,
        labels=material.drawn.labels,
        audit=audited,
        oddity=lambda label: ranges.oddity(label, material.classes),
        adherence=None if found is None else found.mean,
    )


def _selected(asked: int, chosen: Selection) -> Selected:
    return Selected(asked=asked, kept=len(chosen.chosen), dropped=chosen.summary(), ranked_by=chosen.ranked_by)


def _closest(store: Store, drawn: Slices, audited: Audit) -> tuple[Slices, Slices] | None:
    chosen, nearest = closest_samples(audited)
    if not len(chosen):
        return None
    images = None if drawn.images is None else store.images(nearest)
    return drawn.take(chosen), Slices(images, store.labels(nearest), np.arange(len(nearest)))


def _finite(section: Section) -> Section:
    """Return a section without the figures that could not be measured: they become notes."""
    kept, notes = [], list(section.notes)
    for figure in section.figures:
        own = math.isfinite(figure.estimate.value)
        if own and (figure.floor is None or math.isfinite(figure.floor.value)):
            kept.append(figure)
        else:
            notes.append(f"{figure.label} could not be measured: the slices are too few or too much alike.")
    return section.model_copy(update={"figures": tuple(kept), "notes": tuple(notes)})


def _means(masks: MaskComparison) -> tuple[Means, ...]:
    return tuple(
        Means(label=f"{name}: {quantity}", **{kind: values[quantity] for kind, values in kinds.items()})
        for name, kinds in masks.means.items()
        for quantity in kinds["synthetic"]
    )


def _oddities(store: Store, drawn: Slices, masks: MaskComparison) -> list[str]:
    """Return what is odd about the slices themselves."""
    warnings = []
    if masks.missing:
        warnings.append(f"Too few slices show {', '.join(masks.missing)}: see the notes on label maps.")
    if drawn.images is not None:
        flat = int((np.ptp(drawn.images, axis=(1, 2)) < 1e-6).all(axis=-1).sum())
        if flat:
            warnings.append(f"{flat} of {len(drawn)} synthetic images are constant: their generator has failed.")
    if store.plan.slices == "balanced":
        warnings.append("The generator was offered slices of rare classes more often: shares of slices differ by that.")
    return warnings
