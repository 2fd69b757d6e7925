"""Label maps that a user gives a conditional generator instead of those it would draw itself."""

import hashlib
from pathlib import Path

import numpy as np

from synthmed.data.synthetic import SyntheticSet
from synthmed.data.volumes import NiftiSource, picture_header
from synthmed.data.volumes.picture_files import read_pages
from synthmed.errors import UserError
from synthmed.generation.drawing import Conditions
from synthmed.memory import npz_shape, read_npz

SUFFIXES = (".nii.gz", ".nii", ".npz", ".png")


def chosen_masks(masks: str) -> Path | str:
    """Return what `--masks` names: `generated`, `deformed`, or a folder.

    Raises:
        UserError: If it names no folder.
    """
    if masks in ("generated", "deformed"):
        return masks
    if not Path(masks).is_dir():
        raise UserError(f"--masks {masks} is no folder: write generated, deformed, or a folder of label maps")
    return Path(masks)


class MaskFolder:
    """The label maps of a folder, in the order of their names; item `i` of a set takes map `i` modulo their number.

    Args:
        folder: A generated set, whose label maps are turned back to how they were drawn; or a folder of `.nii.gz`,
            `.nii` or `.png` files, or `.npz` files with the key `label`: class indices as rows and columns.
        size: (H, W) that the generator takes.
        classes: Number of classes that it knows, background included.

    Raises:
        UserError: If the folder holds no label map.
    """

    def __init__(self, folder: Path, *, size: tuple[int, int], classes: int):
        self.folder = folder
        self.size = size
        self.classes = classes
        self.generated = _generated(folder)
        inner = [folder / name for name in ("labelsTr", "labels") if (folder / name).is_dir()]
        files = sorted((inner[0] if inner else folder).iterdir())
        self.files = [path for path in files if path.name.endswith(SUFFIXES)]
        if not self.files:
            raise UserError(f"{folder} holds no label map: put {', '.join(SUFFIXES)} files there")

    def take(self, first: int, seeds: np.ndarray) -> Conditions:
        """Return the maps of the cases from number `first` on; see `MaskSource.take`.

        Raises:
            UserError: If a file cannot be read, has another size or names a class that the generator does not know.
        """
        items = range(first, first + len(seeds))
        if self.generated is None:
            maps = [
                self._checked(path, read_label_map(path, self.size))
                for path in (self.files[i % len(self.files)] for i in items)
            ]
        else:
            count = len(self.generated)
            drawn = self.generated.labels(np.array([item % count for item in items]))
            maps = [self._checked(self.folder, one) for one in drawn]
        # A hash, since the name of a user's file may name a patient.
        return Conditions(np.stack(maps), [f"given:{hashlib.sha256(one.tobytes()).hexdigest()}" for one in maps])

    def _checked(self, path: Path, values: np.ndarray) -> np.ndarray:
        _check_shape(path, values.shape, self.size)
        values = values.reshape(self.size)
        if not np.array_equal(values, np.rint(values)) or values.min() < 0 or values.max() >= self.classes:
            raise UserError(f"{path} holds other values than the class indices 0 to {self.classes - 1}")
        return values.astype(np.uint8)


def _generated(folder: Path) -> SyntheticSet | None:
    """Return the set that `generate` wrote to a folder, or None where it wrote none there."""
    if not (folder / "dataset_description.json").is_file():
        return None
    return SyntheticSet.open(folder)


def read_label_map(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Return the array of a label file, `size` but for axes of length 1; no other is read beyond its header.

    Raises:
        UserError: If it has another size or cannot be read.
    """
    try:
        if path.name.endswith((".nii.gz", ".nii")):
            volume = NiftiSource(path).open()
            _check_shape(path, (*volume.geometry.shape, volume.channels), size)
            return volume.voxels()
        if path.suffix == ".npz":
            _check_shape(path, npz_shape(path, "label"), size)
            return read_npz(path, ("label",))["label"]
        header = picture_header(path)
        _check_shape(path, (header.rows, header.columns), size)
        return read_pages(path, mask=True, coloured=False)[0]
    except UserError:
        raise
    except KeyError:
        raise UserError(f"{path} has no array named label") from None
    except Exception as error:
        # NumPy and zip archives have families of errors of their own for a damaged file.
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise UserError(f"{path} cannot be read as a label map ({reason}): write it anew") from error


def _check_shape(path: Path, shape: tuple[int, ...], size: tuple[int, int]) -> None:
    if tuple(extent for extent in shape if extent != 1) != tuple(size):
        wanted, found = ("x".join(map(str, one)) for one in (size, shape))
        raise UserError(f"{path} is {found}, the generator takes {wanted}: resample it")
