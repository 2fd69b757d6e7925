"""Bringing the slices of a turned volume to the store's pixel size and frame, and back."""

import math

import numpy as np
from scipy import ndimage

from synthmed.data.orientation import VIEWS, axis_codes, turn_affine, turn_shape
from synthmed.data.schema import Geometry, Placement, Plan


def plan_placement(geometry: Geometry, plan: Plan) -> Placement:
    """Return how a volume of this geometry is turned, resampled and centred in the plan's frame."""
    affine = np.asarray(geometry.affine)
    source, view = axis_codes(affine), VIEWS[plan.axis]
    shape = turn_shape(geometry.shape, source=source, target=view)
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
    )


def place(slices: np.ndarray, placement: Placement, size: tuple[int, int], *, order: int, fill: float) -> np.ndarray:
    """Resample turned slices `[h, w, ...]` and centre them in a frame, `[H, W, ...]`.

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


def unplace(framed: np.ndarray, placement: Placement, *, order: int, fill: float) -> np.ndarray:
    """Undo `place`: return turned slices `[h, w, ...]`; what had been cropped away comes back as `fill`."""
    resampled = np.full((*placement.resampled, *framed.shape[2:]), fill, framed.dtype)
    frame, own = _overlap(placement, framed.shape[:2])
    resampled[own] = framed[frame]
    return _resample(resampled, placement.shape[:2], 1.0 / np.asarray(placement.step), order)


def placed_affine(geometry: Geometry, placement: Placement) -> np.ndarray:
    """Return the affine of a case's prepared slices as a volume `[H, W, slices]`."""
    turned = turn_affine(
        np.asarray(geometry.affine),
        geometry.shape,
        source=placement.source_orientation,
        target=placement.orientation,
    )
    to_turned = np.eye(4)
    for axis in range(2):
        step = placement.step[axis]
        centre, own_centre = (placement.resampled[axis] - 1) / 2, (placement.shape[axis] - 1) / 2
        to_turned[axis, axis] = step
        to_turned[axis, 3] = own_centre - (centre + placement.start[axis]) * step
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


def _overlap(placement: Placement, size: tuple[int, ...]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    frame, own = [], []
    for start, pixels, extent in zip(placement.start, placement.resampled, size[:2], strict=True):
        first, last = max(start, 0), min(start + pixels, extent)
        frame.append(slice(first, last))
        own.append(slice(first - start, last - start))
    return (frame[0], frame[1]), (own[0], own[1])
