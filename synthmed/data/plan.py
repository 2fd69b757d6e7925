"""From a fingerprint to the plan by which cases become slices."""

import math

import numpy as np

from synthmed.data.inspect import CaseFingerprint, Fingerprint
from synthmed.data.orientation import AXIS_NAMES, VIEWS, turn_shape
from synthmed.data.schema import Plan, Scaling
from synthmed.errors import UserError

SIZE_STEP, SMALLEST, LARGEST = 16, 32, 256
# The networks halve a slice three times.
HALVABLE = 8
# Slices are cut across the axis with the largest voxels if these are at least this much longer than the others.
ANISOTROPY = 1.2


def make_plan(
    fingerprint: Fingerprint,
    *,
    axis: str | None = None,
    size: tuple[int, int] | None = None,
    spacing: tuple[float, float] | None = None,
) -> Plan:
    """Return a plan that fits a data set; what is given is kept and the rest follows from the fingerprint.

    Args:
        fingerprint: Of the data set.
        axis: "sagittal", "coronal" or "axial"; by default the axis along which voxels are longest, else axial.
        size: Rows and columns of a slice; by default the smallest multiples of 16 that hold the largest case, within
            32..256.
        spacing: Pixel size (row, column); by default the median over the cases, made coarser where the largest case
            would not fit `size`.

    Raises:
        UserError: If an option has no sensible value.
    """
    number = _axis(fingerprint, axis)
    view = VIEWS[number]
    extents = np.array([_extent(case, view) for case in fingerprint.cases])
    pixels = spacing or _default_spacing(fingerprint, view)
    if min(pixels) <= 0 or not all(math.isfinite(value) for value in pixels):
        raise UserError(f"--spacing {pixels[0]:g}x{pixels[1]:g}: pixel sizes must be above 0")
    needed = extents.max(axis=0) / np.asarray(pixels)
    frame = size or _default_size(needed)
    if any(side < SMALLEST or side % HALVABLE for side in frame):
        raise UserError(f"--size {frame[0]}x{frame[1]}: sides must be multiples of {HALVABLE}, at least {SMALLEST}")
    if spacing is None:
        # Rounding to whole pixels may put half a pixel too many on a slice; that much is no reason to resample.
        coarser = max(1.0, *((needed - 0.5) / np.asarray(frame)))
        if coarser > 1.0:
            coarser = max(needed / np.asarray(frame))
        pixels = (pixels[0] * coarser, pixels[1] * coarser)
    return Plan(
        axis=number,
        size=frame,
        spacing=(float(pixels[0]), float(pixels[1])),
        intensities=tuple(Scaling() for _ in fingerprint.channels),
        label_values=fingerprint.label_values,
        channels=len(fingerprint.channels),
    )


def _axis(fingerprint: Fingerprint, axis: str | None):
    if axis is not None:
        if axis not in AXIS_NAMES:
            raise UserError(f"--axis {axis}: choose {', '.join(AXIS_NAMES)}")
        return AXIS_NAMES.index(axis)
    median = np.median([_turned_zooms(case, "RAS") for case in fingerprint.cases], axis=0)
    longest = int(np.argmax(median))
    return longest if median[longest] >= ANISOTROPY * np.sort(median)[1] else 2


def _turned_zooms(case: CaseFingerprint, target: str) -> np.ndarray:
    lengths = np.linalg.norm(np.asarray(case.geometry.affine)[:3, :3], axis=0)
    return np.array(turn_shape(tuple(lengths), source=case.orientation, target=target))


def _extent(case: CaseFingerprint, view: str) -> np.ndarray:
    shape = turn_shape(case.geometry.shape, source=case.orientation, target=view)
    return np.array(shape[:2]) * _turned_zooms(case, view)[:2]


def _default_spacing(fingerprint: Fingerprint, view: str) -> tuple[float, float]:
    median = np.median([_turned_zooms(case, view)[:2] for case in fingerprint.cases], axis=0)
    return float(median[0]), float(median[1])


def _default_size(needed: np.ndarray) -> tuple[int, int]:
    sides = [SIZE_STEP * math.ceil((side - 0.5) / SIZE_STEP) for side in needed]
    rows, columns = (int(np.clip(side, SMALLEST, LARGEST)) for side in sides)
    return rows, columns
