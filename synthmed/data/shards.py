"""Writing slices into NumPy files of bounded size."""

import hashlib
import io
import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from synthmed.data.schema import Shard

SHARD_BYTES = 128 * 1024 * 1024
"""Bytes of images after which a new shard begins; a case never spans two.

An interrupted `prepare` loses the shard that it was writing, and a damaged shard is made anew as a whole: small ones
cost little. Below that there would be many files.
"""


def group_cases(slices: list[int], *, size: tuple[int, int], channels: int) -> list[range]:
    """Return which cases share a shard when they are added in order: consecutive ones, as many as fit `SHARD_BYTES`.

    Args:
        slices: Slices of each case.
        size: Rows and columns.
        channels: Image channels.
    """
    most = SHARD_BYTES // (4 * size[0] * size[1] * channels)
    groups: list[range] = []
    held = 0
    for number, count in enumerate(slices):
        if groups and held + count <= most:
            groups[-1] = range(groups[-1].start, number + 1)
            held += count
        else:
            groups.append(range(number, number + 1))
            held = count
    return groups


class ShardWriter:
    """Writes one shard, `images-NNNNN.npy` and `labels-NNNNN.npy`, case by case.

    Files are written in sequence rather than through a memory map: on a full disk a write raises OSError, a memory
    map kills the process. Used as a context manager, it removes what it wrote unless `close` was reached.

    Args:
        folder: Where to write.
        number: Of the shard.
        first: Number of its first slice in the store.
        slices: How many it will hold.
        size: Rows and columns.
        channels: Image channels.
    """

    def __init__(
        self, folder: Path, *, number: int, first: int, slices: int, size: tuple[int, int], channels: int
    ) -> None:
        self._first, self._slices, self._added = first, slices, 0
        self._images = _NpyWriter(folder / f"images-{number:05d}.npy", (slices, *size, channels), np.dtype("<f4"))
        self._labels = _NpyWriter(folder / f"labels-{number:05d}.npy", (slices, *size), np.dtype("u1"))

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._images.discard()
            self._labels.discard()

    def add(self, images: np.ndarray, labels: np.ndarray) -> int:
        """Append a case, float32 `[n, H, W, C]` and uint8 `[n, H, W]`; return the number of its first slice."""
        first = self._first + self._added
        self._added += len(images)
        self._images.append(images)
        self._labels.append(labels)
        return first

    def close(self) -> Shard:
        """Bring the files to the disk and return what they are."""
        if self._added != self._slices:
            raise ValueError(f"{self._added} slices were added, {self._slices} announced")
        return Shard(
            images=self._images.path.name,
            labels=self._labels.path.name,
            first=self._first,
            slices=self._slices,
            images_sha256=self._images.close(),
            labels_sha256=self._labels.close(),
        )


class _NpyWriter:
    """One .npy file of known shape, written part by part."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype):
        self.path = path
        self._dtype = dtype
        self._file: BinaryIO = path.open("wb")
        described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, described)
        self._file.write(header.getvalue())
        self._hash = hashlib.sha256(header.getvalue())

    def append(self, array: np.ndarray) -> None:
        data = np.ascontiguousarray(array, self._dtype).data.cast("B")
        self._file.write(data)
        self._hash.update(data)

    def close(self) -> str:
        self._file.flush()
        # The record that says that the shard is whole must not outlive a power cut that the shard does not.
        os.fsync(self._file.fileno())
        self._file.close()
        return self._hash.hexdigest()

    def discard(self) -> None:
        # On a full disk the rest of the buffer cannot be written when the file is closed either.
        with suppress(OSError):
            self._file.close()
        self.path.unlink(missing_ok=True)
