"""The kernel distance (KID) of two sets of features."""

import numpy as np
from numpy.typing import NDArray

from synthmed.evaluation.figures import Estimate
from synthmed.evaluation.neighbours import blocks
from synthmed.evaluation.resampling import Units, interval, paired_weights


def kernel_distance(drawn: NDArray, real: NDArray, *, drawn_units: Units, real_units: Units, seed: int = 0) -> Estimate:
    """Return the unbiased squared maximum mean discrepancy with kernel `(x y / features + 1)^3`, and its interval.

    KID (Bińkowski et al. 2018, arXiv:1801.01401, section 4). It can be a little below 0, and its expectation does not
    depend on the number of samples. All pairs are used; the sums of the kernel over pairs of units are kept, from
    which every resample follows.

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
