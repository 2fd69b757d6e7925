"""Working through large volumes part by part, so that what is in between takes little memory."""

from collections.abc import Iterator

import numpy as np

SLAB_ELEMENTS = 2**22
"""How many elements of a volume are worked on at a time, if a single plane has no more."""


def slabs(array: np.ndarray, *, axis: int = 0) -> Iterator[np.ndarray]:
    """Yield views of consecutive parts of an array along an axis, each of a few million elements.

    The parts of two arrays of one shape belong together, whatever their types are.
    """
    extent = array.shape[axis]
    step = max(1, SLAB_ELEMENTS * extent // max(array.size, 1))
    along = (slice(None),) * axis
    for first in range(0, extent, step):
        yield array[(*along, slice(first, first + step))]


def slowest_axis(array: np.ndarray) -> int:
    """Return the axis along which neighbours lie farthest apart in memory: its parts are read in one go."""
    return int(np.argmax(np.abs(array.strides)))
