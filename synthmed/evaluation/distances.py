"""Distances between sets of slices: nearest neighbours in blocks, and the sliced Wasserstein distance of a pyramid."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve1d
from scipy.spatial import cKDTree

BLOCK = 512
# float32 sums of squares of some dozen to some thousand features are right to about this share.
_ROUNDING = 2e-6
GRID = 16


def centred(*sets: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Return sets of features less the mean of the first: distances stay, and rounding counts for less.

    Args:
        sets: `(n, features)` each.
    """
    mean = sets[0].mean(axis=0, dtype=np.float64)
    return [np.ascontiguousarray(vectors - mean, np.float32) for vectors in sets]


def squared_distances(
    rows: NDArray[np.float32], columns: NDArray[np.float32], *, slack: bool = False
) -> NDArray[np.float32]:
    """Return squared Euclidean distances of few rows to all columns, `[rows, columns]`, at least 0.

    Args:
        rows: `(n, features)`, of a block.
        columns: `(m, features)`.
        slack: Whether distances are shortened by what rounding may have added: equal vectors then have 0.
    """
    lengths = np.einsum("ij,ij->i", rows, rows)[:, None] + np.einsum("ij,ij->i", columns, columns)[None, :]
    if slack:
        lengths *= np.float32(1.0 - _ROUNDING)
    found = rows @ columns.T
    found *= -2.0
    found += lengths
    return np.maximum(found, 0.0, out=found)


def neighbour_radii(points: NDArray[np.float32], ks: Sequence[int]) -> NDArray[np.float32]:
    """Return the squared distance of each point to its k-th nearest other one, `[len(ks), n]`.

    Args:
        points: `(n, features)`, n above the largest k.
        ks: From 1.
    """
    radii = np.empty((len(ks), len(points)), np.float32)
    for block in blocks(len(points)):
        found = squared_distances(points[block], points)
        found[np.arange(len(found)), np.arange(block.start, block.stop)] = np.inf
        found.partition([k - 1 for k in ks], axis=1)
        radii[:, block] = found[:, [k - 1 for k in ks]].T
    return radii


def blocks(count: int, size: int = BLOCK) -> Iterator[slice]:
    """Yield slices of at most `size` that together are `range(count)`."""
    for first in range(0, count, size):
        yield slice(first, min(first + size, count))


def coarse_vectors(slices: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average slices down to about 16 x 16 and flatten them.

    Args:
        slices: `(n, height, width, channels)`.

    Returns:
        `(n, features)`. What is finer than the grid does not count.
    """
    count, height, width, channels = slices.shape
    rows = np.linspace(0, height, min(GRID, height) + 1).astype(int)
    columns = np.linspace(0, width, min(GRID, width) + 1).astype(int)
    summed = np.add.reduceat(np.add.reduceat(slices, rows[:-1], axis=1), columns[:-1], axis=2)
    area = np.outer(np.diff(rows), np.diff(columns))[None, :, :, None]
    return (summed / area).reshape(count, -1).astype(np.float32)


def nearest_distances(samples: NDArray[np.float32], references: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the root-mean-square distance of each sample to its nearest reference.

    Args:
        samples: `(n, features)`.
        references: `(m, features)`.
    """
    distances, _ = cKDTree(references).query(samples, workers=-1)
    return distances / np.sqrt(references.shape[1])


PATCH = 7
PATCHES_A_SLICE = 32
DIRECTIONS = 128
QUANTILES = 512
SMALLEST = 16
BINOMIAL = np.array([1, 4, 6, 4, 1], np.float32) / 16


def slice_distance(first: NDArray[np.float32], second: NDArray[np.float32], *, seed: int = 0) -> dict[str, float]:
    """Return the distance of two sets of slices at each level, by its smaller side ("64", "32", ...), and "mean".

    Every channel of a level is brought to mean 0 and deviation 1 by the first set, so that the figures are in standard
    deviations of that set, whatever the channels are.

    Args:
        first: `(n, height, width, channels)`, the reference.
        second: `(m, height, width, channels)`.
        seed: Of the places of the patches and of the directions.
    """
    levels = {}
    for one, other in zip(laplacian_pyramid(first), laplacian_pyramid(second), strict=True):
        levels[str(min(one.shape[1:3]))] = _level_distance(one, other, seed)
    return {"mean": float(np.mean(list(levels.values()))), **levels}


def sliced_wasserstein(first: NDArray[np.float32], second: NDArray[np.float32], *, seed: int = 0) -> float:
    """Return the sliced Wasserstein-1 distance of two sets of vectors (Rabin et al. 2011).

    The mean over random directions of the one-dimensional distance, which is the area between two quantile functions.

    Args:
        first: `(n, features)`.
        second: `(m, features)`.
        seed: Of the directions.
    """
    directions = np.random.default_rng(seed).standard_normal((first.shape[1], DIRECTIONS)).astype(first.dtype)
    directions /= np.linalg.norm(directions, axis=0)
    at = (np.arange(QUANTILES) + 0.5) / QUANTILES
    curves = [np.quantile(vectors @ directions, at, axis=0) for vectors in (first, second)]
    return float(np.abs(curves[0] - curves[1]).mean())


def joint_channels(images: NDArray | None, labels: NDArray, classes: int) -> NDArray[np.float32]:
    """Return image channels, where there are any, and one-hot mask channels: `(n, height, width, channels)`."""
    masks = np.eye(classes, dtype=np.float32)[labels]
    return masks if images is None else np.concatenate([images, masks], axis=-1)


def laplacian_pyramid(slices: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Return the bands of a Laplacian pyramid, the finest first; the last one is what is left.

    Args:
        slices: `(n, height, width, channels)`.

    Returns:
        `(n, height, width, channels)` each, sides halved from band to band while both are at least `SMALLEST` then.
    """
    bands = []
    while min(slices.shape[1:3]) >= 2 * SMALLEST:
        low = _smooth(slices)
        bands.append(slices - low)
        slices = low[:, ::2, ::2]
    return [*bands, slices]


def _smooth(slices: NDArray[np.float32]) -> NDArray[np.float32]:
    for axis in (1, 2):
        slices = convolve1d(slices, BINOMIAL, axis=axis, mode="mirror")
    return slices


def _level_distance(first: NDArray[np.float32], second: NDArray[np.float32], seed: int) -> float:
    mean = first.mean(axis=(0, 1, 2))
    # A channel that is flat at this level in all of the reference tells nothing by its scale.
    deviation = np.maximum(first.std(axis=(0, 1, 2)), 1e-3)
    random = np.random.default_rng(seed)
    one, other = (_patches((slices - mean) / deviation, random) for slices in (first, second))
    return sliced_wasserstein(one, other, seed=seed)


def _patches(slices: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    windows = np.lib.stride_tricks.sliding_window_view(slices, (PATCH, PATCH), axis=(1, 2))
    rows = random.integers(0, windows.shape[1], (len(slices), PATCHES_A_SLICE))
    columns = random.integers(0, windows.shape[2], (len(slices), PATCHES_A_SLICE))
    chosen = windows[np.arange(len(slices))[:, None], rows, columns]
    return chosen.reshape(len(slices) * PATCHES_A_SLICE, -1)
