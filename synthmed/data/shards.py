"""Writing slices into NumPy files of bounded size."""

import hashlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from synthmed.data.schema import Shard

SHARD_BYTES = 512 * 1024 * 1024
"""Bytes of images after which a new shard begins; a case never spans two."""


class ShardWriter:
    """Appends whole cases to `images-NNNNN.npy` and `labels-NNNNN.npy`.

    Files are written in sequence rather than through a memory map: on a full disk a write raises OSError, a memory
    map kills the process.

    Args:
        folder: Where to write.
        slices: Slices of each case, in the order in which they will be added.
        size: Rows and columns.
        channels: Image channels.
    """

    def __init__(self, folder: Path, slices: list[int], *, size: tuple[int, int], channels: int):
        self._folder = folder
        self._shape = (*size, channels)
        self._plan = _fill(slices, SHARD_BYTES // (4 * size[0] * size[1] * channels))
        self._shards: list[Shard] = []
        self._first = 0
        self._left = 0
        self._files: tuple[_NpyWriter, _NpyWriter] | None = None

    def add(self, images: np.ndarray, labels: np.ndarray) -> int:
        """Append a case, float32 `[n, H, W, C]` and uint8 `[n, H, W]`; return the number of its first slice."""
        if self._left == 0:
            self._begin()
        assert self._files is not None
        self._files[0].append(images)
        self._files[1].append(labels)
        first = self._first
        self._first += len(images)
        self._left -= len(images)
        if self._left == 0:
            self._end()
        return first

    def close(self) -> list[Shard]:
        """Return what was written."""
        if self._left or len(self._shards) != len(self._plan):
            raise ValueError("fewer slices were added than announced")
        return self._shards

    def _begin(self) -> None:
        number = len(self._shards)
        self._left = self._plan[number]
        self._files = (
            _NpyWriter(self._folder / f"images-{number:05d}.npy", (self._left, *self._shape), np.dtype("<f4")),
            _NpyWriter(self._folder / f"labels-{number:05d}.npy", (self._left, *self._shape[:2]), np.dtype("u1")),
        )

    def _end(self) -> None:
        assert self._files is not None
        images, labels = self._files
        slices = self._plan[len(self._shards)]
        self._shards.append(
            Shard(
                images=images.path.name,
                labels=labels.path.name,
                first=self._first - slices,
                slices=slices,
                images_sha256=images.close(),
                labels_sha256=labels.close(),
            )
        )


class _NpyWriter:
    """One .npy file of known shape, written part by part."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype):
        self.path = path
        self._dtype = dtype
        self._hash = hashlib.sha256()
        self._file: BinaryIO = path.open("wb")
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)

    def append(self, array: np.ndarray) -> None:
        data = np.ascontiguousarray(array, self._dtype).data.cast("B")
        self._file.write(data)
        self._hash.update(data)

    def close(self) -> str:
        self._file.close()
        return self._hash.hexdigest()


def _fill(slices: list[int], most: int) -> list[int]:
    """Return the slices of each shard when cases are added in order and none holds more than `most` unless it must."""
    shards: list[int] = []
    for count in slices:
        if shards and shards[-1] + count <= most:
            shards[-1] += count
        else:
            shards.append(count)
    return shards
