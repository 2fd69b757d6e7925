"""The Fréchet distance of two sets of features."""

import numpy as np
from numpy.typing import NDArray

from synthmed.evaluation.figures import Estimate
from synthmed.evaluation.resampling import RESAMPLES, Units, interval, paired_weights

USUAL_DIMENSION = 128
"""Up to so many features the interval is from all resamples; of more, whose roots take longer, from fewer."""
FEWEST_RESAMPLES = 10
MOST_SUMS = 10_000_000
"""Products of features are kept by unit up to so many numbers; of more, each resample sums anew."""


def frechet_distance(first: NDArray, second: NDArray) -> float:
    """Return the squared Fréchet distance of Gaussians fitted to two sets (Heusel et al. 2017, arXiv:1706.08500).

    `|m1 - m2|^2 + tr(C1) + tr(C2) - 2 tr((C1 C2)^(1/2))`. With `C = F' F`, the last trace is the sum of the singular
    values of `F1 F2'`, so no root of a singular matrix is taken where there are fewer samples than features.

    Args:
        first: `(n, features)`, n at least 2.
        second: `(m, features)`.
    """
    return float(_distances(_moments(first), _moments(second))[0])


def frechet_estimate(
    drawn: NDArray, real: NDArray, *, drawn_units: Units, real_units: Units, seed: int = 0
) -> Estimate:
    """Return the distance of `frechet_distance` with an interval over the units of both sets.

    Args:
        drawn: `(n, features)`.
        real: `(m, features)`.
        drawn_units: What of `drawn` is resampled as a whole.
        real_units: The same of `real`.
        seed: Of the resampling.
    """
    drawn, real = np.asarray(drawn, np.float64), np.asarray(real, np.float64)
    dimension = drawn.shape[1]
    fewer = int(RESAMPLES * (USUAL_DIMENSION / dimension) ** 2)
    resamples = min(max(fewer, FEWEST_RESAMPLES), RESAMPLES)
    own, other = paired_weights(drawn_units, real_units, seed=seed, resamples=resamples)
    # So many resamples at once that their covariances take some dozen MiB.
    together = max(1, 2_000_000 // dimension**2)
    resampled: list[float] = []
    for first in range(0, len(own), together):
        pair = (
            _resampled_moments(features, units, weights[first : first + together])
            for features, units, weights in ((drawn, drawn_units, own), (real, real_units, other))
        )
        resampled.extend(_distances(*pair))
    return interval(frechet_distance(drawn, real), resampled, lowest=0.0)


def _moments(features: NDArray) -> tuple[NDArray, NDArray]:
    """Return the mean and a factor F `[min(n, features), features]` of the covariance `F' F`, one resample long."""
    features = np.asarray(features, np.float64)
    mean = features.mean(axis=0)
    rows = (features - mean) / np.sqrt(len(features) - 1.0)
    return mean[None], (rows if len(rows) <= rows.shape[1] else _root(rows.T @ rows))[None]


def _resampled_moments(features: NDArray, units: Units, weights: NDArray) -> tuple[NDArray, NDArray]:
    """Return the means and factors of each resample, `[resamples, ...]`.

    Args:
        features: `[n, features]`.
        units: Of the features.
        weights: `[resamples, units]`.
    """
    dimension = features.shape[1]
    total = weights @ units.sizes
    # Less the mean of all, or rounding would count where it is large.
    middle = features.mean(axis=0)
    centred = features - middle
    means = weights @ units.sums(centred) / total[:, None]
    if units.count * dimension**2 <= MOST_SUMS:
        products = np.stack(
            [centred[units.owner == unit].T @ centred[units.owner == unit] for unit in range(units.count)]
        )
        second = (weights @ products.reshape(units.count, -1)).reshape(-1, dimension, dimension)
    else:
        second = np.stack([(centred * one[units.owner, None]).T @ centred for one in weights])
    second -= total[:, None, None] * means[:, :, None] * means[:, None, :]
    # Resamples of a single slice have no spread; the figure itself always has two slices or more.
    return means + middle, _root(second / np.maximum(total - 1.0, 1.0)[:, None, None])


def _root(covariance: NDArray) -> NDArray:
    """Return F with `F' F` the covariance `[..., features, features]`."""
    values, vectors = np.linalg.eigh(covariance)
    return np.sqrt(np.maximum(values, 0.0))[..., None] * np.swapaxes(vectors, -1, -2)


def _distances(first: tuple[NDArray, NDArray], second: tuple[NDArray, NDArray]) -> NDArray[np.float64]:
    (mean, factor), (other_mean, other_factor) = first, second
    shared = np.linalg.svd(factor @ np.swapaxes(other_factor, -1, -2), compute_uv=False).sum(axis=-1)
    apart = ((mean - other_mean) ** 2).sum(axis=-1)
    spread = (factor**2).sum(axis=(-2, -1)) + (other_factor**2).sum(axis=(-2, -1))
    # Rounding may leave a little less than nothing between equal sets.
    return np.maximum(apart + spread - 2.0 * shared, 0.0)
