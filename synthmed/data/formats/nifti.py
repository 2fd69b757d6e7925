"""NIfTI files as arrays and geometry."""

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from synthmed.data.formats.base import DEFLATE_RATIO, damaged, file_keys
from synthmed.data.geometry import axis_codes
from synthmed.data.schema import Geometry, as_matrix
from synthmed.errors import UserError
from synthmed.memory import check_memory

# What may lie between a header and its voxels, and what is read to find out.
_LARGEST_EXTENSIONS = 64 << 20
_START = 1 << 16
NIFTI_ENDINGS = (".nii.gz", ".nii")
_DAMAGED = (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, zlib.error, OverflowError, KeyError)


@dataclass(frozen=True)
class NiftiSource:
    """A NIfTI file.

    Attributes:
        path: The file.
    """

    path: Path

    @property
    def files(self) -> dict[str, Path]:
        """The file by the names of its folder and itself."""
        return file_keys([self.path])

    def open(self) -> "NiftiVolume":
        """Read the header; see `Source.open`."""
        return NiftiVolume(self.path)


class NiftiVolume:
    """An opened NIfTI file whose voxels are not read yet.

    Attributes:
        path: The file.
        geometry: Where the volume lies.
        channels: Length of its fourth axis, 1 where it has none.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            _check_start(path)
            image: Any = nib.load(path)
        except FileNotFoundError:
            raise UserError(f"{path} does not exist: put the file back") from None
        except _DAMAGED as error:
            raise damaged(path, error) from None
        if not isinstance(image, nib.Nifti1Image):
            raise UserError(f"{path} is no NIfTI file: convert it to .nii.gz")
        self._image = image
        shape = tuple(int(extent) for extent in image.shape)
        while len(shape) > 4 and shape[-1] == 1:
            shape = shape[:-1]
        if not 2 <= len(shape) <= 4 or 0 in shape:
            raise UserError(f"{path} has the shape {shape}: an image has 2 or 3 axes and perhaps channels as a fourth")
        if image.get_data_dtype().kind not in "iuf":
            raise UserError(f"{path} stores {image.get_data_dtype()} voxels: convert them to whole or real numbers")
        stored, packed = path.stat().st_size, path.name.lower().endswith(".gz")
        claimed = int(np.prod(shape, dtype=object)) * image.get_data_dtype().itemsize
        if claimed > stored * (DEFLATE_RATIO if packed else 1):
            raise damaged(path, "it is shorter than its header says")
        if packed and stored > claimed + 2 * _LARGEST_EXTENSIONS:
            raise damaged(path, "it is longer than its header says")
        check_memory(path, int(np.prod(shape, dtype=object)) * self._bytes())
        self.channels = shape[3] if len(shape) == 4 else 1
        self.geometry = self._geometry(shape)

    def _geometry(self, shape: tuple[int, ...]) -> Geometry:
        header = self._image.header
        affine = self._image.affine
        try:
            axis_codes(affine)
        except (ValueError, np.linalg.LinAlgError):
            raise UserError(f"{self.path} has an affine that gives an axis no direction: mend its header") from None
        qform_code = int(header["qform_code"])
        zooms = [float(abs(value)) for value in header.get_zooms()[:3]] + [1.0]
        try:
            qform = header.get_qform() if qform_code > 0 else None
            units = header.get_xyzt_units()
        except _DAMAGED as error:
            raise damaged(self.path, error) from None
        return Geometry(
            shape=(shape[0], shape[1], shape[2] if len(shape) > 2 else 1),
            affine=as_matrix(affine),
            qform=None if qform is None else as_matrix(qform),
            zooms=(zooms[0], zooms[1], zooms[2]),
            xyzt_units=(str(units[0]), str(units[1])),
            qform_code=qform_code,
            sform_code=int(header["sform_code"]),
            dtype=self._stored_as(),
        )

    def _bytes(self) -> int:
        """Return how many bytes a voxel takes while it is read: as stored, scaled in float64, and as float32."""
        dtype = self._image.get_data_dtype()
        proxy: Any = self._image.dataobj
        scaled = (proxy.slope, proxy.inter) != (1.0, 0.0)
        return int(dtype.itemsize + 8 * scaled + 4 * (scaled or dtype.kind == "f"))

    def _stored_as(self) -> str:
        dtype = self._image.get_data_dtype().newbyteorder("=")
        proxy: Any = self._image.dataobj
        # Whole numbers with a scale stand for fractions: written as whole numbers again they would be rounded away.
        scaled = dtype.kind in "iu" and (proxy.slope, proxy.inter) != (1.0, 0.0)
        return "float32" if scaled else str(dtype)

    def voxels(self) -> np.ndarray:
        """Read the voxels as float32 or, where the file stores whole numbers unscaled, that type: `[X, Y, Z, C]`.

        Raises:
            UserError: If the file is truncated or damaged.
        """
        try:
            array = np.asarray(self._image.dataobj)
        except _DAMAGED as error:
            raise damaged(self.path, error) from None
        if array.dtype.kind == "f":
            # Beyond float32 becomes infinite and is then told as such.
            with np.errstate(over="ignore"):
                array = array.astype(np.float32)
        return array.reshape(*self.geometry.shape, self.channels)


def _check_start(path: Path) -> None:
    """Refuse a file that the library would read for ever, or fill memory with, before it comes to the voxels."""
    with open(path, "rb") as file:
        header = start = file.read(_START)
    if path.name.lower().endswith(".gz"):
        inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)
        header = inflate.decompress(start, _START)
        rest = path.stat().st_size - len(start) + len(inflate.unused_data)
        # Python steps over what follows a compressed stream byte by byte.
        if inflate.eof and not inflate.unused_data.startswith(b"\x1f\x8b") and rest > _START:
            raise damaged(path, "it is longer than its header says")
    for order in "<>":
        for size, where, code in ((348, 108, "f"), (540, 168, "q")):
            if header[:4] == struct.pack(f"{order}i", size) and len(header) >= where + 8:
                (begin,) = struct.unpack_from(f"{order}{code}", header, where)
                if not begin <= _LARGEST_EXTENSIONS:
                    raise damaged(path, "its voxels begin too far behind its header")
