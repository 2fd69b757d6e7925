"""What every file format gives: a source that can be opened, and the opened volume."""

from collections.abc import Iterable
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
