"""Reading a generated set back into the domain of a store, to blend it with real slices or to judge it."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from synthmed.data.formats import NiftiSource
from synthmed.data.formats.pictures import read_pages
from synthmed.data.geometry import turn
from synthmed.errors import UserError
from synthmed.files import read_json
from synthmed.memory import read_npz


class SyntheticSet:
    """The slices that `synthmed generate` wrote, in any of its formats, in the order of their cases' names.

    Args:
        folder: The set's folder.
        sidecars: The sidecar of each slice's case.
        cases: The name of each slice's case; that of a volume comes once for each of its slices.
        planes: Which slice of its case each is.
    """

    def __init__(self, folder: Path, *, sidecars: list[dict[str, Any]], cases: list[str], planes: list[int]):
        self.folder = folder
        self.planes = planes
        # The slices of a volume are asked for one by one: the last few files are kept.
        self._arrays = lru_cache(maxsize=8)(_read_npz)
        self._volumes = lru_cache(maxsize=8)(_read_volume)
        self.sidecars = sidecars
        self.cases = cases

    @classmethod
    def open(cls, folder: Path | str) -> "SyntheticSet":
        """Open a set by its sidecars, without reading an image.

        Raises:
            UserError: If the folder holds no sidecar of a synthetic case, or one cannot be read.
        """
        folder = Path(folder)
        inner = folder / "sidecars"
        paths = sorted((inner if inner.is_dir() else folder).glob("*.json"))
        found = [(path.stem, read_json(path)) for path in paths]
        cases = [(case, value) for case, value in found if isinstance(value, dict) and value.get("synthetic") is True]
        if not cases:
            raise UserError(f"{folder} holds no synthetic set (no sidecar): give a folder that synthmed generate wrote")
        for case, value in cases:
            missing = {"format", "template", "channels", "classes", "training_patients"} - set(value)
            if missing:
                raise UserError(f"sidecar of {case} in {folder} lacks {', '.join(sorted(missing))}: generate it again")
        for name in ("channels", "classes"):
            if any(value[name] != cases[0][1][name] for _, value in cases):
                raise UserError(f"cases of {folder} differ in their {name}: keep sets of different generators apart")
        slices = [
            (value, case, plane)
            for case, value in cases
            for plane in range(value["slices"] if value.get("unit") == "volume" else 1)
        ]
        sidecars, names, planes = (list(part) for part in zip(*slices, strict=True))
        return cls(folder, sidecars=sidecars, cases=names, planes=planes)

    def __len__(self) -> int:
        return len(self.cases)

    def subset(self, indices: np.ndarray) -> "SyntheticSet":
        """Return the set that holds these slices alone, in this order."""
        chosen = [int(index) for index in indices]
        return SyntheticSet(
            self.folder,
            sidecars=[self.sidecars[index] for index in chosen],
            cases=[self.cases[index] for index in chosen],
            planes=[self.planes[index] for index in chosen],
        )

    @property
    def training_hashes(self) -> set[str]:
        """Content hashes of the patients that the set's generators were trained on."""
        return {patient for sidecar in self.sidecars for patient in sidecar["training_patients"]}

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels; empty for a set of label maps alone."""
        return tuple(self.sidecars[0]["channels"])

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, background first."""
        return tuple(self.sidecars[0]["classes"])

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of its first slice."""
        rows, columns = self.labels(np.array([0])).shape[1:]
        return rows, columns

    def images(self, indices: np.ndarray | None = None) -> np.ndarray:
        """Return float32 [n, H, W, C] in [-1, 1] of the chosen cases, or of all.

        Raises:
            UserError: If the set has no images, or one cannot be read or has another shape than the others.
        """
        if not self.channels:
            raise UserError(f"{self.folder} holds label maps alone: generate with a 'base' or 'cond' generator")
        return self._stack(self._image, indices)

    def labels(self, indices: np.ndarray | None = None) -> np.ndarray:
        """Return uint8 [n, H, W] of class indices of the chosen cases, or of all.

        Raises:
            UserError: If a label map cannot be read or has another shape than the others.
        """
        return self._stack(self._label, indices).astype(np.uint8)

    def _stack(self, read, indices: np.ndarray | None) -> np.ndarray:
        chosen = np.arange(len(self)) if indices is None else np.asarray(indices)
        arrays = [read(int(index)) for index in chosen]
        for index, array in zip(chosen, arrays, strict=True):
            if array.shape != arrays[0].shape:
                raise UserError(
                    f"case {self.cases[int(index)]} in {self.folder} has shape {array.shape}, "
                    f"others {arrays[0].shape}: a set has one shape"
                )
        return np.stack(arrays)

    def _image(self, index: int) -> np.ndarray:
        case, sidecar = self.cases[index], self.sidecars[index]
        if sidecar["format"] == "npz":
            return self._array(index, "image").astype(np.float32)
        if sidecar["format"] == "png":
            return _read_pictures(self.folder / "images", case, sidecar)
        planes = []
        for channel, (scale, offset) in enumerate(
            zip(sidecar["template"]["scale"], sidecar["template"]["offset"], strict=True)
        ):
            path = self.folder / "imagesTr" / f"{case}_{channel:04d}.nii.gz"
            planes.append((self._plane(path, index) - offset) / (scale or 1.0))
        return np.stack(planes, axis=-1).astype(np.float32)

    def _label(self, index: int) -> np.ndarray:
        case, sidecar = self.cases[index], self.sidecars[index]
        if sidecar["format"] == "npz":
            return self._array(index, "label")
        if sidecar["format"] == "png":
            return _read_picture(self.folder / "labels" / f"{case}.png")
        return self._plane(self.folder / "labelsTr" / f"{case}.nii.gz", index)

    def _array(self, index: int, key: str) -> np.ndarray:
        array = self._arrays(self.folder / f"{self.cases[index]}.npz", key)
        return array[self.planes[index]] if self.sidecars[index].get("unit") == "volume" else array

    def _plane(self, path: Path, index: int) -> np.ndarray:
        template = self.sidecars[index]["template"]
        return self._volumes(path, template["orientation"], template["axes"])[:, :, self.planes[index]]


def _read_npz(path: Path, key: str) -> np.ndarray:
    try:
        return read_npz(path, (key,))[key]
    except UserError:
        raise
    except Exception as error:
        raise _unreadable(path, error) from error


def _read_volume(path: Path, orientation: str, axes: str) -> np.ndarray:
    volume = NiftiSource(path).open().voxels()[..., 0]
    return turn(volume.astype(np.float64), source=orientation, target=axes)


def _read_pictures(folder: Path, case: str, sidecar: dict[str, Any]) -> np.ndarray:
    whole = folder / f"{case}.png"
    if whole.is_file():
        picture = _read_picture(whole)
        planes = picture[..., np.newaxis] if picture.ndim == 2 else picture
    else:
        names = [folder / f"{case}_{channel:04d}.png" for channel in range(len(sidecar["channels"]))]
        planes = np.stack([_read_picture(name) for name in names], axis=-1)
    return (planes.astype(np.float64) / (2 ** sidecar["bits"] - 1) * 2.0 - 1.0).astype(np.float32)


def _read_picture(path: Path) -> np.ndarray:
    page = read_pages(path, mask=False, coloured=False)[0]
    return page[..., 0] if page.shape[-1] == 1 else page


def _unreadable(path: Path, error: Exception) -> UserError:
    # Every library has its own errors for a damaged file; to the user they are one.
    reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
    return UserError(f"{path} cannot be read ({reason}): generate the set again")
