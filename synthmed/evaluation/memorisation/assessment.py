"""From distances to findings: how near slices of patients who were never seen come to the training slices.

Two things are calibrated: the distance to the nearest training slice, and the same as a share of the distance to the
nearest slice of any other training patient (Lowe 2004, IJCV 60, 91, for matching; for memorised images Carlini et al.
2023, arXiv:2301.13188, have a like ratio). The ratio is what finds copies. Smooth slices and small structures lie near
to training slices of every patient, so their ratio is about 1; a copy, even a noisy one, lies near to one alone.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from synthmed.evaluation.memorisation.search import Nearest, SearchSpace, SliceReader
from synthmed.evaluation.resampling import Units, median
from synthmed.evaluation.result import Estimate, Figure, Record

NEAR_SHARE = 0.01
"""Share of real slices of unseen patients that count as near."""
COPY_FACTOR = 0.5
"""A sample is a copy where its ratio is below this share of the ratio that makes a slice near."""
COPY_FACTOR_OF_DISTANCE = 0.25
"""The same of the distance, where there is one training patient and so no ratio."""
RESAMPLES = 2000
Flags = NDArray[np.bool_]
FEWEST_PATIENTS = 5
FEWEST_SLICES = 100
"""With fewer held-out patients or slices the training patients, each searched among the others, are asked as well."""
_INFINITE = 1e9


@dataclass(frozen=True)
class Thresholds:
    """Below which values a slice is near, and a copy.

    Attributes:
        distance: Distance below which a slice is near; 0 where the distance alone tells nothing.
        far: Distance above which half of `NEAR_SHARE` of the slices lie.
        ratio: Ratio below which a slice is near; None where there is no second training patient.
        copy_ratio: Ratio below which a slice is a copy.
        copy_distance: Distance below which a slice is a copy where there is no ratio.
    """

    distance: float
    far: float
    ratio: float | None
    copy_ratio: float | None
    copy_distance: float | None

    @classmethod
    def of(cls, real: Nearest, *, by_distance: bool = True) -> "Thresholds":
        """Fit on slices of patients who were never seen.

        Args:
            real: What was found for their slices.
            by_distance: Whether the distance alone calls a slice near; each of the two values then calls half of
                `NEAR_SHARE` so. Where there is no ratio it always does.
        """
        distances = real.distance[~real.empty]
        far = float(np.quantile(distances, 1 - NEAR_SHARE / 2)) if len(distances) else np.inf
        ratios = real.ratio
        ratios = ratios[np.isfinite(ratios)]
        if not len(ratios):
            distance = float(np.quantile(distances, NEAR_SHARE)) if len(distances) else 0.0
            return cls(distance, far, None, None, COPY_FACTOR_OF_DISTANCE * distance)
        part = NEAR_SHARE / 2 if by_distance else NEAR_SHARE
        ratio = float(np.quantile(ratios, part))
        return cls(float(np.quantile(distances, part)) if by_distance else 0.0, far, ratio, COPY_FACTOR * ratio, None)

    def near(self, found: Nearest) -> Flags:
        """Return which slices are nearer than unseen patients' usually are, bool `[n]`."""
        near = found.distance < self.distance
        return near if self.ratio is None else near | (found.ratio < self.ratio)

    def copies(self, found: Nearest) -> Flags:
        """Return which slices are nearer by far than any unseen patient's, bool `[n]`."""
        if self.copy_ratio is None:
            return found.distance < (self.copy_distance or 0.0)
        return found.ratio < self.copy_ratio


@dataclass(frozen=True)
class Expected:
    """Which share of an unseen patient's slices is near, by thresholds that were fitted without that patient.

    Attributes:
        share: The share.
        low: Lower end of its 95 % interval, by resampling patients.
        high: Upper end; at least twice `NEAR_SHARE`.
    """

    share: float
    low: float
    high: float


def expected_share(real: Nearest, patient: NDArray[np.int64], *, seed: int, by_distance: bool = True) -> Expected:
    """Return what share of near slices unseen patients have, each compared with the others.

    Args:
        real: What was found for their slices.
        patient: Of each slice, `[n]`.
        seed: Of the bootstrap.
        by_distance: See `Thresholds.of`.
    """
    patients = np.unique(patient)
    counts = []
    for one in patients:
        own = patient == one
        others = real.select(~own) if len(patients) > 1 else real
        near = Thresholds.of(others, by_distance=by_distance).near(real.select(own))
        counts.append((near.sum(), own.sum()))
    table = np.array(counts, np.float64)
    share = table[:, 0].sum() / table[:, 1].sum()
    drawn = np.random.default_rng(seed).integers(0, len(table), (RESAMPLES, len(table)))
    sums = table[drawn].sum(axis=1)
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [0.025, 0.975])
    return Expected(float(share), float(low), max(float(high), 2 * NEAR_SHARE))


def share_interval(count: int, total: int) -> tuple[float, float]:
    """Return the 95 % interval of a share by Clopper and Pearson (1934, Biometrika 26, 404)."""
    low = beta.ppf(0.025, count, total - count + 1) if count else 0.0
    high = beta.ppf(0.975, count + 1, total - count) if count < total else 1.0
    return float(low), float(high)


class Finding(Record):
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
        summary: Why, in a sentence.
    """

    old_keys = {"words": "summary"}

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
    summary: str


@dataclass(frozen=True)
class Assessment:
    """A finding and its figures."""

    finding: Finding
    figures: tuple[Figure, ...]


def assess_copies(
    space: SearchSpace, samples: SliceReader, training: SliceReader, held_out: SliceReader, *, seed: int = 0
) -> Assessment | None:
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
    found_any = ~real.empty
    real, patient = real.select(found_any), patient[found_any]
    expected = expected_share(real, patient, seed=seed, by_distance=not space.typical_is_near)
    near, copies = (flag(found) for flag in (thresholds.near, thresholds.copies))
    near = near | copies
    compared = int((~found.empty).sum())
    low, high = share_interval(int(near.sum()), compared) if compared else (0.0, 0.0)
    many = low > expected.high
    finding = Finding(
        space=space.name,
        label=space.label,
        definition=space.definition,
        near_distance=thresholds.distance,
        usual_distance=float(np.median(real.distance)),
        far_distance=thresholds.far,
        near_ratio=thresholds.ratio,
        copy_below=(thresholds.copy_distance or 0.0) if thresholds.copy_ratio is None else thresholds.copy_ratio,
        nearest=found.index.tolist(),
        distance=_plain(found.distance),
        ratio=_plain(found.ratio),
        near=near.tolist(),
        copies=copies.tolist(),
        expected=Estimate(value=expected.share, low=expected.low, high=expected.high),
        compared=compared,
        passed=not (copies.any() or many),
        summary=_finding_summary(space, int(copies.sum()), int(near.sum()), compared, expected, low, many),
    )
    medians = _medians(finding, found, real, (samples.patient, patient), seed)
    return Assessment(finding, (*_figures(finding, (low, high)), *medians))


def _unseen(space: SearchSpace, training: SliceReader, held_out: SliceReader) -> tuple[Nearest | None, np.ndarray]:
    """Return what is found for slices of patients whom the references do not hold, and their patients."""
    parts: list[tuple[Nearest, np.ndarray]] = []
    if len(held_out):
        parts.append((space.nearest(held_out, training), held_out.patient))
    patients = len(np.unique(held_out.patient))
    compared = sum(int((~found.empty).sum()) for found, _ in parts)
    if (patients < FEWEST_PATIENTS or compared < FEWEST_SLICES) and len(np.unique(training.patient)) > 1:
        every = max(1, len(training) // 500)
        asked = training.take(np.arange(0, len(training), every))
        parts.append((space.nearest(asked, training, leave_own_out=True), asked.patient + 1 + patients))
    if not any((~found.empty).any() for found, _ in parts):
        return None, np.empty(0, np.int64)
    joined = Nearest.joined([found for found, _ in parts])
    return joined, np.concatenate([patient for _, patient in parts])


def _finding_summary(
    space: SearchSpace, copies: int, near: int, compared: int, expected: Expected, low: float, many: bool
) -> str:
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
        return (
            f"{what}: {share} of unseen patients are, at least {low:.1%} where chance gives up to {expected.high:.1%}"
        )
    # A share above what chance gives passes where the interval of so few samples reaches down to it.
    surely = f" (surely at least {low:.1%})" if near / compared > expected.high else ""
    return f"{what}: no copy, and {share} of unseen patients are{surely}, where chance gives up to {expected.high:.1%}"


def _figures(finding: Finding, interval: tuple[float, float]) -> tuple[Figure, ...]:
    if not finding.compared:
        return ()
    warning = "" if finding.compared >= 100 else f"{finding.compared} samples are few: copies may be missed"
    return (
        Figure(
            name=f"{finding.space}_copies",
            label=f"{finding.label}: copies",
            estimate=Estimate(value=float(sum(finding.copies))),
            real_baseline=Estimate(value=0.0),
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
            real_baseline=finding.expected,
            better="lower",
            definition="Share of samples that are as near to a training slice, or as much nearer to it than to any "
            "other patient's, as 1 % of unseen patients' slices are. The real baseline is the share of such slices of "
            "each unseen patient, by thresholds fitted on the others.",
            space=finding.space,
            warning=warning,
        ),
    )


def _medians(
    finding: Finding, found: Nearest, real: Nearest, owners: tuple[np.ndarray, np.ndarray], seed: int
) -> tuple[Figure, ...]:
    """Return the median distance and ratio of samples and of unseen patients, given which case or patient each is."""
    quantities = {
        "distance": ("distance to the nearest training slice", finding.definition[0].upper() + finding.definition[1:]),
        "ratio": (
            "ratio to the nearest other patient",
            "Distance to the nearest training slice as a share of the distance to the nearest slice of any other "
            "training patient: near 1 for a new patient, near 0 for a copy (Lowe 2004; compare Carlini et al. 2023, "
            "arXiv:2301.13188)",
        ),
    }
    figures = []
    for name, (label, definition) in quantities.items():
        own, real_baseline = (
            _median(getattr(one, name), owner, seed) for one, owner in zip((found, real), owners, strict=True)
        )
        if own is not None and real_baseline is not None:
            figures.append(
                Figure(
                    name=f"{finding.space}_nearest_{name}",
                    label=f"{finding.label}: median {label}",
                    estimate=own,
                    real_baseline=real_baseline,
                    better="real_baseline",
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
