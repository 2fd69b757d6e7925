"""Real cases of any format as files of nnU-Net's raw layout: `imagesTr/CASE_0000.nii.gz`, `labelsTr/CASE.nii.gz`."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from synthmed.data.readers import CaseFiles, Dataset
from synthmed.data.restore import as_nifti
from synthmed.data.schema import Geometry
from synthmed.data.volumes import NiftiSource, Source, Volume
from synthmed.errors import UserError

_CHECKSUM, _EXTRA, _NAME, _COMMENT = 2, 4, 8, 16
_FREE_TEXT = ("descrip", "aux_file", "intent_name", "db_name", "data_type")


def file_names(dataset: Dataset) -> dict[str, str]:
    """Return the name of each case's files: the case's own where that can be a file name.

    Raises:
        UserError: If two cases would have the same.
    """
    names = {case.case: re.sub(r"[^\w.+=-]", "_", case.case).lstrip(".") or "_" for case in dataset.cases}
    first: dict[str, str] = {}
    for case, name in names.items():
        if first.setdefault(name, case) != case:
            raise UserError(f"{dataset.path}: the cases {first[name]} and {case} would both be {name}: rename one")
    return names


def write_real_case(case: CaseFiles, dataset: Dataset, folder: Path, *, name: str) -> None:
    """Write a case's channels and label map with its own geometry.

    A NIfTI file that needs no change is copied, unless its header holds words: they may name a patient, as may the name
    that gzip keeps of the file, which is left out. All files of
    the case get the geometry of its first channel, since nnU-Net refuses what differs in the last digit.

    Args:
        case: The case.
        dataset: The set that it is of.
        folder: With `imagesTr` and `labelsTr`.
        name: Of the files.

    Raises:
        UserError: If a file cannot be read, the case has other channels than the set, or an unknown label value.
    """
    geometry = case.images[0].open().geometry
    number = 0
    for source in case.images:
        volume = source.open()
        targets = [
            folder / "imagesTr" / f"{name}_{channel:04d}.nii.gz" for channel in range(number, number + volume.channels)
        ]
        number += volume.channels
        if volume.channels == 1 and _can_be_copied(source, volume, geometry):
            _copy(source.path, targets[0])
            continue
        voxels = volume.voxels()
        for channel, target in enumerate(targets):
            save(voxels[..., channel], geometry, target)
    if number != len(dataset.channels):
        raise UserError(f"{case.images[0].path} has {number} channels, the data set {len(dataset.channels)}")
    _write_label(case, dataset, geometry, folder / "labelsTr" / f"{name}.nii.gz")


def save(array: np.ndarray, geometry: Geometry, target: Path) -> None:
    """Write an array `[X, Y, Z]` as NIfTI with a geometry; numbers of a type that NIfTI readers refuse become smaller.

    Voxels of 64 bits are 32 bits on disk, where they fit, else float64.
    """
    import nibabel

    if array.dtype in (np.int64, np.uint64):
        fits = array.size == 0 or (array.min() >= -(2**31) and array.max() < 2**31)
        array = array.astype(np.int32 if fits else np.float64)
    nibabel.save(as_nifti(array, geometry), target)


def _write_label(case: CaseFiles, dataset: Dataset, geometry: Geometry, target: Path) -> None:
    if case.label is None:
        raise UserError(f"{dataset.path}: case {case.case} has no label: add it or remove the image")
    volume = case.label.open()
    table = {value: index for index, value in enumerate(dataset.label_values)}
    if dataset.ignore_value is not None:
        table[dataset.ignore_value] = len(dataset.label_values)
    unchanged = all(value == index for value, index in table.items())
    if unchanged and volume.geometry.dtype == "uint8" and _can_be_copied(case.label, volume, geometry):
        _copy(case.label.path, target)
        return
    values = volume.voxels()[..., 0]
    indices = np.zeros(values.shape, np.uint8)
    known = np.zeros(values.shape, bool)
    for value, index in table.items():
        here = values == value
        indices[here] = index
        known |= here
    if not known.all():
        raise UserError(f"{case.label.path} has the value {values[~known][0]}, which the data set does not name")
    save(indices, geometry, target)


def _can_be_copied(source: Source, volume: Volume, geometry: Geometry) -> bool:
    if not isinstance(source, NiftiSource) or not source.path.name.endswith(".nii.gz"):
        return False
    # Both of the header's places have to agree, for readers differ in which of them they use.
    same_place = volume.geometry.model_copy(update={"dtype": geometry.dtype}) == geometry
    return same_place and _is_plain(source.path)


def _copy(path: Path, target: Path) -> None:
    """Copy a gzip file without the name and the day of the file that was compressed, which its header keeps.

    Source: RFC 1952, 2.3.
    """
    with path.open("rb") as given, target.open("wb") as made:
        header = given.read(10)
        flags = header[3]
        if flags & _EXTRA:
            given.read(int.from_bytes(given.read(2), "little"))
        for text in (_NAME, _COMMENT):
            while flags & text and given.read(1) not in (b"\0", b""):
                pass
        if flags & _CHECKSUM:
            given.read(2)
        made.write(header[:3] + bytes(5) + header[8:])
        shutil.copyfileobj(given, made)


def _is_plain(path: Path) -> bool:
    """Return whether a NIfTI file is single, three-dimensional and has no words in its header."""
    import nibabel

    image: Any = nibabel.load(path)
    words = any(np.asarray(image.header[field]).tobytes().strip(b"\0 ") for field in _FREE_TEXT)
    return isinstance(image, nibabel.Nifti1Image) and image.ndim == 3 and not words and not image.header.extensions
