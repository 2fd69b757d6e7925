"""From prepared slices back to a case's own shape, orientation and units."""

import nibabel as nib
import numpy as np

from synthmed.data.orientation import turn
from synthmed.data.placement import unplace
from synthmed.data.schema import CaseRecord, Geometry, Normalisation, Placement


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
