"""What each class looks like in each slice: size, parts, holes, shape, and what it touches."""

from dataclasses import dataclass

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.spatial import ConvexHull


@dataclass(frozen=True)
class Measure:
    """What is measured of a class in a slice that shows it.

    Attributes:
        name: In snake case.
        label: What a reader sees.
        counted: Whether it is a count, whose differences are told as they are and not in spreads of real slices.
        definition: What it is.
    """

    name: str
    label: str
    counted: bool
    definition: str


MEASURES = (
    Measure("area", "area", False, "share of the slice's pixels that the class has"),
    Measure("parts", "parts", True, "number of connected components; pixels that touch at a corner are one part"),
    Measure("holes", "holes", True, "number of enclosed regions that are not of the class (parts less Euler number)"),
    Measure(
        "eccentricity",
        "eccentricity",
        False,
        "of the ellipse with the same second moments: 0 for a circle, towards 1 for a line",
    ),
    Measure(
        "roundness",
        "roundness",
        False,
        "perimeter of the disc of the same area over the perimeter (Lehmann and Legland 2012), "
        "lower for ragged outlines: the compactness is its square",
    ),
    Measure("solidity", "solidity", False, "area over the area of the convex hull: 1 where nothing is indented"),
)
BLOCK = 256
"""Slices that are measured at once."""
_CORNERS = np.array([(0, 0), (0, 1), (1, 0), (1, 1)])


def measure(labels: NDArray[np.uint8], *, classes: int, spacing: tuple[float, float]) -> NDArray[np.float64]:
    """Return the `MEASURES` of each foreground class in each slice.

    Args:
        labels: `[n, H, W]` class indices; values that are no class are background.
        classes: Number of classes, background included.
        spacing: Size of a pixel, (row, column); shapes are those of the anatomy and not of its pixels.

    Returns:
        `[n, classes - 1, measures]`, NaN where a slice does not show a class.
    """
    blocks = [_measure(labels[first : first + BLOCK], classes, spacing) for first in range(0, len(labels), BLOCK)]
    return np.concatenate([np.full((0, classes - 1, len(MEASURES)), np.nan), *blocks])


def neighbours(labels: NDArray[np.uint8], *, classes: int) -> sparse.csr_matrix:
    """Return how many sides of pixels each class shares with each other class.

    Args:
        labels: `[n, H, W]` class indices; values that are no class count as background.
        classes: Number of classes, background included.

    Returns:
        `[n, classes * classes]`, the pair (a, b) in column a * classes + b; sides within a class are not counted, nor
        those at the edge of the slice.
    """
    rows, columns, counts = [], [], []
    for number, label in enumerate(labels):
        known = np.where(label < classes, label, 0).astype(np.int64)
        pairs = (known[:, :-1] * classes + known[:, 1:], known[:-1] * classes + known[1:])
        sides = sum(np.bincount(pair.ravel(), minlength=classes * classes) for pair in pairs)
        table = np.reshape(sides, (classes, classes))
        # A side belongs to both classes.
        touching = (table + table.T) * (1 - np.eye(classes, dtype=np.int64))
        (found,) = np.nonzero(touching.ravel())
        rows += [number] * len(found)
        columns += found.tolist()
        counts += touching.ravel()[found].tolist()
    return sparse.csr_matrix((counts, (rows, columns)), shape=(len(labels), classes * classes), dtype=np.float64)


def _measure(labels: NDArray[np.uint8], classes: int, spacing: tuple[float, float]) -> NDArray[np.float64]:
    found = np.full((len(labels), classes - 1, len(MEASURES)), np.nan)
    shapes = _shapes(labels, classes, spacing)
    for number, label in enumerate(labels):
        boxes = ndimage.find_objects(label, max_label=classes - 1)
        for index, box in enumerate(boxes, start=1):
            if box is None:
                continue
            mask = label[box] == index
            key = number * classes + index
            least, most = sorted(shapes.GetPrincipalMoments(key))
            found[number, index - 1] = (
                mask.sum() / label.size,
                *_topology(mask),
                np.sqrt(max(0.0, 1.0 - least / most)) if most > 0 else 0.0,
                shapes.GetRoundness(key),
                _solidity(mask),
            )
    return found


def _shapes(
    labels: NDArray[np.uint8], classes: int, spacing: tuple[float, float]
) -> SimpleITK.LabelShapeStatisticsImageFilter:
    """Return the statistics of class c of slice n under the label n * classes + c.

    The slices are measured as one tall picture, since the filter's start takes longer than its work on a slice.
    """
    count, height, width = labels.shape
    tall = np.zeros((count, height + 1, width), np.uint32)
    known = np.where(labels < classes, labels, 0).astype(np.uint32)
    tall[:, :height] = np.where(known > 0, known + np.arange(count, dtype=np.uint32)[:, None, None] * classes, 0)
    image = SimpleITK.GetImageFromArray(tall.reshape(-1, width))
    image.SetSpacing((float(spacing[1]), float(spacing[0])))
    shapes = SimpleITK.LabelShapeStatisticsImageFilter()
    shapes.SetNumberOfWorkUnits(1)
    shapes.Execute(image)
    return shapes


def _topology(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the number of parts and of holes."""
    _, parts = ndimage.label(mask, structure=np.ones((3, 3)))
    # Where pixels that touch at a corner belong together, the regions around them do not; the outside is one of them.
    _, outside = ndimage.label(~np.pad(mask, 1))
    return parts, outside - 1


def _solidity(mask: NDArray[np.bool_]) -> float:
    # Corners of pixels, not their centres: a line of pixels has an area, and a rectangle a solidity of 1.
    inner = ndimage.binary_erosion(mask, structure=np.ones((3, 3)))
    corners = (np.argwhere(mask & ~inner)[:, None] + _CORNERS).reshape(-1, 2)
    return float(mask.sum() / ConvexHull(corners).volume)
