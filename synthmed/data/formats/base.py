"""What a volume is, whatever its file; axes in another order."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from synthmed.data.schema import Geometry
from synthmed.errors import UserError

DEFLATE_RATIO = 1040
"""DEFLATE cannot shrink data further than 1032 : 1: a header that claims more than that beside its file is wrong."""


class Volume(Protocol):
    """An opened volume whose voxels are not read yet."""

    @property
    def path(self) -> Path:
        """The file, or the folder of its slices, for messages."""

    @property
    def geometry(self) -> Geometry:
        """Where the volume lies."""

    @property
    def channels(self) -> int:
        """How many channels it has."""

    def voxels(self) -> np.ndarray:
        """Read the voxels: `[X, Y, Z, C]`, float32 or, where whole numbers are stored unscaled, their type.

        Raises:
            UserError: If the file is truncated or damaged.
        """


class Source(Protocol):
    """Where a volume's voxels are; nothing is opened yet. Sources can be compared, hashed and pickled."""

    @property
    def path(self) -> Path:
        """The file, or the folder of its slices, for messages."""

    @property
    def files(self) -> dict[str, Path]:
        """The files by the names under which a store records their hashes; no name tells what a header says."""

    def open(self) -> Volume:
        """Read the header.

        Raises:
            UserError: If a file is missing, damaged or not of this format.
        """


def file_keys(paths: Iterable[Path]) -> dict[str, Path]:
    """Return files by the names of their folder and themselves, of more folders where that does not tell them apart."""
    paths = list(dict.fromkeys(paths))
    deepest = max((len(path.parts) for path in paths), default=0)
    found: dict[str, Path] = {}
    for count in range(2, max(deepest, 2) + 1):
        found = {"/".join(path.parts[-count:]): path for path in paths}
        if len(found) == len(paths):
            break
    return found


def damaged(path: Path, reason: object) -> UserError:
    """Return the error for a file that cannot be read."""
    told = " ".join(str(reason).replace(str(path), path.name).split())[:120].rstrip(".") or type(reason).__name__
    return UserError(f"{path} is truncated or damaged ({told}): copy or download it again")


@dataclass(frozen=True)
class ReorderedSource:
    """A source whose channels come in another order.

    Attributes:
        source: What is read.
        order: Number of each wanted channel in the source; all of them once.
    """

    source: Source
    order: tuple[int, ...]

    @property
    def path(self) -> Path:
        """The source's."""
        return self.source.path

    @property
    def files(self) -> dict[str, Path]:
        """The source's."""
        return self.source.files

    def open(self) -> Volume:
        """Read the header; see `Source.open`."""
        return ReorderedVolume(self.source.open(), self.order)


class ReorderedVolume:
    """An opened volume whose channels come in another order.

    Attributes:
        path: The volume's.
        geometry: The volume's.
        channels: The volume's.
    """

    def __init__(self, volume: Volume, order: tuple[int, ...]):
        if volume.channels != len(order):
            count = f"{volume.channels} channel{'s' * (volume.channels != 1)}"
            raise UserError(f"{volume.path} has {count}, {len(order)} are needed: add or remove channels")
        self.path: Path = volume.path
        self.geometry: Geometry = volume.geometry
        self.channels = volume.channels
        self._volume = volume
        self._order = order

    def voxels(self) -> np.ndarray:
        """Read the voxels; see `Volume.voxels`."""
        return self._volume.voxels()[..., list(self._order)]
