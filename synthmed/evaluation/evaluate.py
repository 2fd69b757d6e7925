"""The evaluation of a synthetic set beside the store that it should resemble: figures, audit, selection, pictures."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthmed.data.schema import CaseRecord
from synthmed.data.selection import select
from synthmed.data.store import Store
from synthmed.data.synthetic import SyntheticSet
from synthmed.errors import UserError, present
from synthmed.evaluation.adherence import Agreement, Segmenter, adherence_section, agreement
from synthmed.evaluation.distances import blocks
from synthmed.evaluation.features import FeatureSpace, OfflineFeatures, RememberedFeatures
from synthmed.evaluation.fidelity import FidelityPlots, fidelity_sections
from synthmed.evaluation.masks import MaskComparison, MaskGroup, compare_masks
from synthmed.evaluation.memorisation.audit import Audit, audit
from synthmed.evaluation.memorisation.search import VectorSpace
from synthmed.evaluation.result import About, Count, Evaluation, Means, Section, summarise, warn
from synthmed.evaluation.selection import MaskRanges, Selection, closest_samples, select_best
from synthmed.progress import Say, unheard

FEWEST = 10
MOST_SLICES = 10_000
"""Slices of a kind that are looked at: of more, every second or third is taken, and so on."""
_BLOCK = 256


@dataclass(frozen=True)
class LabelledSlices:
    """Slices of one kind.

    Attributes:
        images: float32 `[n, H, W, C]` in [-1, 1]; None for label maps alone.
        labels: uint8 `[n, H, W]` class indices.
        groups: Number of the patient or generated case of each, int64 `[n]`.
    """

    images: NDArray[np.float32] | None
    labels: NDArray[np.uint8]
    groups: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def units(self) -> int:
        """How many patients or cases."""
        return len(np.unique(self.groups))

    def take(self, indices: NDArray[np.int64]) -> "LabelledSlices":
        """Return some of the slices."""
        images = None if self.images is None else self.images[indices]
        return LabelledSlices(images, self.labels[indices], self.groups[indices])


def check_fit(store: Store, synthetic: SyntheticSet) -> None:
    """Do nothing where a synthetic set can be compared with a store.

    Raises:
        UserError: If classes, channels or sizes differ, or its generator saw patients that the store holds out.
    """
    fix = "compare it with the store that its generator was trained on"
    for what, own, wanted in (
        ("classes", synthetic.classes, store.classes),
        ("channels", synthetic.channels or store.channels, store.channels),
    ):
        if tuple(own) != tuple(wanted):
            raise UserError(
                f"{synthetic.folder} has the {what} {', '.join(own)}, {store.path} has {', '.join(wanted)}: {fix}"
            )
    size = synthetic.labels(np.array([0])).shape[1:]
    if size != tuple(store.size):
        sizes = ["x".join(map(str, one)) for one in (size, store.size)]
        raise UserError(f"{synthetic.folder} has slices of {sizes[0]}, {store.path} of {sizes[1]}: {fix}")
    if store.held_out_hashes & synthetic.training_hashes:
        raise UserError(
            f"the generator of {synthetic.folder} was trained on patients that {store.path} holds out for validation "
            f"or test: {fix}"
        )


def read_synthetic(synthetic: SyntheticSet) -> LabelledSlices:
    """Return the slices of a set, thinned evenly to `MOST_SLICES`.

    Raises:
        UserError: If there are too few, or one cannot be read.
    """
    chosen = _thinned(np.arange(len(synthetic), dtype=np.int64))
    _check_enough("synthetic", len(chosen))
    parts = [chosen[block] for block in blocks(len(chosen), _BLOCK)]
    labels = np.concatenate([synthetic.labels(part) for part in parts])
    images = np.concatenate([synthetic.images(part) for part in parts]) if synthetic.channels else None
    _, cases = np.unique(np.array(synthetic.cases)[chosen], return_inverse=True)
    return LabelledSlices(images, labels, cases.astype(np.int64))


def read_real(store: Store, *, held_out: bool, images: bool = True) -> LabelledSlices:
    """Return real slices, those that the plan offers to a training, once each and thinned evenly to `MOST_SLICES`.

    Slices with pixels whose class is not known are left out.

    Args:
        store: Real slices.
        held_out: Whether those of the validation and test patients, else of the training patients.
        images: Whether the images are wanted.

    Raises:
        UserError: If there are too few.
    """
    cases = [*store.cases("val"), *store.cases("test")] if held_out else store.cases("train")
    numbers = _thinned(_offered(store, cases))
    _check_enough("held-out" if held_out else "training", len(numbers))
    _, groups = np.unique([store.case_of(int(number)).patient for number in numbers], return_inverse=True)
    return LabelledSlices(store.images(numbers) if images else None, store.labels(numbers), groups.astype(np.int64))


def like(slices: LabelledSlices, count: int) -> LabelledSlices:
    """Return at most `count` slices, taken evenly from all: every patient has a share."""
    if len(slices) <= count:
        return slices
    return slices.take(np.linspace(0, len(slices) - 1, count).round().astype(np.int64))


def _offered(store: Store, cases: list[CaseRecord]) -> NDArray[np.int64]:
    parts = [np.arange(case.first, case.first + case.slices, dtype=np.int64) for case in cases]
    numbers = np.concatenate(parts) if parts else np.empty(0, np.int64)
    numbers = numbers[~store.slice_ignored[numbers]]
    # Empty slices that no generator has seen would make real slices look unlike all that it draws.
    if store.plan.slices == "foreground" and (store.class_counts[numbers, 1:] > 0).any():
        owner = np.array([store.case_of(int(number)).first for number in numbers])
        numbers = numbers[select(store.class_counts[numbers], "foreground", case=owner)]
    return numbers


def _thinned(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    return numbers[:: -(-len(numbers) // MOST_SLICES) or 1]


def _check_enough(kind: str, count: int) -> None:
    if count < FEWEST:
        raise UserError(f"there are {count} {kind} slices, and an evaluation needs at least {FEWEST}: give more")


@dataclass(frozen=True)
class EvaluationResult:
    """An evaluation with what its report draws.

    Attributes:
        evaluation: Every number.
        drawn: The synthetic slices.
        held_out: Held-out slices.
        maps: Mean occupancy of each foreground class, `[classes - 1, H, W]` by "synthetic", "training", "held_out".
        audit: For copies, sample by sample.
        closest: The samples closest to training slices, and for each its nearest one; None where none can be compared.
        fidelity: Curves and points; None for label maps alone.
        selection: What was chosen; None where nothing was asked for.
    """

    evaluation: Evaluation
    drawn: LabelledSlices
    held_out: LabelledSlices
    maps: dict[str, NDArray[np.float64]]
    audit: Audit
    closest: tuple[LabelledSlices, LabelledSlices] | None = None
    fidelity: FidelityPlots | None = None
    selection: Selection | None = None


@dataclass(frozen=True)
class _Material:
    """What is compared: `baseline` has as many training slices as there are synthetic ones, for the same noise."""

    drawn: LabelledSlices
    training: LabelledSlices
    baseline: LabelledSlices
    held_out: LabelledSlices
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
) -> EvaluationResult:
    """Compare a synthetic set with the real slices of a store.

    Held-out slices are those of the validation and test patients; every figure is given for training slices as well,
    so that it has its real baseline beside it.

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
    audit_result = _audit(store, synthetic, material.drawn, space, seed)
    say("label maps")
    masks = _masks(store, material, seed)
    measured = tuple(_finite(section) for section in (*sections, audit_result.section, *masks.sections))
    about = _about(store, synthetic, material, seed)
    if material.drawn.images is not None:
        about = about.model_copy(
            update={"space": space.name, "space_identity": space.identity, "segmenter": segmenter_hash}
        )
    chosen = None if select is None else _select(select, material, audit_result, found)
    evaluation = Evaluation(
        about=about,
        summary=summarise(about, measured),
        sections=measured,
        means=_means(masks),
        audit=audit_result.verdict,
        selection=None if chosen is None else chosen.record(select or 0),
        warnings=(*_set_warnings(store, material.drawn, masks), *warn(about, measured)),
    )
    closest = _closest(store, material.drawn, audit_result)
    return EvaluationResult(
        evaluation, material.drawn, material.held_out, masks.maps, audit_result, closest, plots, chosen
    )


def _read(store: Store, synthetic: SyntheticSet) -> _Material:
    drawn = read_synthetic(synthetic)
    held_out, training = (read_real(store, held_out=which, images=drawn.images is not None) for which in (True, False))
    return _Material(drawn, training, like(training, len(drawn)), held_out, tuple(store.classes))


def _about(store: Store, synthetic: SyntheticSet, material: _Material, seed: int) -> About:
    drawn, baseline, held_out = (
        Count(slices=len(one), units=one.units) for one in (material.drawn, material.baseline, material.held_out)
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
        training=baseline,
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
    def agree(slices: LabelledSlices) -> Agreement | None:
        if segmenter is None or slices.images is None:
            return None
        found = segmenter(slices.images)
        return agreement(slices.labels, found, classes=len(material.classes), groups=slices.groups)

    own = agree(material.drawn)
    return own, adherence_section(own, agree(material.held_out), classes=material.classes, seed=seed)


def _audit(store: Store, synthetic: SyntheticSet, drawn: LabelledSlices, space: FeatureSpace, seed: int) -> Audit:
    models = _models(synthetic)
    return audit(
        store,
        drawn.images,
        drawn.labels,
        cases=drawn.groups,
        features=None if drawn.images is None else VectorSpace(space, space.name),
        # A set of several generators has no verdict on one of them.
        model_hash=models[0] if len(models) == 1 else "",
        seed=seed,
    )


def _masks(store: Store, material: _Material, seed: int) -> MaskComparison:
    kinds = (material.drawn, material.baseline, material.held_out)
    drawn, baseline, held_out = (MaskGroup(one.labels, one.groups) for one in kinds)
    return compare_masks(drawn, baseline, held_out, classes=material.classes, spacing=store.spacing, seed=seed)


def _select(count: int, material: _Material, audit_result: Audit, found: Agreement | None) -> Selection:
    ranges = MaskRanges(material.training.labels, classes=len(material.classes))
    return select_best(
        count,
        labels=material.drawn.labels,
        audit=audit_result,
        outlier=lambda label: ranges.outlier(label, material.classes),
        adherence=None if found is None else found.mean,
    )


def _closest(store: Store, drawn: LabelledSlices, audit_result: Audit) -> tuple[LabelledSlices, LabelledSlices] | None:
    chosen, nearest = closest_samples(audit_result)
    if not len(chosen):
        return None
    images = None if drawn.images is None else store.images(nearest)
    return drawn.take(chosen), LabelledSlices(images, store.labels(nearest), np.arange(len(nearest)))


def _finite(section: Section) -> Section:
    """Return a section without the figures that could not be measured: they become notes."""
    finite, notes = [], list(section.notes)
    for figure in section.figures:
        own = math.isfinite(figure.estimate.value)
        if own and (figure.real_baseline is None or math.isfinite(figure.real_baseline.value)):
            finite.append(figure)
        else:
            notes.append(f"{figure.label} could not be measured: the slices are too few or too much alike.")
    return section.model_copy(update={"figures": tuple(finite), "notes": tuple(notes)})


def _means(masks: MaskComparison) -> tuple[Means, ...]:
    return tuple(
        Means(label=f"{name}: {quantity}", **{kind: values[quantity] for kind, values in kinds.items()})
        for name, kinds in masks.means.items()
        for quantity in kinds["synthetic"]
    )


def _set_warnings(store: Store, drawn: LabelledSlices, masks: MaskComparison) -> list[str]:
    """Return what limits the figures in the slices themselves."""
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
