"""What may be done to predictions after the network: averaging over mirrored slices, keeping the largest piece."""

from collections.abc import Callable
from typing import Literal

import numpy as np

Flips = Literal["none", "columns", "rows", "both"]
_MIRRORED: dict[str, tuple[tuple[int, ...], ...]] = {
    # Axes of slices [n, H, W, C] along which they are mirrored; mirroring columns swaps left and right of the picture.
    "none": ((),),
    "columns": ((), (2,)),
    "rows": ((), (1,)),
    "both": ((), (1,), (2,), (1, 2)),
}


class FlippedPredictor:
    """Averages class probabilities over mirrored slices.

    Args:
        predictor: Gives class probabilities `[n, H, W, K]` of slices `[n, H, W, C]`.
        flips: "none": the slices as they are; "columns": also with the order of columns reversed; "rows"; "both":
            all four ways.
    """

    def __init__(self, predictor: Callable[[np.ndarray], np.ndarray], flips: Flips = "none"):
        self.predictor = predictor
        self.flips = flips

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return class probabilities, float32 `[n, H, W, K]`, of slices `[n, H, W, C]`."""
        ways = _MIRRORED[self.flips]
        total = self._mirrored(images, ways[0])
        for axes in ways[1:]:
            total = total + self._mirrored(images, axes)
        return total / np.float32(len(ways)) if len(ways) > 1 else total

    def _mirrored(self, images: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        return np.flip(self.predictor(np.ascontiguousarray(np.flip(images, axes))), axes)


def largest_components(labels: np.ndarray) -> np.ndarray:
    """Return class indices with all but the largest connected piece of each class turned into background.

    Elements are connected by faces, edges and corners, over all axes: a volume is looked at as a volume. Of pieces of
    one size the first in the order of the array is kept.

    Args:
        labels: Class indices `[X, Y, Z]`, or of any number of axes; background is 0.
    """
    from scipy import ndimage

    cleaned = np.zeros_like(labels)
    for index in np.unique(labels[labels > 0]):
        pieces, count = ndimage.label(labels == index, structure=np.ones((3,) * labels.ndim))
        if count:
            cleaned[pieces == 1 + np.bincount(pieces.ravel())[1:].argmax()] = index
    return cleaned
