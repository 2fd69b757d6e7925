"""A judgement of a synthetic set against the store that it should resemble: all figures, a verdict, and pictures."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthmed.data.store import Store
from synthmed.data.synthetic import SyntheticSet
from synthmed.evaluation.adherence import Agreement, Segmenter, adherence_section, agreement
from synthmed.evaluation.distances import coarse_vectors
from synthmed.evaluation.figures import Estimate, Figure, Section
from synthmed.evaluation.masks import MaskComparison, MaskGroup, compare_masks
from synthmed.evaluation.memorisation.audit import Audit, audit
from synthmed.evaluation.reference import Slices, check_fit, like, read_real, read_synthetic
from synthmed.evaluation.result import About, Count, Evaluation, Means
from synthmed.evaluation.summary import summarise, warn
from synthmed.progress import Say, unheard
from synthmed.training.distance import sliced_wasserstein

PAIRS = 12
"""Closest pairs that are kept for the report."""


@dataclass(frozen=True)
class Judgement:
    """An evaluation with what its report draws.

    Attributes:
        evaluation: Every number.
        drawn: The synthetic slices.
        training: Training slices, as many.
        held_out: Held-out slices.
        maps: Mean occupancy of each foreground class, `[classes - 1, H, W]` by "synthetic", "training", "held_out".
        adherence: Mean Dice of each synthetic slice, `[n]`; None without a segmenter.
        audit: For copies, sample by sample.
        closest: The samples closest to training slices, and for each its nearest one; None where nothing can be said.
        fidelity: Curves and points; None for label maps alone.
    """

    evaluation: Evaluation
    drawn: Slices
    training: Slices
    held_out: Slices
    maps: dict[str, NDArray[np.float64]]
    audit: Audit
    closest: tuple[Slices, Slices] | None = None
    adherence: NDArray[np.float64] | None = None
    fidelity: Any = None


def evaluate(
    store: Store,
    synthetic: SyntheticSet,
    *,
    segmenter: Segmenter | None = None,
    segmenter_hash: str = "",
    seed: int = 0,
    say: Say = unheard,
) -> Judgement:
    """Compare a synthetic set with the real slices of a store.

    Held-out slices are those of the validation and test patients; every figure is given for training slices as well,
    so that it has its floor beside it.

    Args:
        store: Real slices.
        synthetic: Generated slices, or label maps alone.
        segmenter: For the adherence of images to their label maps; trained on real slices of training patients.
        segmenter_hash: What stands for it in the report.
        seed: Of random subsets, directions and resamples.
        say: Called with a line at each step.

    Raises:
        UserError: If the set does not fit the store, or either is too small.
    """
    store.require_labels()
    check_fit(store, synthetic)
    say("reading slices")
    drawn = read_synthetic(synthetic)
    pictures = drawn.images is not None
    held_out = read_real(store, held_out=True, images=pictures)
    training = read_real(store, held_out=False, images=pictures)
    # A floor has the same noise as the figure only with as many slices.
    floor = like(training, len(drawn))
    classes = tuple(store.classes)
    about = About(
        dataset=store.dataset,
        store_hash=store.content_hash,
        licence=store.licence,
        models=tuple(sorted({str(sidecar["model_hash"]) for sidecar in synthetic.sidecars if "model_hash" in sidecar})),
        variant="images" if pictures else "masks",
        channels=synthetic.channels,
        classes=classes,
        size=store.size,
        synthetic=_count(drawn),
        training=_count(floor),
        held_out=_count(held_out),
        segmenter=segmenter_hash,
        seed=seed,
    )
    sections: list[Section] = []
    found = None
    if pictures:
        say("fidelity and diversity")
        sections += _fidelity(drawn, floor, held_out, seed=seed)
        say("adherence to label maps")
        found = _adherence(segmenter, drawn, classes=classes)
        sections.append(
            adherence_section(found, _adherence(segmenter, held_out, classes=classes), classes=classes, seed=seed)
        )
    say("copies of training slices")
    audited = audit(store, drawn.images, drawn.labels, model_hash=",".join(about.models), seed=seed)
    sections.append(audited.section)
    say("label maps")
    masks = compare_masks(
        *(MaskGroup(one.labels, one.groups) for one in (drawn, floor, held_out)),
        classes=classes,
        spacing=store.spacing,
        seed=seed,
    )
    told = tuple(_finite(section) for section in (*sections, *masks.sections))
    evaluation = Evaluation(
        about=about,
        summary=summarise(about, told),
        sections=told,
        means=_means(masks),
        audit=audited.verdict,
        warnings=(*warn(about, told), *_oddities(store, drawn, masks)),
    )
    adherence = None if found is None else found.mean
    return Judgement(
        evaluation,
        drawn,
        floor,
        held_out,
        masks.maps,
        audit=audited,
        closest=_closest(store, drawn, audited),
        adherence=adherence,
    )


def _count(slices: Slices) -> Count:
    return Count(slices=len(slices), units=slices.units)


def _adherence(segmenter: Segmenter | None, slices: Slices, *, classes: tuple[str, ...]) -> Agreement | None:
    if segmenter is None or slices.images is None:
        return None
    found = segmenter(slices.images)
    return agreement(slices.labels, found, classes=len(classes), groups=slices.groups)


def _closest(store: Store, drawn: Slices, audited: Audit) -> tuple[Slices, Slices] | None:
    """Return the samples closest to training slices, copies first, and their nearest training slices."""
    for finding in audited.findings:
        nearest, copies = np.array(finding.nearest), np.array(finding.copies)
        order = np.lexsort((np.array(finding.distance), ~copies))
        chosen = order[nearest[order] >= 0][:PAIRS]
        if len(chosen):
            images = None if drawn.images is None else store.images(nearest[chosen])
            real = Slices(images, store.labels(nearest[chosen]), np.arange(len(chosen)))
            return drawn.take(chosen), real
    return None


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


FEATURES = "slices averaged to 16 x 16"


def _fidelity(drawn: Slices, training: Slices, held_out: Slices, *, seed: int) -> list[Section]:
    vectors = [coarse_vectors(one.images) for one in (drawn, training, held_out) if one.images is not None]
    own, floor = (sliced_wasserstein(one, vectors[2], seed=seed) for one in vectors[:2])
    figure = Figure(
        name="sliced_wasserstein",
        label="sliced Wasserstein distance",
        estimate=Estimate(value=own),
        floor=Estimate(value=floor),
        better="lower",
        definition="Sliced Wasserstein-1 distance to held-out slices (Rabin et al. 2011).",
        space=FEATURES,
    )
    return [Section(name="fidelity", title="Fidelity", figures=(figure,))]
