"""Intervals of distances between two sets of slices that come in groups: patients, or generated cases."""

import numpy as np
from numpy.typing import NDArray

from synthmed.evaluation.figures import Estimate

RESAMPLES = 200


def weights(groups: NDArray[np.int64], *, seed: int, resamples: int = RESAMPLES) -> NDArray[np.float64]:
    """Return how often each slice is drawn where whole groups are drawn with replacement, `[1 + resamples, n]`.

    The first row is the set as it is. Of g groups g - 1 are drawn, which keeps the variance unbiased where groups are
    few (Rao and Wu 1988, JASA 83, 231).

    Args:
        groups: Which group each slice belongs to, `[n]`.
        seed: Of the resampling.
        resamples: How many.
    """
    names, owner = np.unique(groups, return_inverse=True)
    drawn = np.random.default_rng(seed).multinomial(
        max(len(names) - 1, 1), np.full(len(names), 1.0 / len(names)), size=resamples
    )
    return np.concatenate([np.ones((1, len(groups))), drawn[:, owner]])


def estimate(values: NDArray[np.float64]) -> Estimate:
    """Return a distance with its 95 % interval.

    Two resamples lie further apart than the two sets do, by what each lost in the draw: their median is brought to
    the distance itself, so that the interval tells the spread and not that shift. No distance is below 0.

    Args:
        values: `[1 + resamples]`: the distance first, then those of resamples, NaN where one could not be measured.
    """
    value, others = float(values[0]), values[1:][np.isfinite(values[1:])]
    if len(others) < 2:
        return Estimate(value=value)
    low, high = np.percentile(others - np.median(others) + value, (2.5, 97.5))
    return Estimate(value=value, low=float(max(low, 0.0)), high=float(high))


def wasserstein(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    first_weights: NDArray[np.float64],
    second_weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the Wasserstein-1 distance of two weighted samples, `[resamples]`, for many weights at once.

    It is the area between their distribution functions (Vallender 1974). NaN where all weights of a sample are 0.

    Args:
        first: `[n]`.
        second: `[m]`.
        first_weights: `[resamples, n]`.
        second_weights: `[resamples, m]`.
    """
    values = np.concatenate([first, second])
    order = np.argsort(values, kind="stable")
    with np.errstate(invalid="ignore", divide="ignore"):
        signed = np.concatenate(
            [
                first_weights / first_weights.sum(axis=1, keepdims=True),
                -second_weights / second_weights.sum(axis=1, keepdims=True),
            ],
            axis=1,
        )
    return np.abs(np.cumsum(signed[:, order], axis=1)[:, :-1]) @ np.diff(values[order])
