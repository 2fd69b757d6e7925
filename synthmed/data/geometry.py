"""Geometry of slices: turning volumes to the way they are looked at, the store's frame, and the way back."""

import math

import numpy as np
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt2axcodes,
    ornt_transform,
)
from scipy import ndimage

from synthmed.data.schema import CaseRecord, Geometry, Matrix, Placement, Plan, Record, as_matrix

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""First voxel and the one after the last along each axis."""

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


def whole_box(shape: tuple[int, ...]) -> Box:
    """Return the box that holds a whole volume of this shape."""
    return (0, shape[0]), (0, shape[1]), (0, shape[2])


def kept_share(box: Box, shape: tuple[int, int, int]) -> float:
    """Return the share of a volume's voxels within a box, 0..1."""
    return float(np.prod([(stop - start) / extent for (start, stop), extent in zip(box, shape, strict=True)]))


def _transform(source: str, target: str) -> np.ndarray:
    return ornt_transform(axcodes2ornt(source), axcodes2ornt(target))


def plan_placement(geometry: Geometry, plan: Plan, content: Box | None = None) -> Placement:
    """Return how a volume of this geometry is turned, cropped, resampled and centred in the plan's frame.

    Args:
        geometry: Of the volume.
        plan: How it is to be prepared.
        content: What is left of the source array where the plan crops, see `content_box`; None for all of it.
    """
    affine = np.asarray(geometry.affine)
    source, view = axis_codes(affine), VIEWS[plan.axis]
    whole = turn_shape(geometry.shape, source=source, target=view)
    kept = turn_box(content, geometry.shape, source=source, target=view) if plan.crop and content else whole_box(whole)
    shape = (kept[0][1] - kept[0][0], kept[1][1] - kept[1][0], kept[2][1] - kept[2][0])
    turned = turn_affine(affine, geometry.shape, source=source, target=view)
    spacing = np.linalg.norm(turned[:3, :2], axis=0)
    step, resampled, start = [], [], []
    for extent, own, wanted, frame in zip(shape[:2], spacing, plan.spacing, plan.size, strict=True):
        # A header's float32 spacing differs from the plan's by rounding: do not resample for that.
        ratio = 1.0 if math.isclose(wanted, own, rel_tol=1e-4) else float(wanted / own)
        pixels = max(1, round(extent / ratio))
        step.append(ratio)
        resampled.append(pixels)
        start.append((frame - pixels) // 2)
    return Placement(
        source_orientation=source,
        orientation=view,
        shape=shape,
        resampled=(resampled[0], resampled[1]),
        step=(step[0], step[1]),
        start=(start[0], start[1]),
        origin=(kept[0][0], kept[1][0], kept[2][0]),
        whole=None if shape == whole else whole,
    )


def cropped(turned: np.ndarray, placement: Placement) -> np.ndarray:
    """Return the part of a turned volume `[h, w, n, ...]` that is prepared (a view)."""
    return turned[_kept(placement)]


def place(slices: np.ndarray, placement: Placement, size: tuple[int, int], *, order: int, fill: float) -> np.ndarray:
    """Resample turned and cropped slices `[h, w, ...]` and centre them in a frame, `[H, W, ...]`.

    Args:
        slices: Rows and columns first; further axes are carried along.
        placement: From `plan_placement`.
        size: Rows and columns of the frame.
        order: Of the spline: 0 (nearest neighbour) for labels, 3 for images.
        fill: Value of the frame outside the slice.
    """
    ratio = np.asarray(placement.step)
    resampled = _resample(slices, placement.resampled, ratio, order)
    framed = np.full((*size, *slices.shape[2:]), fill, slices.dtype)
    frame, own = _overlap(placement, size)
    framed[frame] = resampled[own]
    return framed


def unplace(framed: np.ndarray, placement: Placement, *, order: int, fill: float | np.ndarray) -> np.ndarray:
    """Undo `place` and `cropped`: return the whole turned volume `[h, w, n, ...]`; what was cut off becomes `fill`.

    Args:
        framed: All slices of the case, `[H, W, n, ...]`.
        placement: Of the case.
        order: Of the spline: 0 for labels, 1 for probabilities, 3 for images.
        fill: Value of what does not lie in the frame, perhaps one a channel (the last axis).
    """
    resampled = np.full((*placement.resampled, *framed.shape[2:]), fill, framed.dtype)
    frame, own = _overlap(placement, framed.shape[:2])
    resampled[own] = framed[frame]
    turned = _resample(resampled, placement.shape[:2], 1.0 / np.asarray(placement.step), order)
    if placement.whole is None:
        return turned
    whole = np.full((*placement.whole, *framed.shape[3:]), fill, framed.dtype)
    whole[_kept(placement)] = turned
    return whole


def placed_affine(geometry: Geometry, placement: Placement) -> np.ndarray:
    """Return the affine of a case's prepared slices as a volume `[H, W, slices]`."""
    turned = turn_affine(
        np.asarray(geometry.affine),
        geometry.shape,
        source=placement.source_orientation,
        target=placement.orientation,
    )
    to_turned = np.eye(4)
    to_turned[2, 3] = placement.origin[2]
    for axis in range(2):
        step = placement.step[axis]
        centre, own_centre = (placement.resampled[axis] - 1) / 2, (placement.shape[axis] - 1) / 2
        to_turned[axis, axis] = step
        to_turned[axis, 3] = placement.origin[axis] + own_centre - (centre + placement.start[axis]) * step
    return turned @ to_turned


def _resample(slices: np.ndarray, target: tuple[int, int], ratio: np.ndarray, order: int) -> np.ndarray:
    """Sample a grid of `target` pixels, `ratio` source pixels apart, whose centre is that of `slices`."""
    if tuple(target) == slices.shape[:2] and np.all(ratio == 1.0):
        return slices
    if order > 0:
        # Frequencies that the coarser grid cannot hold would fold back as false texture.
        sigma = [0.5 * math.sqrt(max(r * r - 1.0, 0.0)) for r in ratio]
        if any(sigma):
            slices = ndimage.gaussian_filter(slices, sigma=sigma, axes=(0, 1), mode="nearest")
    offset = (np.array(slices.shape[:2]) - 1) / 2 - (np.array(target) - 1) / 2 * ratio
    flat = slices.reshape(*slices.shape[:2], -1)
    sampled = np.empty((*target, flat.shape[2]), slices.dtype)
    for index in range(flat.shape[2]):
        plane = sampled[:, :, index]
        ndimage.affine_transform(flat[:, :, index], ratio, offset, target, plane, order=order, mode="nearest")
    return sampled.reshape(*target, *slices.shape[2:])


def _kept(placement: Placement) -> tuple[slice, slice, slice]:
    rows, columns, slices = (
        slice(first, first + extent) for first, extent in zip(placement.origin, placement.shape, strict=True)
    )
    return rows, columns, slices


def _overlap(placement: Placement, size: tuple[int, ...]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    frame, own = [], []
    for start, pixels, extent in zip(placement.start, placement.resampled, size[:2], strict=True):
        first, last = max(start, 0), min(start + pixels, extent)
        frame.append(slice(first, last))
        own.append(slice(first - start, last - start))
    return (frame[0], frame[1]), (own[0], own[1])


class Template(Record):
    """How a slice in store domain becomes a volume in the source's units and space. Names no patient.

    Attributes:
        axis: Position of the axis of length 1 in a volume made of one slice.
        affine: Of the volume `[H, W, 1]`, at the middle of the case.
        orientation: Directions of the source's own array axes ("RAS"), for writing in the same order as real cases.
        xyzt_units: Names of the units of space and time.
        qform_code: NIfTI code of the qform.
        sform_code: NIfTI code of the sform.
        scale: Of each channel: `source = scale * prepared + offset`.
        offset: Of each channel.
        dtype: Type of the source's images.
        slices: How many slices the whole case had; None in templates of earlier versions.
    """

    axis: int = 2
    affine: Matrix
    orientation: str
    xyzt_units: tuple[str, str]
    qform_code: int
    sform_code: int
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    dtype: str
    slices: int | None = None

    def volume(self, slices: np.ndarray, *, whole: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Return prepared slices `[H, W]` or `[H, W, n]` as a volume in the source's axis order, and its affine.

        Geometry only: intensities stay as they are.

        Args:
            slices: Rows and columns, and further slices along the axis.
            whole: Whether they are all slices of a case, rather than slices that count from the template's position
                upwards.

        Raises:
            ValueError: If a whole case is asked for and has another number of slices.
        """
        stacked = slices[:, :, np.newaxis] if slices.ndim == 2 else slices
        affine = np.array(self.affine)
        if whole:
            if self.slices is None or stacked.shape[2] != self.slices:
                raise ValueError(f"the case had {self.slices} slices, got {stacked.shape[2]}")
            affine[:3, 3] -= affine[:3, 2] * (self.slices // 2)
        own = axis_codes(affine)
        turned = turn(stacked, source=own, target=self.orientation)
        return turned, turn_affine(affine, stacked.shape, source=own, target=self.orientation)


def template_of(record: CaseRecord) -> Template:
    """Return the template of a case in a store."""
    affine = placed_affine(record.geometry, record.placement)
    affine[:3, 3] += affine[:3, 2] * (record.slices // 2)
    return Template(
        affine=as_matrix(affine),
        orientation=record.placement.source_orientation,
        xyzt_units=record.geometry.xyzt_units,
        qform_code=record.geometry.qform_code,
        sform_code=record.geometry.sform_code,
        scale=record.normalisation.scale,
        offset=record.normalisation.offset,
        dtype=record.geometry.dtype,
        slices=record.slices,
    )
