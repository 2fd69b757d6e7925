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

from synthmed.evaluation.memorisation.spaces import Nearest

NEAR_SHARE = 0.01
"""Share of real slices of unseen patients that count as near."""
COPY_FACTOR = 0.5
"""A sample is a copy where its ratio is below this share of the ratio that makes a slice near."""
COPY_FACTOR_OF_DISTANCE = 0.25
"""The same of the distance, where there is one training patient and so no ratio."""
RESAMPLES = 2000

Flags = NDArray[np.bool_]


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
    """Return what share of near slices unseen patients have, each judged by the others.

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
