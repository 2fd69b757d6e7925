"""The sliced Wasserstein distance of patches at each level of a Laplacian pyramid, with intervals.

What Karras et al. 2018 (arXiv:1710.10196, section 5) compare, and what `synthmed.training.distance` follows a training
with: fine levels see texture and blur, coarse ones the anatomy. Here the projected patches of each unit are counted in
bins, so that the distance of every resample follows from sums of counts.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthmed.evaluation.figures import Estimate
from synthmed.evaluation.neighbours import blocks
from synthmed.evaluation.resampling import Units, interval, paired_weights
from synthmed.training.distance import PATCH, laplacian_pyramid

PATCHES_A_SLICE = 16
DIRECTIONS = 64
BINS = 512
REACH = 8.0
"""Bins reach so many standard deviations of the training slices to either side; what is beyond counts as at the end."""
_SLICES_FOR_SCALE = 1000
_BLOCK = 128
# Of a plane that is flat in all training slices, whose deviation of 0 gives no scale; in units of [-1, 1].
_LEAST_DEVIATION = 1e-3


@dataclass(frozen=True)
class _Level:
    """How patches of a level become projections of about mean 0 and deviation 1 over the training slices.

    Attributes:
        side: The level's smaller side.
        directions: Unit vectors over their planes' deviations, `[features, directions]`.
        centre: Mean of each projection over the training slices, `[directions]`.
        width: Standard deviation of each projection over them, `[directions]`.
    """

    side: int
    directions: NDArray[np.float32]
    centre: NDArray[np.float32]
    width: NDArray[np.float32]


class PatchDistance:
    """Measures distances of sets in standard deviations of the training slices.

    Args:
        training: Slices that the scale is taken from, `[n, H, W, C]`.
        seed: Of directions and of the places of patches.
    """

    def __init__(self, training: NDArray[np.float32], *, seed: int = 0):
        self.seed = seed
        chosen = training[np.linspace(0, len(training) - 1, min(len(training), _SLICES_FOR_SCALE)).astype(int)]
        bands = laplacian_pyramid(chosen)
        random = np.random.default_rng(seed)
        self.levels = [_fit_level(band, random) for band in bands]

    def counts(self, images: NDArray[np.float32], units: Units) -> list[NDArray[np.float64]]:
        """Return for each level how many patches of each unit fall into each bin, `[units, directions, bins]`."""
        found = [np.zeros((units.count, DIRECTIONS, BINS)) for _ in self.levels]
        random = np.random.default_rng(self.seed)
        for unit in range(units.count):
            members = np.flatnonzero(units.owner == unit)
            for block in blocks(len(members), _BLOCK):
                bands = laplacian_pyramid(images[members[block]])
                for total, level, band in zip(found, self.levels, bands, strict=True):
                    total[unit] += _binned(level, band, random)
        return found

    def distances(
        self, first: list[NDArray], second: list[NDArray], *, first_units: Units, second_units: Units
    ) -> dict[str, Estimate]:
        """Return the distance at each level, by its smaller side ("64", "32", ...), and their mean as "mean".

        Args:
            first: Of `counts`.
            second: Of `counts`.
            first_units: Of `first`.
            second_units: Of `second`.
        """
        own, other = paired_weights(first_units, second_units, seed=self.seed)
        # The first row is the data as they are.
        own, other = (np.concatenate([np.ones((1, part.shape[1])), part]) for part in (own, other))
        rows = {}
        for level, one, two in zip(self.levels, first, second, strict=True):
            curves = _cumulative(one, own), _cumulative(two, other)
            rows[str(level.side)] = (np.abs(curves[0] - curves[1]).mean(axis=2) * 2 * REACH * level.width).mean(axis=1)
        rows["mean"] = np.mean(list(rows.values()), axis=0)
        return {name: interval(float(row[0]), row[1:], lowest=0.0) for name, row in rows.items()}


def _fit_level(band: NDArray[np.float32], random: np.random.Generator) -> _Level:
    deviation = np.maximum(band.std(axis=(0, 1, 2)), _LEAST_DEVIATION)
    features = PATCH * PATCH * band.shape[3]
    directions = random.standard_normal((features, DIRECTIONS)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=0)
    # Patches are (channel, row, column), as windows of a slice come.
    directions /= np.repeat(deviation, PATCH * PATCH)[:, None]
    found = _patches(band, random) @ directions
    width = np.maximum(found.std(axis=0), _LEAST_DEVIATION)
    return _Level(min(band.shape[1:3]), directions, found.mean(axis=0), width)


def _binned(level: _Level, band: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.int64]:
    found = (_patches(band, random) @ level.directions - level.centre) / level.width
    places = ((found + REACH) * (BINS / (2 * REACH))).clip(0, BINS - 1).astype(np.int64)
    places += np.arange(DIRECTIONS) * BINS
    return np.bincount(places.ravel(), minlength=DIRECTIONS * BINS).reshape(DIRECTIONS, BINS)


def _cumulative(counts: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the share of patches at or below the end of each bin, `[resamples, directions, bins]`."""
    total = (weights @ counts.reshape(len(counts), -1)).reshape(-1, DIRECTIONS, BINS)
    return (np.cumsum(total, axis=2) / total.sum(axis=2, keepdims=True)).astype(np.float32)


def _patches(band: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    windows = np.lib.stride_tricks.sliding_window_view(band, (PATCH, PATCH), axis=(1, 2))
    rows = random.integers(0, windows.shape[1], (len(band), PATCHES_A_SLICE))
    columns = random.integers(0, windows.shape[2], (len(band), PATCHES_A_SLICE))
    return windows[np.arange(len(band))[:, None], rows, columns].reshape(len(band) * PATCHES_A_SLICE, -1)
