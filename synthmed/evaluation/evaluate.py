"""A judgement of a synthetic set against the store that it should resemble: all figures, a verdict, and pictures."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthmed.data.store import Store
from synthmed.data.synthetic import SyntheticSet
from synthmed.evaluation.adherence import Agreement, Segmenter, adherence_section, agreement
from synthmed.evaluation.distances import coarse_vectors, nearest_distances
from synthmed.evaluation.figures import Estimate, Figure, Section
from synthmed.evaluation.masks import MaskComparison, MaskGroup, compare_masks
from synthmed.evaluation.reference import Slices, check_fit, like, read_real, read_synthetic
from synthmed.evaluation.result import About, Count, Evaluation, Means, Verdict
from synthmed.evaluation.summary import summarise, warn
from synthmed.progress import Say, unheard
from synthmed.training.distance import sliced_wasserstein


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
        fidelity: Curves and points; None for label maps alone.
    """

    evaluation: Evaluation
    drawn: Slices
    training: Slices
    held_out: Slices
    maps: dict[str, NDArray[np.float64]]
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
    verdict, found = None, None
    if pictures:
        say("fidelity and diversity")
        sections += _fidelity(drawn, floor, held_out, seed=seed)
        say("adherence to label maps")
        found = _adherence(segmenter, drawn, classes=classes)
        sections.append(
            adherence_section(found, _adherence(segmenter, held_out, classes=classes), classes=classes, seed=seed)
        )
        say("copies of training slices")
        verdict = _audit(drawn, training, held_out)
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
        audit=verdict,
        warnings=(*warn(about, told), *_oddities(store, drawn, masks)),
    )
    adherence = None if found is None else found.mean
    return Judgement(evaluation, drawn, floor, held_out, masks.maps, adherence=adherence)


def _count(slices: Slices) -> Count:
    return Count(slices=len(slices), units=slices.units)


def _adherence(segmenter: Segmenter | None, slices: Slices, *, classes: tuple[str, ...]) -> Agreement | None:
    if segmenter is None or slices.images is None:
        return None
    found = segmenter(slices.images)
    return agreement(slices.labels, found, classes=len(classes), groups=slices.groups)


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
NEAR_QUANTILE, COPY_SHARE = 0.01, 0.05


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


def _audit(drawn: Slices, training: Slices, held_out: Slices) -> Verdict:
    own, real, other = (coarse_vectors(one.images) for one in (drawn, training, held_out) if one.images is not None)
    found = memorisation(own, real, other)
    return Verdict(passed=found["passed"], words=found["verdict"])


def memorisation(
    drawn: NDArray[np.float32], training: NDArray[np.float32], held_out: NDArray[np.float32]
) -> dict[str, Any]:
    """Tell whether samples lie nearer to training slices than slices of other patients do.

    Args:
        drawn: `(n, features)` of the samples.
        training: `(m, features)` of the training slices.
        held_out: `(k, features)` of slices of patients that the generator has not seen.

    Returns:
        Threshold, shares below it, median distances, and a verdict in words.
    """
    own, floor = nearest_distances(drawn, training), nearest_distances(held_out, training)
    threshold = float(np.quantile(floor, NEAR_QUANTILE))
    share = float(np.mean(own <= threshold))
    passed = share <= COPY_SHARE
    verdict = (
        f"no sign of copies: {share:.1%} of the samples are as near to a training slice as the nearest "
        f"{NEAR_QUANTILE:.0%} of held-out slices; up to {COPY_SHARE:.0%} passes"
        if passed
        else f"copies are likely: {share:.1%} of the samples are as near to a training slice as only "
        f"{NEAR_QUANTILE:.0%} of held-out slices are; up to {COPY_SHARE:.0%} passes"
    )
    return {
        "threshold": threshold,
        "share_nearer": share,
        "median_distance": float(np.median(own)),
        "median_distance_of_held_out": float(np.median(floor)),
        "passed": passed,
        "verdict": verdict,
    }
