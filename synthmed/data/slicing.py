"""From a case to its slices in store domain, as a plan asks, and back to its own shape, orientation and units."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import nibabel as nib
import numpy as np

from synthmed.data.geometry import cropped, place, plan_placement, turn, unplace
from synthmed.data.intensities import content_box, correct_bias, scale_and_offset, scale_into
from synthmed.data.parallel import WORKERS
from synthmed.data.readers import Case
from synthmed.data.schema import IGNORE, CaseRecord, Geometry, Normalisation, Placement, Plan
from synthmed.errors import UserError

AIR = -1.0
"""Prepared value outside the source image: the lowest there is."""
# Voxels that a thread scales and resamples at a time.
_BLOCK = 2**21


@dataclass(frozen=True)
class PreparedCase:
    """A case as slices in store domain.

    Attributes:
        images: float32 `[n, H, W, C]` in [-1, 1].
        labels: Class indices, uint8 `[n, H, W]`, `IGNORE` where not known; None where the case has none.
        normalisation: How intensities return.
        placement: How slices return.
    """

    images: np.ndarray
    labels: np.ndarray | None
    normalisation: Normalisation
    placement: Placement


def prepare_case(case: Case, plan: Plan) -> PreparedCase:
    """Return a case's slices as a plan asks; the case stays as it is.

    Beside the case and the result there is never more than one channel of it in memory.

    Raises:
        UserError: If the case has other channels or label values than the plan.
    """
    if case.images.shape[-1] != plan.channels:
        raise UserError(f"{case.case} has {case.images.shape[-1]} channels, the plan asks for {plan.channels}")
    placement = plan_placement(case.geometry, plan, content_box(case.images) if plan.crop else None)
    images = np.empty((placement.shape[2], *plan.size, plan.channels), np.float32)
    fitted: list[tuple[float, float]] = []
    lowest: list[float] = []
    for channel, scaling in enumerate(plan.intensities):
        values = case.images[..., channel]
        if plan.bias_correction:
            values = correct_bias(values, case.geometry.zooms)
        # To the whole, so that cropping changes no intensity and margins return as they were.
        fitted.append(scale_and_offset(values, scaling))
        lowest.append(float(values.min()))
        scale, offset = fitted[-1]
        # Distances from the mean leave room below the air of the image, which would then end at a visible edge.
        air = max(AIR, (lowest[-1] - offset) / scale) if scaling.method == "zscore" else AIR
        _place_channel(images[..., channel], _turned(values, placement), placement, fitted[-1], air)
    labels = None
    if case.labels is not None:
        labels = _place_labels(_turned(case.labels, placement), placement, plan, case.case)
    scales, offsets = zip(*fitted, strict=True)
    normalisation = Normalisation(scale=scales, offset=offsets)
    if placement.whole is not None:
        placement = placement.model_copy(update={"margin": tuple(lowest)})
    return PreparedCase(images=images, labels=labels, normalisation=normalisation, placement=placement)


def _turned(volume: np.ndarray, placement: Placement) -> np.ndarray:
    return cropped(turn(volume, source=placement.source_orientation, target=placement.orientation), placement)


def _place_channel(
    target: np.ndarray, values: np.ndarray, placement: Placement, fitted: tuple[float, float], air: float
) -> None:
    """Write one channel `[h, w, n]` in the source's units to `target`, `[n, H, W]`, some slices at a time.

    Args:
        target: Slices in store domain.
        values: The turned and cropped volume.
        placement: How slices are placed in their frame.
        fitted: Scale and offset.
        air: Prepared value outside the volume.
    """

    def work(some: slice) -> None:
        block = values[:, :, some]
        scaled = np.empty(block.shape, np.float32)
        scale_into(scaled, block, *fitted)
        placed = place(scaled, placement, target.shape[1:3], order=3, fill=air)
        # Cubic splines overshoot at edges.
        target[some] = np.moveaxis(np.clip(placed, -1.0, 1.0), 2, 0)

    _some_at_a_time(values, work)


def _place_labels(values: np.ndarray, placement: Placement, plan: Plan, name: str) -> np.ndarray:
    """Return class indices uint8 `[n, H, W]` of turned label values `[h, w, n]`, some slices at a time."""
    placed = np.empty((values.shape[2], *plan.size), np.uint8)

    def work(some: slice) -> None:
        framed = place(_indices_of(values[:, :, some], name, plan), placement, plan.size, order=0, fill=0)
        placed[some] = np.moveaxis(framed, 2, 0)

    _some_at_a_time(values, work)
    return placed


def _some_at_a_time(volume: np.ndarray, work: Callable[[slice], None]) -> None:
    """Call `work` with every part of the slices of `[h, w, n]`; a large case keeps all cores busy by itself."""
    some = max(1, _BLOCK // (volume.shape[0] * volume.shape[1]))
    parts = [slice(first, first + some) for first in range(0, volume.shape[2], some)]
    if len(parts) == 1:
        work(parts[0])
        return
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(work, parts))


def _indices_of(labels: np.ndarray, name: str, plan: Plan) -> np.ndarray:
    values = np.asarray(plan.label_values)
    position = np.searchsorted(values, labels)
    known = values[np.minimum(position, len(values) - 1)] == labels
    if plan.ignore_value is not None:
        ignored = labels == plan.ignore_value
        position[ignored] = IGNORE
        known |= ignored
    if not known.all():
        value = int(labels[~known].flat[0])
        raise UserError(f"{name}: the label value {value} is not among {', '.join(map(str, plan.label_values))}")
    return position.astype(np.uint8)


def restore_images(record: CaseRecord, images: np.ndarray) -> np.ndarray:
    """Return prepared images `[slices, H, W, C]` as float32 `[X, Y, Z, C]` in the source's units.

    Margins without content come back with their own intensity, what else was cropped away as the lowest, and what was
    clipped stays clipped.
    """
    _check(record, images)
    fill = np.full(images.shape[-1], -1.0, np.float32)
    if record.placement.margin is not None:
        scale, offset = np.asarray(record.normalisation.scale), np.asarray(record.normalisation.offset)
        fill = np.clip((np.asarray(record.placement.margin) - offset) / scale, -1.0, 1.0).astype(np.float32)
    turned = unplace(np.moveaxis(images.astype(np.float32), 0, 2), record.placement, order=3, fill=fill)
    source = _turn_back(record.placement, np.clip(turned, -1.0, 1.0))
    return denormalise(source, record.normalisation)


def restore_labels(record: CaseRecord, labels: np.ndarray) -> np.ndarray:
    """Return prepared class indices `[slices, H, W]` as uint8 `[X, Y, Z]`; what was cropped away is background."""
    _check(record, labels)
    turned = unplace(np.moveaxis(labels.astype(np.uint8), 0, 2), record.placement, order=0, fill=0)
    return _turn_back(record.placement, turned)


def denormalise(images: np.ndarray, normalisation: Normalisation) -> np.ndarray:
    """Return prepared intensities `[..., C]` in the source's units, float32."""
    scale, offset = np.asarray(normalisation.scale), np.asarray(normalisation.offset)
    return (images * scale + offset).astype(np.float32)


def as_nifti(array: np.ndarray, geometry: Geometry) -> nib.Nifti1Image:
    """Return an array `[X, Y, Z, ...]` as a NIfTI image with the affine, codes, zooms and units of a source."""
    image = nib.Nifti1Image(array, np.asarray(geometry.affine))
    header = image.header
    header.set_xyzt_units(*geometry.xyzt_units)
    image.set_sform(np.asarray(geometry.affine), geometry.sform_code)
    if geometry.qform is not None:
        image.set_qform(np.asarray(geometry.qform), geometry.qform_code)
    else:
        # Code 0 says that there is no qform, but its zooms hold all the same.
        image.set_qform(None, 0)
    header.set_zooms((*geometry.zooms, *header.get_zooms()[3:]))
    return image


def _turn_back(placement: Placement, turned: np.ndarray) -> np.ndarray:
    back = turn(turned, source=placement.orientation, target=placement.source_orientation)
    return np.ascontiguousarray(back)


def _check(record: CaseRecord, slices: np.ndarray) -> None:
    if len(slices) != record.slices:
        raise ValueError(f"{record.case} has {record.slices} slices, got {len(slices)}")
