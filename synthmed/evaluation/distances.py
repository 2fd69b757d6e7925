"""Distances between sets of slices, computed from their pixels: no network, no download."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

GRID = 16


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
