"""One space's findings: thresholds from unseen patients, which samples are near, which are copies, the figures."""

from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict

from synthmed.evaluation.figures import Estimate, Figure
from synthmed.evaluation.memorisation.calibration import (
    NEAR_SHARE,
    Expected,
    Thresholds,
    expected_share,
    share_interval,
)
from synthmed.evaluation.memorisation.spaces import Nearest, Slices, Space
from synthmed.evaluation.resampling import Units, median

FEWEST_PATIENTS = 5
FEWEST_SLICES = 100
"""With fewer held-out patients or slices the training patients, each searched among the others, are asked as well."""
_INFINITE = 1e9


class Finding(BaseModel):
    """What was found in one space.

    Attributes:
        space: Its key: "images", "masks", "features".
        label: What a reader sees.
        definition: Of the distance.
        near_distance: Distance below which a slice is near.
        usual_distance: Median distance of unseen patients' slices.
        far_distance: Distance above which hardly any of them lies.
        near_ratio: Ratio to the nearest other patient's slice below which a slice is near; None without a second one.
        copy_below: Ratio below which a sample is a copy (distance, where there is no ratio).
        nearest: Number of the nearest training slice in the store, for each sample; -1 where it shows nothing.
        distance: Distance to it; -1 where there is none.
        ratio: Distance as a share of that to the nearest slice of another patient; -1 where there is none.
        near: Which samples are near.
        copies: Which samples are copies.
        expected: Share of near slices among unseen patients, with its interval.
        compared: How many samples show something.
        passed: Whether there is no sign of copies.
        words: Why, in a sentence.
    """

    model_config = ConfigDict(frozen=True)

    space: str
    label: str
    definition: str
    near_distance: float
    usual_distance: float
    far_distance: float
    near_ratio: float | None
    copy_below: float
    nearest: list[int]
    distance: list[float]
    ratio: list[float]
    near: list[bool]
    copies: list[bool]
    expected: Estimate
    compared: int
    passed: bool
    words: str


@dataclass(frozen=True)
class Judged:
    """A finding and its figures."""

    finding: Finding
    figures: tuple[Figure, ...]


def judge(space: Space, samples: Slices, training: Slices, held_out: Slices, *, seed: int = 0) -> Judged | None:
    """Search samples and unseen patients among the training slices and compare the two.

    Args:
        space: How distances are measured.
        samples: What was generated.
        training: All training slices.
        held_out: Slices of patients who were never seen; may be few or none: training patients, each searched among
            the others, then take part.
        seed: Of the bootstrap.

    Returns:
        The finding; None where there is nobody to calibrate with: a single training patient and no other.
    """
    real, patient = _unseen(space, training, held_out)
    if real is None:
        return None
    found = space.nearest(samples, training)
    thresholds = Thresholds.of(real, by_distance=not space.typical_is_near)
    shown = ~real.empty
    real = real.select(shown)
    expected = expected_share(real, patient[shown], seed=seed, by_distance=not space.typical_is_near)
    near, copies = (flag(found) for flag in (thresholds.near, thresholds.copies))
    near = near | copies
    compared = int((~found.empty).sum())
    low, high = share_interval(int(near.sum()), compared) if compared else (0.0, 0.0)
    many = low > expected.high
    ratio = thresholds.ratio
    finding = Finding(
        space=space.name,
        label=space.label,
        definition=space.definition,
        near_distance=thresholds.distance,
        usual_distance=float(np.median(real.distance)),
        far_distance=thresholds.far,
        near_ratio=ratio,
        copy_below=(thresholds.copy_distance or 0.0) if thresholds.copy_ratio is None else thresholds.copy_ratio,
        nearest=found.index.tolist(),
        distance=_plain(found.distance),
        ratio=_plain(found.ratio),
        near=near.tolist(),
        copies=copies.tolist(),
        expected=Estimate(value=expected.share, low=expected.low, high=expected.high),
        compared=compared,
        passed=not (copies.any() or many),
        words=_words(space, int(copies.sum()), int(near.sum()), compared, expected, low, many),
    )
    medians = _medians(finding, found, real, (samples.patient, patient[shown]), seed)
    return Judged(finding, (*_figures(finding, (low, high)), *medians))


def _unseen(space: Space, training: Slices, held_out: Slices) -> tuple[Nearest | None, np.ndarray]:
    """Return what is found for slices of patients whom the references do not hold, and their patients."""
    parts: list[tuple[Nearest, np.ndarray]] = []
    if len(held_out):
        parts.append((space.nearest(held_out, training), held_out.patient))
    patients = len(np.unique(held_out.patient))
    shown = sum(int((~found.empty).sum()) for found, _ in parts)
    if (patients < FEWEST_PATIENTS or shown < FEWEST_SLICES) and len(np.unique(training.patient)) > 1:
        every = max(1, len(training) // 500)
        asked = training.take(np.arange(0, len(training), every))
        parts.append((space.nearest(asked, training, leave_own_out=True), asked.patient + 1 + patients))
    if not any((~found.empty).any() for found, _ in parts):
        return None, np.empty(0, np.int64)
    joined = Nearest.joined([found for found, _ in parts])
    return joined, np.concatenate([patient for _, patient in parts])


def _words(space: Space, copies: int, near: int, compared: int, expected: Expected, low: float, many: bool) -> str:
    what = space.label.lower()
    if not compared:
        return f"{what}: no sample shows anything that could be compared"
    if copies:
        return f"{what}: {copies} of {compared} samples stand out as copies of a training slice"
    how = (
        "as much nearer to one training patient than to others"
        if space.typical_is_near
        else "as near to a training slice"
    )
    share = f"{near / compared:.1%} of {compared} samples are {how} as {NEAR_SHARE:.0%} of real ones"
    if many:
        return f"{what}: {share} of unseen patients are, at least {low:.1%} where up to {expected.high:.1%} is chance"
    # A share above what is chance passes where the interval of so few samples reaches down to it.
    surely = f" (surely at least {low:.1%})" if near / compared > expected.high else ""
    return f"{what}: no copy, and {share} of unseen patients are{surely}, where up to {expected.high:.1%} is chance"


def _figures(finding: Finding, interval: tuple[float, float]) -> tuple[Figure, ...]:
    if not finding.compared:
        return ()
    warning = "" if finding.compared >= 100 else f"{finding.compared} samples are few: copies may be missed"
    return (
        Figure(
            name=f"{finding.space}_copies",
            label=f"{finding.label}: copies",
            estimate=Estimate(value=float(sum(finding.copies))),
            floor=Estimate(value=0.0),
            better="lower",
            unit="samples",
            definition=f"Samples that stand out: the distance to the nearest training slice, as a share of that to the "
            f"nearest slice of another training patient, is below {finding.copy_below:.3g}, half of what 1 % of unseen "
            "patients' slices reach. One is enough to fail.",
            space=finding.space,
            warning=warning,
        ),
        Figure(
            name=f"{finding.space}_share_near",
            label=f"{finding.label}: share that is near",
            estimate=Estimate(value=sum(finding.near) / finding.compared, low=interval[0], high=interval[1]),
            floor=finding.expected,
            better="lower",
            definition="Share of samples that are as near to a training slice, or as much nearer to it than to any "
            "other patient's, as 1 % of unseen patients' slices are. Its floor is the share of such slices of each "
            "unseen patient, by thresholds fitted on the others.",
            space=finding.space,
            warning=warning,
        ),
    )


def _medians(
    finding: Finding, found: Nearest, real: Nearest, owners: tuple[np.ndarray, np.ndarray], seed: int
) -> tuple[Figure, ...]:
    """Return the median distance and ratio of samples and of unseen patients, given which case or patient each is."""
    words = {
        "distance": ("distance to the nearest training slice", finding.definition[0].upper() + finding.definition[1:]),
        "ratio": (
            "ratio to the nearest other patient",
            "Distance to the nearest training slice as a share of the distance to the nearest slice of any other "
            "training patient: near 1 for a new patient, near 0 for a copy (Lowe 2004; compare Carlini et al. 2023, "
            "arXiv:2301.13188)",
        ),
    }
    figures = []
    for name, (label, definition) in words.items():
        own, floor = (
            _median(getattr(one, name), owner, seed) for one, owner in zip((found, real), owners, strict=True)
        )
        if own is not None and floor is not None:
            figures.append(
                Figure(
                    name=f"{finding.space}_nearest_{name}",
                    label=f"{finding.label}: median {label}",
                    estimate=own,
                    floor=floor,
                    better="floor",
                    definition=f"{definition}.",
                    space=finding.space,
                )
            )
    return tuple(figures)


def _median(values: np.ndarray, owner: np.ndarray, seed: int) -> Estimate | None:
    known = np.isfinite(values)
    return median(values[known], Units.of_patients(owner[known]), seed=seed) if known.any() else None


def _plain(values: np.ndarray) -> list[float]:
    """Return values that JSON knows, -1 for infinity."""
    return [round(float(value), 6) if value < _INFINITE else -1.0 for value in values]
