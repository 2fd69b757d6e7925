"""Bringing the slices of a turned volume to the store's pixel size and frame, and back."""

import math

import numpy as np
from scipy import ndimage

from synthmed.data.foreground import Box, whole_box
from synthmed.data.orientation import VIEWS, axis_codes, turn_affine, turn_box, turn_shape
from synthmed.data.schema import Geometry, Placement, Plan


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
