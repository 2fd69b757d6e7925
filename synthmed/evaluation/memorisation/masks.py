"""Nearest training label map after registration: Dice over all classes, once centres lie upon each other."""

import math

import numpy as np
from numpy.typing import NDArray

from synthmed.data.schema import IGNORE
from synthmed.evaluation.memorisation.candidates import nearest_groups
from synthmed.evaluation.memorisation.spaces import Nearest, Slices

LONGEST = 96
"""Pixels along the longer side at which label maps are compared; of larger ones every second counts, or every third."""
CELLS = 16
SCALES = (0.9, 0.95, 1.0, 1.05, 1.1)
SHIFTS = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)]
"""Shifts tried around the one that brings the centres together, in pixels."""
PATIENTS = 6
SMALLEST = 40
"""Pixels of foreground below which a label map has no shape that could be recognised."""
SOFTENING = 2
"""Pixels, as a share of the foreground: shapes of few pixels coincide by chance."""
_BLOCK = 64

Floats = NDArray[np.float32]
Labels = NDArray[np.uint8]


class MaskSpace:
    """Label maps with foreground, registered by shift and scale; the distance is 1 - Dice of all classes together.

    Each map is shifted so that the centre of its foreground lies in the middle; scales of 0.9 to 1.1 are tried.

    Args:
        size: Rows and columns of a slice.
        classes: Number of classes, background included.
    """

    name = "masks"
    typical_is_near = True
    label = "Label maps, registered"
    definition = (
        "1 - Dice of all foreground classes together (twice the pixels that agree over the foreground of both), after "
        "the shift and the scale (0.9 to 1.1) that fit best; maps with hardly any foreground are left out"
    )

    def __init__(self, size: tuple[int, int], classes: int):
        self._step = max(1, math.ceil(max(size) / LONGEST))
        self._size = tuple(math.ceil(side / self._step) for side in size)
        self._classes = classes
        self._pool = [_pooling(side, max(1, round(max(self._size) / CELLS))) for side in self._size]

    def nearest(self, queries: Slices, references: Slices, *, leave_own_out: bool = False) -> Nearest:
        """Find the nearest reference map of each query; see `Space.nearest`."""
        blocks = [np.arange(first, min(first + _BLOCK, len(queries))) for first in range(0, len(queries), _BLOCK)]
        scaled = [np.concatenate([self._centred(queries, block, scale) for block in blocks]) for scale in SCALES]
        index, _ = nearest_groups(
            np.stack([self._vectors(maps) for maps in scaled], axis=1),
            lambda numbers: self._vectors(self._centred(references, numbers))[:, None],
            references.patient,
            keep=PATIENTS,
            own=queries.patient if leave_own_out else None,
        )
        area = (scaled[SCALES.index(1.0)] > 0).sum(axis=(1, 2))
        index[area < SMALLEST] = -1
        distance = np.full(index.shape, np.inf)
        for block in blocks:
            distance[block] = self._distances([maps[block] for maps in scaled], references, index[block])
        return Nearest.of_candidates(index, distance, references.patient, SOFTENING / np.maximum(area, 1))

    def _centred(self, slices: Slices, numbers: NDArray[np.int64], scale: float = 1.0) -> Labels:
        """Return label maps `[n, h, w]` with the centre of their foreground in the middle, shrunk by a scale."""
        labels = slices.read(numbers)[:, :: self._step, :: self._step]
        labels = np.where((labels >= self._classes) | (labels == IGNORE), 0, labels).astype(np.uint8)
        return np.stack([_recentred(label, scale) for label in labels])

    def _vectors(self, labels: Labels) -> Floats:
        """Return how much of each cell each class takes, as unit vectors `[n, features]`; 0 without foreground."""
        rows, columns = self._pool
        planes = [rows @ (labels == index).astype(np.float32) @ columns.T for index in range(1, self._classes)]
        vectors = np.stack(planes, axis=1).reshape(len(labels), -1) if planes else np.zeros((len(labels), 1), "f4")
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)

    def _distances(self, scaled: list[Labels], references: Slices, index: NDArray[np.int64]) -> NDArray[np.float64]:
        distance = np.full(index.shape, np.inf)
        rows, places = np.nonzero(index >= 0)
        if not len(rows):
            return distance
        numbers, back = np.unique(index[rows, places], return_inverse=True)
        found = self._centred(references, numbers)[back]
        best = np.zeros(len(rows))
        for maps in scaled:
            own = maps[rows]
            total = (own > 0).sum(axis=(1, 2)) + (found > 0).sum(axis=(1, 2))
            for shift in SHIFTS:
                moved = np.roll(found, shift, axis=(1, 2))
                agreed = ((own == moved) & (own > 0)).sum(axis=(1, 2))
                best = np.maximum(best, 2.0 * agreed / np.maximum(total, 1))
        distance[rows, places] = 1.0 - best
        return distance


def _recentred(label: Labels, scale: float) -> Labels:
    """Return a map whose foreground's centre lies in the middle: nearest neighbour, 0 beyond the border."""
    shown = label > 0
    if not shown.any():
        return label
    places = []
    for axis, side in enumerate(label.shape):
        counts = shown.sum(axis=1 - axis)
        centre = float(counts @ np.arange(side)) / counts.sum()
        # Rounded, so that a shifted copy is the same map to the pixel at scale 1.
        places.append(np.rint((np.arange(side) - side // 2) * scale + math.floor(centre + 0.5)).astype(int))
    rows, columns = places
    inside = ((rows >= 0) & (rows < label.shape[0]))[:, None] & ((columns >= 0) & (columns < label.shape[1]))
    taken = label[np.clip(rows, 0, label.shape[0] - 1)[:, None], np.clip(columns, 0, label.shape[1] - 1)]
    return np.where(inside, taken, 0).astype(np.uint8)


def _pooling(side: int, cell: int) -> Floats:
    """Return `[cells, side]`: averages over cells, the last one perhaps shorter."""
    member = np.arange(side) // cell == np.arange(math.ceil(side / cell))[:, None]
    return (member / member.sum(axis=1, keepdims=True)).astype(np.float32)
