"""Intervals of figures that compare two sets of slices: patients are resampled where slices are real, else cases.

Slices of one patient are alike, so resampling them one by one would give intervals that are far too narrow. Of n units
n - 1 are drawn with replacement (Rao and Wu 1988, JASA 83, 231: the variance is then unbiased). The interval is the
figure plus and minus 1.96 standard errors and not the resamples' own quantiles: a repeated slice is a nearest
neighbour to itself and narrows a covariance, so every resample of a distance lies above it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synthmed.evaluation.result import Estimate

RESAMPLES = 100
MOST_BLOCKS = 100
"""Cases, and patients where there are more, are resampled in so many random blocks, exchangeable as they are."""
WIDTH = 1.96


@dataclass(frozen=True)
class Units:
    """What is resampled as a whole.

    Attributes:
        owner: Number of the unit of each of `n` slices, int64 `[n]`; every number below `count` occurs.
        count: How many units there are.
    """

    owner: NDArray[np.int64]
    count: int

    @classmethod
    def of_patients(cls, patients: Sequence[str] | NDArray) -> "Units":
        """Return a unit for each patient, or for each random block of them, given whose each slice is."""
        names, owner = np.unique(np.asarray(patients), return_inverse=True)
        blocks = cls.of_cases(len(names), seed=0)
        return cls(blocks.owner[owner] if len(names) > MOST_BLOCKS else owner.astype(np.int64), blocks.count)

    @classmethod
    def of_cases(cls, cases: int, *, seed: int) -> "Units":
        """Return random blocks of independent cases: one each, or `MOST_BLOCKS` of nearly equal size."""
        count = min(cases, MOST_BLOCKS)
        return cls(np.random.default_rng(seed).permutation(cases).astype(np.int64) % count, count)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """How many slices each unit has, `[count]`."""
        return np.bincount(self.owner, minlength=self.count)

    def order(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the order that brings each unit's slices together, `[n]`, and where each unit starts, `[count]`."""
        return np.argsort(self.owner, kind="stable"), np.concatenate([[0], np.cumsum(self.sizes)[:-1]])

    def sums(self, values: NDArray) -> NDArray[np.float64]:
        """Return the sums of `values` `[n, ...]` over the slices of each unit, `[count, ...]`."""
        order, starts = self.order()
        return np.add.reduceat(values[order], starts, axis=0, dtype=np.float64)

    def weights(self, random: np.random.Generator, resamples: int) -> NDArray[np.float64]:
        """Return how often each unit is drawn, `[resamples, count]`; a single unit is always there."""
        if self.count == 1:
            return np.ones((resamples, 1))
        shares = np.full(self.count, 1.0 / self.count)
        return random.multinomial(self.count - 1, shares, size=resamples).astype(np.float64)

    def slice_weights(self, *, seed: int, resamples: int = RESAMPLES) -> NDArray[np.float64]:
        """Return how often each slice is there, `[1 + resamples, n]`: first once each, then in every resample."""
        drawn = self.weights(np.random.default_rng(seed), resamples)[:, self.owner]
        return np.concatenate([np.ones((1, len(self.owner))), drawn])


def paired_weights(
    first: Units, second: Units, *, seed: int, resamples: int = RESAMPLES
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return weights `[resamples, count]` of both, drawn independently; no resamples where both are a single unit."""
    random = np.random.default_rng(seed)
    resamples = 0 if first.count == second.count == 1 else resamples
    return first.weights(random, resamples), second.weights(random, resamples)


def weights_with_original(first: Units, second: Units, *, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the `paired_weights` of both under a first row of ones, which stands for the data as they are."""
    own, other = paired_weights(first, second, seed=seed)
    return np.vstack([np.ones(first.count), own]), np.vstack([np.ones(second.count), other])


def interval(
    value: float, resampled: ArrayLike, *, lowest: float | None = None, highest: float | None = None
) -> Estimate:
    """Return a figure with its 95 % interval, which ends at the figure's own limits.

    Args:
        value: Of the data as they are.
        resampled: Of the resamples `[resamples]`; those that are not finite are left out.
        lowest: What the figure cannot be below.
        highest: What it cannot be above.
    """
    found = np.asarray(resampled, np.float64)
    found = found[np.isfinite(found)]
    if len(found) < 2:
        return Estimate(value=value)
    reach = WIDTH * float(found.std(ddof=1))
    low = value - reach if lowest is None else max(value - reach, min(lowest, value))
    high = value + reach if highest is None else min(value + reach, max(highest, value))
    return Estimate(value=value, low=low, high=high)


def mean(values: NDArray[np.float64], units: Units, *, seed: int) -> Estimate:
    """Return the mean of values `[n]` of slices with its interval, which ends at the least and greatest value."""
    weights = units.slice_weights(seed=seed, resamples=RESAMPLES if units.count > 1 else 0)
    means = weights @ values / weights.sum(axis=1)
    return interval(float(means[0]), means[1:], lowest=float(values.min()), highest=float(values.max()))


def median(values: NDArray[np.float64], units: Units, *, seed: int) -> Estimate:
    """Return the median of values `[n]` of slices with its interval, which ends at the least and greatest value."""
    order = np.argsort(values, kind="stable")
    weights = units.slice_weights(seed=seed, resamples=RESAMPLES if units.count > 1 else 0)[1:, order]
    below = np.cumsum(weights, axis=1)
    middles = values[order][(below >= below[:, -1:] / 2).argmax(axis=1)]
    lowest, highest = float(values.min()), float(values.max())
    return interval(float(np.median(values)), middles, lowest=lowest, highest=highest)
