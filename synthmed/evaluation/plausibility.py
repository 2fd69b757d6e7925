"""Whether a label map looks like those of the training slices: area, parts and place of each class."""

from collections.abc import Sequence

import numpy as np

from synthmed.data.schema import IGNORE

QUANTILE = 0.01
MARGIN = 0.1
"""Ranges reach from a low to a high quantile of the training slices, and this share of their width further: the few
patients of a small set do not show all that there is."""
_FEATURES = ("area", "row", "column", "parts")


class MaskRanges:
    """Ranges of what each class looks like, fitted on label maps.

    Args:
        labels: uint8 `[n, H, W]` of training slices.
        classes: Number of classes, background included.
    """

    def __init__(self, labels: np.ndarray, *, classes: int):
        self._classes = classes
        self._together: set[tuple[int, ...]] = set()
        found: dict[int, list[list[float]]] = {}
        for label in labels:
            features = _features(label, classes)
            self._together.add(tuple(features))
            for index, values in features.items():
                found.setdefault(index, []).append(values)
        self._ranges = {index: _ranges(np.array(rows)) for index, rows in found.items()}

    def oddity(self, label: np.ndarray, names: Sequence[str]) -> str:
        """Return in words the first thing about a label map that no usual training slice has; "" where there is none.

        Args:
            label: uint8 `[H, W]`.
            names: Of the classes, background first.
        """
        features = _features(label, self._classes)
        if tuple(features) not in self._together:
            shown = " and ".join(names[index] for index in features) or "no class"
            return f"mask: no training slice shows {shown} and nothing else"
        for index, values in features.items():
            low, high = self._ranges[index]
            for name, value, least, most in zip(_FEATURES, values, low, high, strict=True):
                if not least <= value <= most:
                    return f"mask: {name} of {names[index]} is {value:.4g}, training slices {least:.4g} to {most:.4g}"
        return ""


def _features(label: np.ndarray, classes: int) -> dict[int, list[float]]:
    """Return for each foreground class shown its area in pixels, centre (row, column) and number of parts."""
    from scipy import ndimage

    shown = [int(index) for index in np.unique(label) if 0 < index < classes and index != IGNORE]
    features = {}
    for index in shown:
        mask = label == index
        rows, columns = np.nonzero(mask)
        # Pixels that touch at a corner are one part: thin structures run diagonally.
        _, parts = ndimage.label(mask, structure=np.ones((3, 3)))
        features[index] = [float(len(rows)), float(rows.mean()), float(columns.mean()), float(parts)]
    return features


def _ranges(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.quantile(rows, [QUANTILE, 1 - QUANTILE], axis=0)
    margin = MARGIN * (high - low)
    low, high = low - margin, high + margin
    low[_FEATURES.index("parts")] = 1
    return low, high
