"""How far generated slices are from held-out real ones, cheaply enough to be asked during training.

The sliced Wasserstein distance of patches on the levels of a Laplacian pyramid (Karras et al. 2018,
arXiv:1710.10196, section 5): the fine levels see texture and blur, the coarse ones the anatomy. It needs no network
and no download. Image planes and one-hot mask planes are compared together, so that an image that does not follow its
mask counts, too.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve1d

PATCH = 7
PATCHES_A_SLICE = 32
DIRECTIONS = 128
QUANTILES = 512
SMALLEST = 16
BINOMIAL = np.array([1, 4, 6, 4, 1], np.float32) / 16


def slice_distance(first: NDArray[np.float32], second: NDArray[np.float32], *, seed: int = 0) -> dict[str, float]:
    """Return the distance of two sets of slices at each level, by its smaller side ("64", "32", ...), and "mean".

    Every plane of a level is brought to mean 0 and deviation 1 by the first set, so that the figures are in standard
    deviations of that set, whatever the planes are.

    Args:
        first: `(n, height, width, planes)`, the reference.
        second: `(m, height, width, planes)`.
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


def joint_planes(images: NDArray | None, labels: NDArray, classes: int) -> NDArray[np.float32]:
    """Return image planes (where there are any) and one-hot mask planes together, `(n, height, width, planes)`."""
    masks = np.eye(classes, dtype=np.float32)[labels]
    return masks if images is None else np.concatenate([images, masks], axis=-1)


def laplacian_pyramid(slices: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Return the bands of a Laplacian pyramid, the finest first; the last one is what is left.

    Args:
        slices: `(n, height, width, planes)`.

    Returns:
        `(n, height, width, planes)` each, sides halved from band to band while both are at least `SMALLEST` then.
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
    # A plane that is flat at this level in all of the reference tells nothing by its scale.
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
