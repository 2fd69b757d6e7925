"""NRRD and MetaImage files as arrays and geometry, through SimpleITK."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from synthmed.data.formats.base import DEFLATE_RATIO, damaged, file_keys
from synthmed.data.geometry import LPS_TO_RAS, axis_codes
from synthmed.data.schema import Geometry, as_matrix
from synthmed.errors import UserError
from synthmed.memory import check_memory

_META_ENDINGS = (".mha", ".mhd")
ITK_ENDINGS = (".nrrd", ".nhdr", *_META_ENDINGS)
# bzip2 cannot shrink data further than about 46 000 : 1; text needs two bytes a voxel.
_LARGEST_RATIOS = {
    **dict.fromkeys(("gzip", "gz"), DEFLATE_RATIO),
    **dict.fromkeys(("bzip2", "bz2"), 50_000),
    **dict.fromkeys(("text", "txt", "ascii"), 4),
    "raw": 1,
}
_HEADER_BYTES = 1 << 16
_MOST_AXES, _MOST_CHANNELS = 4, 256


@dataclass(frozen=True)
class ItkSource:
    """A NRRD or MetaImage file; one with a detached header names its data file.

    Attributes:
        path: The file, or the header.
    """

    path: Path

    @property
    def files(self) -> dict[str, Path]:
        """The file, and its data file where that is another, by the names of their folder and themselves."""
        try:
            found = [self.path, *_data_files(self.path)]
        except (OSError, UserError):
            # What is wrong is told when it is opened.
            found = [self.path]
        return file_keys(found)

    def open(self) -> "ItkVolume":
        """Read the header; see `Source.open`."""
        return ItkVolume(self.path)


class ItkVolume:
    """An opened NRRD or MetaImage file whose voxels are not read yet.

    Attributes:
        path: The file.
        geometry: Where the volume lies, in RAS+ and mm.
        channels: Components of a voxel, or the length of a fourth axis.
    """

    def __init__(self, path: Path):
        import SimpleITK

        self.path = path
        if not path.is_file():
            raise UserError(f"{path} does not exist: put the file back")
        if path.suffix != path.suffix.lower() and path.suffix.lower() in _META_ENDINGS:
            raise UserError(
                f"{path} has an ending that ITK reads in small letters alone: rename it to {path.suffix.lower()}"
            )
        _check_header(path)
        reader = SimpleITK.ImageFileReader()
        reader.SetFileName(str(path))
        SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
        try:
            reader.ReadImageInformation()
            pixel = SimpleITK.GetPixelIDValueAsString(reader.GetPixelID())
            size = [int(extent) for extent in reader.GetSize()]
            components = int(reader.GetNumberOfComponents())
            places = (reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection())
        except (RuntimeError, OverflowError, MemoryError) as error:
            raise damaged(path, itk_reason(error)) from None
        if "complex" in pixel or "label" in pixel:
            raise UserError(f"{path} stores {pixel} voxels: convert them to whole or real numbers")
        if not 2 <= len(size) <= _MOST_AXES or 0 in size or (len(size) == _MOST_AXES and components > 1):
            raise UserError(f"{path} has the size {size}: an image has 2 or 3 axes and perhaps channels as a fourth")
        self._dtype = _numpy_type(pixel)
        if self._dtype is None:
            raise damaged(path, f"voxels of the type {pixel!r}")
        claimed = int(np.prod(size, dtype=object)) * components * np.dtype(self._dtype).itemsize
        stored = sum(file.stat().st_size for file in _data_files(path) or [path])
        if claimed > stored * _largest_ratio(path) or components > _MOST_CHANNELS:
            raise damaged(path, "it is shorter than its header says")
        # SimpleITK's image, the array made of it, and that as float32.
        copies = 2 * claimed + (
            claimed * 4 // np.dtype(self._dtype).itemsize if np.dtype(self._dtype).kind == "f" else 0
        )
        check_memory(path, copies)
        self._reader = reader
        self._size = size
        self.channels = size[3] if len(size) == _MOST_AXES else components
        self.geometry = self._geometry(*places)

    def _geometry(self, spacing: Any, origin: Any, direction: Any) -> Geometry:
        axes = len(self._size)
        kept = min(axes, 3)
        affine = np.eye(4)
        turns = np.asarray(direction, float).reshape(axes, axes)[:kept, :kept]
        affine[:kept, :kept] = turns * np.asarray(spacing, float)[:kept]
        affine[:kept, 3] = np.asarray(origin, float)[:kept]
        affine = LPS_TO_RAS @ affine
        try:
            axis_codes(affine)
        except (ValueError, np.linalg.LinAlgError):
            raise UserError(f"{self.path} has an affine that gives an axis no direction: mend its header") from None
        shape = (*self._size[:3], 1)[:3]
        zooms = np.linalg.norm(affine[:3, :3], axis=0)
        return Geometry(
            shape=(shape[0], shape[1], shape[2]),
            affine=as_matrix(affine),
            zooms=(float(zooms[0]), float(zooms[1]), float(zooms[2])),
            xyzt_units=("mm", "unknown"),
            sform_code=1,
            dtype=str(np.dtype(self._dtype)),
        )

    def voxels(self) -> np.ndarray:
        """Read the voxels as float32 or, where the file stores whole numbers, that type: `[X, Y, Z, C]`.

        Raises:
            UserError: If the file is truncated or damaged.
        """
        import SimpleITK

        try:
            array = SimpleITK.GetArrayFromImage(self._reader.Execute())
        except (RuntimeError, OverflowError, MemoryError) as error:
            raise damaged(self.path, itk_reason(error)) from None
        # SimpleITK gives (channels as a fourth axis,) slices, rows, columns(, components).
        if len(self._size) == _MOST_AXES:
            array = np.moveaxis(array, 0, -1)
        elif array.ndim == len(self._size):
            array = array[..., np.newaxis]
        if len(self._size) == 2:
            array = array[np.newaxis]
        array = array.transpose(2, 1, 0, 3)
        if array.dtype.kind == "f":
            # Beyond float32 becomes infinite and is then told as such.
            with np.errstate(over="ignore"):
                array = array.astype(np.float32)
        return array


def _numpy_type(pixel: str) -> type[np.generic] | None:
    bits = re.search(r"(\d+)-bit (signed|unsigned|float)", pixel)
    if bits is None:
        return None
    kind = {"signed": "int", "unsigned": "uint", "float": "float"}[bits[2]]
    return getattr(np, f"{kind}{bits[1]}", None)


def _header_text(path: Path) -> str:
    with open(path, "rb") as file:
        start = file.read(_HEADER_BYTES)
    # NRRD's text ends with an empty line, MetaImage's with the line that names the data.
    return re.split(rb"\r?\n\r?\n", start, maxsplit=1)[0].decode("latin-1")


def _check_header(path: Path) -> None:
    """Refuse what MetaIO would not survive: it copies as many sizes as a header has into a short array."""
    text = _header_text(path)
    if path.suffix.lower() in _META_ENDINGS:
        axes = re.search(r"(?im)^\s*NDims\s*=\s*(\S+)", text)
        sizes = re.search(r"(?im)^\s*DimSize\s*=\s*(.+)$", text)
        channels = re.search(r"(?im)^\s*ElementNumberOfChannels\s*=\s*(\S+)", text)
        counts = [axes[1] if axes else "", *(sizes[1].split() if sizes else []), channels[1] if channels else "1"]
        if not all(re.fullmatch(r"[1-9]\d{0,8}", count) for count in counts) or len(counts) != int(counts[0]) + 2:
            raise damaged(path, "its header does not say how many voxels it has")
        packed = re.search(r"(?im)^\s*CompressedDataSize\s*=\s*(\S+)", text)
        stored = sum(file.stat().st_size for file in _data_files(path) or [path])
        # So much memory is taken before anything is read.
        if packed and not (packed[1].isdecimal() and int(packed[1]) <= stored):
            raise damaged(path, "it is shorter than its header says")
    elif not text.startswith("NRRD000"):
        raise damaged(path, "its header is not that of a NRRD file")
    _data_files(path)


def _largest_ratio(path: Path) -> int:
    text = _header_text(path)
    if path.suffix.lower() in _META_ENDINGS:
        if re.search(r"(?im)^\s*CompressedData\s*=\s*(?:True|T|1|Y)", text):
            return _LARGEST_RATIOS["gzip"]
        return _LARGEST_RATIOS["raw" if not re.search(r"(?im)^\s*BinaryData\s*=\s*(?:False|F)", text) else "text"]
    encoding = re.search(r"(?im)^encoding\s*:\s*(\w+)", text)
    return _LARGEST_RATIOS.get(encoding[1].lower() if encoding else "raw", 1)


def _data_files(path: Path) -> list[Path]:
    """Return the files beside a header that hold its voxels; none where they follow the header.

    Raises:
        UserError: If they are missing, or lie in another folder: a data set must not lead to other files.
    """
    named = re.search(r"(?im)^\s*(?:ElementDataFile\s*=|data ?file\s*:)\s*(.+?)\s*$", _header_text(path))
    if named is None or named[1].upper() == "LOCAL":
        return []
    if re.match(r"(?i)LIST\b", named[1]) or "%" in named[1]:
        raise UserError(f"{path} lists several data files: write the volume into one .mha or .nrrd file")
    file = path.parent / named[1].replace("\0", "")
    if file.resolve().parent != path.parent.resolve():
        raise UserError(f"{path} names a data file in another folder: put it beside the header and name it alone")
    if not file.is_file():
        raise UserError(f"{path} names the data file {named[1]}, which does not exist: put it beside the header")
    return [file]


def itk_reason(error: BaseException) -> str:
    """Return what is wrong from an error of SimpleITK, without C++ source lines and objects' addresses."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [re.sub(r"^(sitk::|ITK )ERROR: |\w+\(0x[0-9a-f]+\): ", "", line) for line in lines]
    told = [line for line in told if not line.startswith(("Exception thrown", "Reason:"))]
    return told[-1] if told else type(error).__name__
