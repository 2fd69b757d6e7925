"""Vectors of slices, and distances between sets of them in blocks: no matrix of all samples against all references."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
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
