"""Histograms of intensities, and how far those of two sets are apart."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthmed.evaluation.figures import Estimate
from synthmed.evaluation.neighbours import blocks
from synthmed.evaluation.resampling import Units, interval, paired_weights

BINS = 256
EDGES = np.linspace(-1.0, 1.0, BINS + 1)
_BIN_WIDTH = 2.0 / BINS


@dataclass(frozen=True)
class HistogramFigures:
    """How far the intensities of one channel are apart.

    Attributes:
        wasserstein: Wasserstein-1 distance, in the unit of the intensities, whose range is [-1, 1].
        divergence: Jensen-Shannon divergence in bits, 0 to 1.
    """

    wasserstein: Estimate
    divergence: Estimate


def intensity_counts(images: NDArray[np.float32], units: Units) -> NDArray[np.float64]:
    """Return how many pixels of each unit fall into each bin, `[units, C, BINS]`; what is outside is at the ends.

    Args:
        images: `[n, H, W, C]`.
        units: Of the slices.
    """
    channels = images.shape[3]
    counts = np.zeros((units.count, channels, BINS))
    offsets = np.arange(channels) * BINS
    for unit in range(units.count):
        members = np.flatnonzero(units.owner == unit)
        for block in blocks(len(members), 128):
            places = ((images[members[block]] + 1.0) * (BINS / 2)).clip(0, BINS - 1).astype(np.int64) + offsets
            counts[unit] += np.bincount(places.ravel(), minlength=channels * BINS).reshape(channels, BINS)
    return counts


def histogram_figures(
    drawn: NDArray, real: NDArray, *, drawn_units: Units, real_units: Units, seed: int = 0
) -> list[HistogramFigures]:
    """Compare two sets channel by channel.

    Args:
        drawn: Of `intensity_counts`.
        real: Of `intensity_counts`.
        drawn_units: Of `drawn`.
        real_units: Of `real`.
        seed: Of the resampling.
    """
    own, other = paired_weights(drawn_units, real_units, seed=seed)
    # The first row is the data as they are.
    own, other = (np.concatenate([np.ones((1, part.shape[1])), part]) for part in (own, other))
    one, two = _shares(np.tensordot(own, drawn, axes=1)), _shares(np.tensordot(other, real, axes=1))
    apart = np.abs(np.cumsum(one - two, axis=2)).sum(axis=2) * _BIN_WIDTH
    middle = (one + two) / 2
    divergence = (_relative_entropy(one, middle) + _relative_entropy(two, middle)) / 2
    return [
        HistogramFigures(
            wasserstein=interval(float(apart[0, channel]), apart[1:, channel], lowest=0.0),
            divergence=interval(float(divergence[0, channel]), divergence[1:, channel], lowest=0.0, highest=1.0),
        )
        for channel in range(drawn.shape[1])
    ]


def _shares(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return counts / counts.sum(axis=2, keepdims=True)


def _relative_entropy(shares: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Kullback-Leibler divergence in bits over the last axis, `reference` above 0 where `shares` is."""
    ratio = np.divide(shares, reference, out=np.ones_like(shares), where=shares > 0)
    return (shares * np.log2(ratio)).sum(axis=-1)
