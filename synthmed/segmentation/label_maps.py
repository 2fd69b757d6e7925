"""Label maps as files: which files of a folder are some, what case they belong to, and what they hold."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synthmed.data.readers import Dataset, read_dataset
from synthmed.data.volumes import PictureSource, Source, ending_of, source_of
from synthmed.errors import UserError


@dataclass(frozen=True)
class LabelMap:
    """Values of one label map and where they lie.

    Attributes:
        values: Integers, `[X, Y, Z]`.
        spacing: Size of an element along each axis, in mm where the file says so.
        affine: Index to world, or None where the file type carries no geometry.
    """

    values: np.ndarray
    spacing: tuple[float, float, float]
    affine: np.ndarray | None


def find_label_maps(path: Path | str) -> dict[str, Source]:
    """Return {case: label map} of a label file, of a folder of them, or of the `labelsTr` of a data set folder.

    Raises:
        UserError: If there is none, or two files belong to one case.
    """
    path = Path(path)
    if path.is_file():
        return {_case_name(path): source_of(path, mask=True)}
    if not path.is_dir():
        raise UserError(f"{path} does not exist: give a label map or a folder of them")
    folder = path / "labelsTr" if (path / "labelsTr").is_dir() else path
    found: dict[str, Source] = {}
    for file in _image_files(folder):
        case = _case_name(file)
        if case in found:
            raise UserError(f"{file} and {found[case].path.name} are of one case: keep one of them")
        found[case] = source_of(file, mask=True)
    if not found:
        raise UserError(f"{folder} holds no label maps that can be read, as .nii.gz or .png")
    return found


def labelled_dataset(path: Path) -> Dataset | None:
    """Return the data set in a folder where its reader finds label maps beside images; else None.

    Raises:
        UserError: Why its reader fails, where the folder holds no label files of its own either.
    """
    if not path.is_dir() or (path / "labelsTr").is_dir():
        # Of the layouts with a description the label maps are enough, and their images may be elsewhere.
        return None
    try:
        dataset = read_dataset(path)
    except UserError:
        # A folder of label maps alone need not be a data set.
        if not _image_files(path):
            raise
        return None
    return dataset if any(case.label for case in dataset.cases) else None


def read_label_map(source: Source) -> LabelMap:
    """Read a label map.

    Raises:
        UserError: If it cannot be read, has channels, or holds values that are no whole numbers.
    """
    volume = source.open()
    if volume.channels != 1:
        raise UserError(f"{volume.path} has {volume.channels} channels: give one class number an element")
    values = volume.voxels()[..., 0]
    if values.dtype.kind == "f":
        whole = np.rint(values)
        if not np.array_equal(whole, values):
            raise UserError(f"{volume.path} is no label map: it holds values that are no whole numbers")
        values = whole.astype(np.int64)
    geometry = volume.geometry
    placed = None if isinstance(source, PictureSource) else np.asarray(geometry.affine)
    return LabelMap(values, geometry.zooms, placed)


def _image_files(folder: Path) -> list[Path]:
    """Return the files of a folder whose names end as those of images do, sorted."""
    files = (file for file in folder.iterdir() if not file.name.startswith(".") and file.is_file())
    return sorted(file for file in files if ending_of(file.name) is not None)


def _case_name(path: Path) -> str:
    """Return the file's name without the ending of an image format."""
    return path.name.removesuffix(ending_of(path.name) or path.suffix)
