"""Multi-scale structural similarity of pairs of slices: samples that are too alike one another show a collapse."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

from synthmed.evaluation.figures import Estimate
from synthmed.evaluation.neighbours import blocks
from synthmed.evaluation.resampling import RESAMPLES, Units, interval

WINDOW, SIGMA = 11, 1.5
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""What each scale counts, the finest first (Wang et al. 2003, section 3.2)."""
RANGE = 2.0
PAIRS = 1000


def scales_for(size: tuple[int, int]) -> int:
    """Return at how many scales slices of a size are compared: up to five, while the window fits in."""
    scales = 1
    while scales < len(WEIGHTS) and min(size) // 2**scales >= WINDOW:
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
    weights = np.array(WEIGHTS[:scales]) / sum(WEIGHTS[:scales])
    found = np.ones((len(first), first.shape[3]))
    for scale, weight in enumerate(weights):
        if scale:
            first, second = _halved(first), _halved(second)
        whole, contrast = _similarity(first, second)
        found *= np.maximum(whole if scale == scales - 1 else contrast, 0.0) ** weight
    return found.mean(axis=1)


def pair_similarity(images: NDArray[np.float32], units: Units, *, seed: int = 0) -> Estimate | None:
    """Return the mean `ms_ssim` of random pairs of slices of different units; None where there is a single unit.

    Args:
        images: `[n, H, W, C]` in [-1, 1].
        units: Patients of real slices, whose neighbours are alike by nature; cases of synthetic ones.
        seed: Of pairs and of the resampling.
    """
    if units.count < 2:
        return None
    random = np.random.default_rng(seed)
    first, second = random.integers(0, len(images), (2, PAIRS * 4))
    apart = np.flatnonzero(units.owner[first] != units.owner[second])[:PAIRS]
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
    least, small = (0.01 * RANGE) ** 2, (0.03 * RANGE) ** 2
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
