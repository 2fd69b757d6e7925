"""Turning volumes to the way in which slices are looked at, and back."""

import numpy as np
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt2axcodes,
    ornt_transform,
)

AXIS_NAMES = ("sagittal", "coronal", "axial")

VIEWS = ("IPR", "ILA", "PLS")
"""Directions of (row, column, slice) for slices across each canonical axis: the radiological way of looking.

A slice then stands upright in every picture, whatever way the scanner stored it.
"""

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""World axes of ITK and DICOM grow to left, posterior and superior; those of NIfTI to right, anterior and superior."""


def axis_codes(affine: np.ndarray) -> str:
    """Return in which anatomical direction each voxel axis grows most, for example "RAS".

    Raises:
        ValueError: If the affine gives an axis no direction (a zero or dependent column).
    """
    orientation = io_orientation(affine)
    if np.isnan(orientation).any() or not np.isfinite(affine).all():
        raise ValueError("the affine gives an axis no direction")
    return "".join(ornt2axcodes(orientation))


def turn(array: np.ndarray, *, source: str, target: str) -> np.ndarray:
    """Permute and flip the first three axes of `array` from directions `source` to directions `target` (a view)."""
    return apply_orientation(array, _transform(source, target))


def turn_affine(affine: np.ndarray, shape: tuple[int, ...], *, source: str, target: str) -> np.ndarray:
    """Return the affine of a volume of `shape` (before turning) after `turn` with the same directions."""
    return affine @ inv_ornt_aff(_transform(source, target), shape[:3])


def turn_shape(shape: tuple[int, ...], *, source: str, target: str) -> tuple[int, int, int]:
    """Return the shape of a volume (or any triple that belongs to its axes) after `turn`."""
    where = _transform(source, target)[:, 0].astype(int)
    turned = [0, 0, 0]
    for old, new in enumerate(where):
        turned[new] = shape[old]
    return turned[0], turned[1], turned[2]


def turn_box(
    box: tuple[tuple[int, int], ...], shape: tuple[int, ...], *, source: str, target: str
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Return where a box (first voxel and the one after the last along each axis) of a volume lies after `turn`."""
    turned = [(0, 0)] * 3
    for (start, stop), extent, (new, sign) in zip(box, shape, _transform(source, target), strict=True):
        turned[int(new)] = (start, stop) if sign > 0 else (extent - stop, extent - start)
    return turned[0], turned[1], turned[2]


def _transform(source: str, target: str) -> np.ndarray:
    return ornt_transform(axcodes2ornt(source), axcodes2ornt(target))
