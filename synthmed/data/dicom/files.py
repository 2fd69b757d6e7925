"""Opening DICOM files, also those that are deflated as a whole, whose few bytes may stand for gigabytes."""

import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthmed.errors import UserError

if TYPE_CHECKING:
    from pydicom import FileDataset

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_START = 1 << 16
_CHUNK = 1 << 20
SMALLEST_LIMIT = 1 << 28
LARGEST_RATIO = 100
"""Of the bytes of a deflated file to those it stands for: no header says how many, and images hardly shrink so far."""


def read_file(path: Path, **how: Any) -> "FileDataset":
    """Return a file as `pydicom.dcmread` reads it.

    Args:
        path: The file.
        how: Options of `pydicom.dcmread`.

    Raises:
        UserError: If it is deflated and stands for more than files of its size do.
        Exception: Whatever the library raises on a damaged file.
    """
    import pydicom

    with open(path, "rb") as file:
        if _DEFLATED in file.read(_START):
            _check_deflated(path)
    return pydicom.dcmread(path, **how)


def _check_deflated(path: Path) -> None:
    # By DICOM PS3.10, 7.1, the group of what is not deflated begins with its length, at byte 132.
    content = path.read_bytes()
    (length,) = struct.unpack("<I", content[140:144])
    rest, inflate, size = content[144 + length :], zlib.decompressobj(-zlib.MAX_WBITS), 0
    limit = max(SMALLEST_LIMIT, LARGEST_RATIO * len(content))
    while rest and not inflate.eof:
        size += len(inflate.decompress(rest, _CHUNK))
        rest = inflate.unconsumed_tail
        if size > limit:
            raise UserError(f"{path} is deflated and stands for more than {limit >> 20} MiB: export it uncompressed")
