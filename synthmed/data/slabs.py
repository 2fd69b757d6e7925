"""Working through large volumes part by part, so that what is in between takes little memory."""

from collections import Counter
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


def count_values(voxels: np.ndarray) -> dict[float, int]:
    """Return how often each value occurs, part by part: `np.unique` would sort the whole volume."""
    counts: Counter[float] = Counter()
    for part in slabs(voxels, axis=slowest_axis(voxels)):
        if part.dtype in (np.uint8, np.uint16):
            found = np.bincount(part.ravel(order="K"))
            values = np.flatnonzero(found)
            found = found[values]
        else:
            values, found = np.unique(part, return_counts=True)
        counts.update(dict(zip(values.tolist(), found.tolist(), strict=True)))
    return {value: counts[value] for value in sorted(counts)}
