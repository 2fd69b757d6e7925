"""A case's files as arrays."""

import numpy as np

from synthmed.data.readers.base import Case, CaseFiles
from synthmed.data.schema import Geometry
from synthmed.errors import UserError


def load_case(files: CaseFiles) -> Case:
    """Return a case's images and label map; all of them must have the same shape.

    Raises:
        UserError: If a file is missing, damaged, or does not fit the others of the case.
    """
    volumes = [source.open() for source in files.images]
    geometry = volumes[0].geometry
    for volume in volumes[1:]:
        if volume.geometry.shape != geometry.shape:
            raise UserError(f"{volume.path} has the shape {volume.geometry.shape}, {volumes[0].path} {geometry.shape}")
    images = np.concatenate([volume.voxels().astype(np.float32) for volume in volumes], axis=-1)
    return Case(case=files.case, images=images, labels=_labels(files, geometry), geometry=geometry)


def _labels(files: CaseFiles, geometry: Geometry) -> np.ndarray | None:
    if files.label is None:
        return None
    volume = files.label.open()
    if volume.geometry.shape != geometry.shape or volume.channels != 1:
        raise UserError(f"{volume.path} has the shape {volume.geometry.shape}, its image {geometry.shape}")
    values = volume.voxels()[..., 0]
    if values.dtype.kind == "f" and not np.array_equal(values, np.round(values)):
        raise UserError(f"{volume.path} has values that are no whole numbers: write class numbers")
    return values.astype(np.int64)
