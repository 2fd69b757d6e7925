"""How alike two sets of slices are, by their features or pixel by pixel: Fréchet distance, KID, precision, MS-SSIM.

`frechet_distance`, `kid`, `precision_recall`, `density_coverage` and `ms_ssim` take plain arrays and return floats;
estimates have a 95 % interval as well, for which patients and cases are resampled.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

from synthmed.errors import UserError
from synthmed.evaluation.distances import blocks, centred, neighbour_radii, squared_distances
from synthmed.evaluation.resampling import RESAMPLES, Units, interval, paired_weights
from synthmed.evaluation.result import Estimate

USUAL_DIMENSION = 128
"""Up to so many features the interval is from all resamples; of more, whose roots take longer, from fewer."""
FEWEST_RESAMPLES = 10
MOST_SUMS = 10_000_000
"""Products of features are summed by unit up to so many numbers; of more, each resample sums anew."""
RECALL_NEIGHBOURS = 3
"""The neighbour that balls reach to in precision and recall, as in their paper."""
COVERAGE_NEIGHBOURS = 5
"""The same of density and coverage."""
WINDOW, SIGMA = 11, 1.5
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""What each scale counts, the finest first (Wang et al. 2003, section 3.2)."""
INTENSITY_RANGE = 2.0
SIMILARITY_PAIRS = 1000


def frechet_distance(first: NDArray, second: NDArray) -> float:
    """Return the squared Fréchet distance of Gaussians fitted to two sets (Heusel et al. 2017, arXiv:1706.08500).

    `|m1 - m2|^2 + tr(C1) + tr(C2) - 2 tr((C1 C2)^(1/2))`. With `C = F' F`, the last trace is the sum of the singular
    values of `F1 F2'`, so no root of a singular matrix is taken where there are fewer samples than features.

    Args:
        first: `(n, features)`, n at least 2.
        second: `(m, features)`.
    """
    return float(_frechet_distances(_moments(first), _moments(second))[0])


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
        resampled.extend(_frechet_distances(*pair))
    return interval(frechet_distance(drawn, real), resampled, lowest=0.0)


def _moments(features: NDArray) -> tuple[NDArray, NDArray]:
    """Return the mean and a factor F `[min(n, features), features]` of the covariance `F' F`, one resample long."""
    features = np.asarray(features, np.float64)
    mean = features.mean(axis=0)
    rows = (features - mean) / np.sqrt(len(features) - 1.0)
    return mean[None], (rows if len(rows) <= rows.shape[1] else _covariance_root(rows.T @ rows))[None]


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
    offsets = features - middle
    means = weights @ units.sums(offsets) / total[:, None]
    if units.count * dimension**2 <= MOST_SUMS:
        owned = [units.owner == unit for unit in range(units.count)]
        products = np.stack([offsets[own].T @ offsets[own] for own in owned])
        second = (weights @ products.reshape(units.count, -1)).reshape(-1, dimension, dimension)
    else:
        second = np.stack([(offsets * one[units.owner, None]).T @ offsets for one in weights])
    second -= total[:, None, None] * means[:, :, None] * means[:, None, :]
    # Resamples of a single slice have no spread; the figure itself always has two slices or more.
    return means + middle, _covariance_root(second / np.maximum(total - 1.0, 1.0)[:, None, None])


def _covariance_root(covariance: NDArray) -> NDArray:
    """Return F with `F' F` the covariance `[..., features, features]`."""
    values, vectors = np.linalg.eigh(covariance)
    return np.sqrt(np.maximum(values, 0.0))[..., None] * np.swapaxes(vectors, -1, -2)


def _frechet_distances(first: tuple[NDArray, NDArray], second: tuple[NDArray, NDArray]) -> NDArray[np.float64]:
    (mean, factor), (other_mean, other_factor) = first, second
    shared = np.linalg.svd(factor @ np.swapaxes(other_factor, -1, -2), compute_uv=False).sum(axis=-1)
    apart = ((mean - other_mean) ** 2).sum(axis=-1)
    spread = (factor**2).sum(axis=(-2, -1)) + (other_factor**2).sum(axis=(-2, -1))
    # Rounding may leave a little less than nothing between equal sets.
    return np.maximum(apart + spread - 2.0 * shared, 0.0)


def kid_estimate(drawn: NDArray, real: NDArray, *, drawn_units: Units, real_units: Units, seed: int = 0) -> Estimate:
    """Return the unbiased squared maximum mean discrepancy with kernel `(x y / features + 1)^3`, and its interval.

    KID (Bińkowski et al. 2018, arXiv:1801.01401, section 4). It can be a little below 0, and its expectation does not
    depend on the number of samples. All pairs are used; the every resample follows from the
    sums of the kernel over pairs of units.

    Args:
        drawn: `(n, features)`, n at least 2.
        real: `(m, features)`.
        drawn_units: What of `drawn` is resampled as a whole.
        real_units: The same of `real`.
        seed: Of the resampling.
    """
    drawn, real = np.asarray(drawn, np.float32), np.asarray(real, np.float32)
    own = _kernel_sums(drawn, drawn_units, drawn, drawn_units) - np.diag(_self_sums(drawn, drawn_units))
    other = _kernel_sums(real, real_units, real, real_units) - np.diag(_self_sums(real, real_units))
    mixed = _kernel_sums(drawn, drawn_units, real, real_units)
    sizes = drawn_units.sizes, real_units.sizes

    def discrepancy(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
        among = _mean_of_pairs(first, own, sizes[0]) + _mean_of_pairs(second, other, sizes[1])
        between = np.einsum("bi,ij,bj->b", first, mixed, second, optimize=True)
        return among - 2.0 * between / ((first @ sizes[0]) * (second @ sizes[1]))

    value = discrepancy(np.ones((1, drawn_units.count)), np.ones((1, real_units.count)))[0]
    return interval(float(value), discrepancy(*paired_weights(drawn_units, real_units, seed=seed)))


def kid(drawn: NDArray, real: NDArray) -> float:
    """Return the kernel distance (KID) of features `(n, features)` and `(m, features)`; see `kid_estimate`.

    Raises:
        UserError: If a set has fewer than 2 rows, or the two have other features.
    """
    own, other = _together(drawn, real, least=2)
    return kid_estimate(drawn, real, drawn_units=own, real_units=other).value


def precision_recall(drawn: NDArray, real: NDArray) -> tuple[float, float]:
    """Return precision and recall of features `(n, features)` and `(m, features)`; see `manifold_estimates`.

    Raises:
        UserError: If a set has fewer than 6 rows, or the two have other features.
    """
    own, other = _together(drawn, real, least=COVERAGE_NEIGHBOURS + 1)
    found = manifold_estimates(drawn, real, drawn_units=own, real_units=other)
    return found["precision"].value, found["recall"].value


def density_coverage(drawn: NDArray, real: NDArray) -> tuple[float, float]:
    """Return density and coverage of features `(n, features)` and `(m, features)`; see `manifold_estimates`.

    Raises:
        UserError: If a set has fewer than 6 rows, or the two have other features.
    """
    own, other = _together(drawn, real, least=COVERAGE_NEIGHBOURS + 1)
    found = manifold_estimates(drawn, real, drawn_units=own, real_units=other)
    return found["density"].value, found["coverage"].value


def _together(drawn: NDArray, real: NDArray, *, least: int) -> tuple[Units, Units]:
    """Return the slices of each set as one unit, of which there is nothing to resample."""
    shapes = np.shape(drawn), np.shape(real)
    if any(len(shape) != 2 or shape[0] < least for shape in shapes) or shapes[0][1] != shapes[1][1]:
        raise UserError(
            f"features have shapes {shapes[0]} and {shapes[1]}: give (n, d) and (m, d), from {least} rows on"
        )
    first, second = (Units(np.zeros(shape[0], np.int64), 1) for shape in shapes)
    return first, second


def _mean_of_pairs(weights: NDArray, sums: NDArray, sizes: NDArray) -> NDArray[np.float64]:
    """Return the mean over pairs of different slices; a slice and its own copy in a resample are no pair."""
    pairs = (weights @ sizes) ** 2 - weights**2 @ sizes
    total = np.einsum("bi,ij,bj->b", weights, sums, weights, optimize=True)
    return np.divide(total, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)


def _kernel_sums(
    first: NDArray[np.float32], first_units: Units, second: NDArray[np.float32], second_units: Units
) -> NDArray[np.float64]:
    """Return the sums of the kernel between the slices of every two units, `[units, units]`."""
    order, starts = second_units.order()
    columns = np.ascontiguousarray(second[order].T) / np.float32(first.shape[1])
    sums = np.zeros((first_units.count, second_units.count))
    for block in blocks(len(first)):
        kernel = first[block] @ columns
        kernel += 1.0
        # Powers of an array of 10,000 columns: a product costs a fiftieth of `** 3`.
        kernel *= kernel * kernel
        np.add.at(sums, first_units.owner[block], np.add.reduceat(kernel, starts, axis=1))
    return sums


def _self_sums(features: NDArray[np.float32], units: Units) -> NDArray[np.float64]:
    lengths = np.einsum("ij,ij->i", features, features, dtype=np.float64) / features.shape[1]
    return units.sums((lengths + 1.0) ** 3)


@dataclass(frozen=True)
class _Hits:
    """Who lies in whose balls, by the units of the other side.

    Attributes:
        precise: Whether a sample lies in a ball of a slice of each real unit, bool `[n, real units]`.
        dense: In how many it lies, `[n, real units]`.
        recalled: Whether a real slice lies in a ball of a sample of each unit, bool `[m, drawn units]`.
        covered: Whether its own ball holds a sample of each unit, bool `[m, drawn units]`.
    """

    precise: NDArray[np.bool_]
    dense: NDArray[np.int32]
    recalled: NDArray[np.bool_]
    covered: NDArray[np.bool_]


def manifold_estimates(
    drawn: NDArray, real: NDArray, *, drawn_units: Units, real_units: Units, seed: int = 0
) -> dict[str, Estimate]:
    """Return "precision", "recall" (Kynkäänniemi 2019, arXiv:1904.06991), "density", "coverage" (Naeem 2020).

    Precision is the share of samples within a ball around a real slice that reaches to its third nearest real one;
    recall the share of real slices within such a ball around a sample. Density (arXiv:2002.09797) is the mean number of
    balls around real slices, to the fifth nearest, that a sample lies in, divided by 5: it can be above 1; coverage is
    the share of real slices with a sample in their ball. Intervals are over the units of both sets: a unit that is not
    drawn takes its balls with it, the others keep theirs.

    Args:
        drawn: `(n, features)`, more than `COVERAGE_NEIGHBOURS` of them.
        real: `(m, features)`, likewise.
        drawn_units: What of `drawn` is resampled as a whole.
        real_units: The same of `real`.
        seed: Of the resampling.
    """
    real, drawn = centred(real, drawn)
    hits = _hits(drawn, drawn_units, real, real_units)
    own, other = paired_weights(drawn_units, real_units, seed=seed)
    samples, slices = own[:, drawn_units.owner], other[:, real_units.owner]

    def density(weights: NDArray, balls: NDArray, slice_weights: NDArray) -> NDArray:
        found = balls @ hits.dense.T.astype(np.float32)
        totals = weights.sum(1) * slice_weights.sum(1) / len(real)
        return (weights * found).sum(1) / (COVERAGE_NEIGHBOURS * totals)

    once = np.ones((1, len(drawn))), np.ones((1, real_units.count)), np.ones((1, len(real)))
    return {
        "precision": _share_hit(hits.precise, samples, other),
        "recall": _share_hit(hits.recalled, slices, own),
        "density": interval(float(density(*once)[0]), density(samples, other, slices), lowest=0.0),
        "coverage": _share_hit(hits.covered, slices, own),
    }


def _share_hit(hits: NDArray[np.bool_], weights: NDArray, other: NDArray) -> Estimate:
    """Return the share of items that are hit by any unit.

    Args:
        hits: `[items, units]` of the other side.
        weights: Of the items, `[resamples, items]`.
        other: Of the units, `[resamples, units]`.
    """
    present = (other > 0).astype(np.float32) @ hits.T.astype(np.float32) > 0
    resampled = (weights * present).sum(1) / weights.sum(1)
    return interval(float(hits.any(axis=1).mean()), resampled, lowest=0.0, highest=1.0)


def _hits(drawn: NDArray[np.float32], drawn_units: Units, real: NDArray[np.float32], real_units: Units) -> _Hits:
    ks = RECALL_NEIGHBOURS, COVERAGE_NEIGHBOURS
    own_radii = neighbour_radii(drawn, ks)[0]
    order, starts = real_units.order()
    real = real[order]
    small, large = neighbour_radii(real, ks)
    precise = np.zeros((len(drawn), real_units.count), bool)
    dense = np.zeros((len(drawn), real_units.count), np.int32)
    recalled, covered = (np.zeros((len(real), drawn_units.count), bool) for _ in range(2))
    for unit in range(drawn_units.count):
        members = np.flatnonzero(drawn_units.owner == unit)
        for block in blocks(len(members)):
            rows = members[block]
            found = squared_distances(drawn[rows], real, slack=True)
            precise[rows] = np.logical_or.reduceat(found <= small, starts, axis=1)
            within = found <= large
            dense[rows] = np.add.reduceat(within, starts, axis=1, dtype=np.int32)
            covered[:, unit] |= within.any(axis=0)
            recalled[:, unit] |= (found <= own_radii[rows, None]).any(axis=0)
    back = np.argsort(order)
    return _Hits(precise=precise, dense=dense, recalled=recalled[back], covered=covered[back])


def scales_for(size: tuple[int, int]) -> int:
    """Return at how many scales slices of a size are compared: up to five, while the window fits in."""
    scales = 1
    while scales < len(SCALE_WEIGHTS) and min(size) // 2**scales >= WINDOW:
        scales += 1
    return scales


def ms_ssim(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the similarity of each slice of one set with that of the other, `[n]` in 0..1, 1 for equal ones.

    MS-SSIM (Wang, Simoncelli and Bovik 2003, Asilomar), with a Gaussian window of 11 pixels that lies in the slice
    everywhere, contrast below 0 taken as 0, and the mean over channels. Small slices have fewer scales, whose weights
    are brought to a sum of 1, and below 11 pixels a smaller window: compare with slices of the same size alone.

    Args:
        first: `[n, H, W, C]` in [-1, 1].
        second: The same shape.
    """
    scales = scales_for(first.shape[1:3])
    weights = np.array(SCALE_WEIGHTS[:scales]) / sum(SCALE_WEIGHTS[:scales])
    found = np.ones((len(first), first.shape[3]))
    for scale, weight in enumerate(weights):
        if scale:
            first, second = _halved(first), _halved(second)
        whole, contrast = _similarity(first, second)
        found *= np.maximum(whole if scale == scales - 1 else contrast, 0.0) ** weight
    return found.mean(axis=1)


def ms_ssim_estimate(images: NDArray[np.float32], units: Units, *, seed: int = 0) -> Estimate | None:
    """Return the mean `ms_ssim` of random pairs of slices of different units; None where there is a single unit.

    Args:
        images: `[n, H, W, C]` in [-1, 1].
        units: Patients of real slices, whose neighbours are alike by nature; cases of synthetic ones.
        seed: Of pairs and of the resampling.
    """
    if units.count < 2:
        return None
    random = np.random.default_rng(seed)
    first, second = random.integers(0, len(images), (2, SIMILARITY_PAIRS * 4))
    apart = np.flatnonzero(units.owner[first] != units.owner[second])[:SIMILARITY_PAIRS]
    if not len(apart):
        return None
    first, second = first[apart], second[apart]
    found = np.concatenate([ms_ssim(images[first[block]], images[second[block]]) for block in blocks(len(first), 64)])
    weights = units.weights(random, RESAMPLES)
    counts = weights[:, units.owner[first]] * weights[:, units.owner[second]]
    totals = counts.sum(axis=1)
    resampled = np.divide(counts @ found, totals, out=np.full(len(counts), np.nan), where=totals > 0)
    return interval(float(found.mean()), resampled, lowest=0.0, highest=1.0)


def _similarity(first: NDArray, second: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the means over each slice of structural similarity and of its contrast and structure alone, `[n, C]`."""
    least, small = (0.01 * INTENSITY_RANGE) ** 2, (0.03 * INTENSITY_RANGE) ** 2
    mean, other = _windowed(first), _windowed(second)
    product, squares = mean * other, mean**2 + other**2
    contrast = (2.0 * (_windowed(first * second) - product) + small) / (
        _windowed(first * first) + _windowed(second * second) - squares + small
    )
    whole = (2.0 * product + least) / (squares + least) * contrast
    return whole.mean(axis=(1, 2), dtype=np.float64), contrast.mean(axis=(1, 2), dtype=np.float64)


def _windowed(images: NDArray) -> NDArray:
    """Return weighted means in windows that lie within the slice."""
    for axis in (1, 2):
        reach = (min(WINDOW, images.shape[axis]) - 1) // 2
        window = np.exp(-0.5 * (np.arange(-reach, reach + 1) / SIGMA) ** 2)
        inner = [slice(None)] * 4
        inner[axis] = slice(reach, images.shape[axis] - reach)
        images = correlate1d(images, window / window.sum(), axis=axis)[tuple(inner)]
    return images


def _halved(images: NDArray) -> NDArray:
    """Return means of 2 x 2 pixels; an odd side is continued by its last row or column."""
    odd = [(0, side % 2) for side in images.shape[1:3]]
    images = np.pad(images, [(0, 0), *odd, (0, 0)], mode="edge") if any(one for _, one in odd) else images
    count, height, width, channels = images.shape
    return images.reshape(count, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4))
