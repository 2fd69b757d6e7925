"""Gains of frequency bands: image-space filtering of arXiv:2006.06676, appendix B, with binomial filters.

The bands are the differences of an image and its low-passes with [1, 2, 1] / 4 whose taps lie 1, 2 and 4 pixels apart,
each applied to the one before ("a trous"): at gains of 1 they add up to the image again. Reflection at the border and
the three filters of an axis make one matrix a low-pass, so a band costs two small matrix products at any size of image.
"""

from functools import cache

import numpy as np
from keras import ops

from synthmed.training.augmentation.draws import Draws

OCTAVES = 1.0
"""Standard deviation of the logarithm to base 2 of a gain."""

POWER = np.array([1.0, 1.0, 1.0, 10.0]) / 13.0
"""Expected share of the power in each band, finest first: the paper's, for a spectrum that falls as 1 / f ** 2."""


def bands(image, draws: Draws):
    """Multiply each of four bands with a 2 ** N(0, 1), each behind a gate of its own, at constant expected power.

    Args:
        image: `(batch, height, width, channels)`.
        draws: Random numbers.
    """
    gains = draws.gated("bands", draws.log_normal("bands", OCTAVES), 1.0)
    power = ops.sum(ops.square(gains) * ops.convert_to_tensor(POWER, gains.dtype), axis=1, keepdims=True)
    # Rounding makes the power of four gains of 1 not quite 1.
    gains = ops.where(ops.any(draws.gates("bands"), axis=1, keepdims=True), gains / ops.sqrt(power), gains)
    gains = ops.cast(gains, image.dtype)[:, :, None, None, None]
    # Channels first: rows and columns are then the sides of matrices.
    image = ops.transpose(image, (0, 3, 1, 2))
    outputs = image * gains[:, 0]
    for number, low in enumerate(_low_passes(image), start=1):
        # Summed by low-passes instead of bands: each is the coarse end of one band and the fine end of the next.
        outputs = outputs + low * (gains[:, number] - gains[:, number - 1])
    return ops.transpose(outputs, (0, 2, 3, 1))


def _low_passes(image):
    """Yield `(batch, channels, height, width)` filtered once, twice and three times."""
    height, width = image.shape[2:]
    for down, across in zip(_matrices(height), _matrices(width), strict=True):
        down, across = (ops.convert_to_tensor(matrix, image.dtype) for matrix in (down, across.T))
        yield ops.matmul(ops.matmul(down, image), across)


@cache
def _matrices(side: int) -> list[np.ndarray]:
    """Return the matrices `(side, side)` of the three low-passes along an axis, "mirror" at its ends."""
    matrices, total = [], np.eye(side)
    for distance in (1, 2, 4):
        step = np.zeros((side, side))
        for offset, weight in ((-distance, 0.25), (0, 0.5), (distance, 0.25)):
            step[np.arange(side), _mirrored(np.arange(side) + offset, side)] += weight
        total = step @ total
        matrices.append(total)
    return matrices


def _mirrored(index: np.ndarray, side: int) -> np.ndarray:
    period = max(2 * (side - 1), 1)
    index = np.abs(index) % period
    return np.minimum(index, period - index) if side > 1 else index * 0
