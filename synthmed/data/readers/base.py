"""What every reader gives, whatever the layout."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from synthmed.data.schema import Geometry


@dataclass(frozen=True)
class CaseFiles:
    """Where a case's data are.

    Attributes:
        case: Name of the case.
        patient: Name of the patient whom it belongs to.
        images: One file a channel, or one with all channels along its fourth axis.
        label: The label map; None where there is none.
    """

    case: str
    patient: str
    images: tuple[Path, ...]
    label: Path | None = None


@dataclass(frozen=True)
class Dataset:
    """A data set's description and files.

    Attributes:
        path: Its folder.
        name: From its description, else the folder's.
        licence: As its description states it, else "unknown".
        layout: Name of the layout.
        channels: Names of the channels.
        classes: Names of the classes, background first.
        label_values: Value of each class in the label files.
        cases: In natural order of their names.
        orphans: Label files without an image.
        file_ending: Of image and label files.
        labelled: Whether every case must have a label map; else none has.
    """

    path: Path
    name: str
    licence: str
    layout: str
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    label_values: tuple[int, ...]
    cases: list[CaseFiles]
    orphans: list[Path] = field(default_factory=list)
    file_ending: str = ".nii.gz"
    labelled: bool = True


@dataclass(frozen=True)
class Case:
    """A case in memory.

    Attributes:
        case: Name of the case.
        images: float32 `[X, Y, Z, C]` in the source's units and orientation.
        labels: Values as in the file, int64 `[X, Y, Z]`, or None.
        geometry: Of the volume.
    """

    case: str
    images: np.ndarray
    labels: np.ndarray | None
    geometry: Geometry


class Reader(Protocol):
    """Reads one layout of data sets."""

    def recognises(self, path: Path) -> bool:
        """Return whether the folder is in this layout."""

    def read(self, path: Path) -> Dataset:
        """Return the data set; raise UserError where its description is wrong."""


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Return a sorting key in which `case_2` comes before `case_10`."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]


def visible_files(folder: Path, ending: str) -> list[Path]:
    """Return the files in a folder with this ending, in natural order, without the `._` ones that macOS leaves."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if path.name.endswith(ending) and not path.name.startswith(".")]
    return sorted(found, key=lambda path: natural_key(path.name))
