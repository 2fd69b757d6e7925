"""A file's channels in another order than it holds them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synthmed.data.schema import Geometry
from synthmed.data.volumes.base import Source, Volume
from synthmed.errors import UserError


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
