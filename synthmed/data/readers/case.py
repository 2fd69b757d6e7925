"""A case's files as arrays."""

import numpy as np

from synthmed.data.readers.base import Case, CaseFiles
from synthmed.data.schema import Geometry
from synthmed.data.volumes import Volume
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
    return Case(case=files.case, images=_images(volumes), labels=_labels(files, geometry), geometry=geometry)


def _images(volumes: list[Volume]) -> np.ndarray:
    if len(volumes) == 1:
        return volumes[0].voxels().astype(np.float32, copy=False)
    # One file's voxels at a time beside the whole. As the files have them, x runs fastest: the other order would make
    # each file's values be gathered from all over the memory.
    shape = volumes[0].geometry.shape
    channels = [volume.channels for volume in volumes]
    images = np.empty((*shape, sum(channels)), np.float32, order="F")
    first = 0
    for volume in volumes:
        images[..., first : first + volume.channels] = volume.voxels()
        first += volume.channels
    return images


def _labels(files: CaseFiles, geometry: Geometry) -> np.ndarray | None:
    if files.label is None:
        return None
    volume = files.label.open()
    if volume.geometry.shape != geometry.shape or volume.channels != 1:
        raise UserError(f"{volume.path} has the shape {volume.geometry.shape}, its image {geometry.shape}")
    values = volume.voxels()[..., 0]
    if values.dtype.kind == "f" and not np.array_equal(values, np.round(values)):
        raise UserError(f"{volume.path} has values that are no whole numbers: write class numbers")
    # Whole numbers keep the type that the file has: int64 would take eight times the memory of most.
    return values if values.dtype.kind in "iu" else values.astype(np.int64)
