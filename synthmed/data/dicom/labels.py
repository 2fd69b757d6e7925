"""Segmentations and structure sets as one label map of a case."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from synthmed.data.dicom.files import read_file
from synthmed.data.dicom.headers import Header, unreadable
from synthmed.data.dicom.quiet import quiet
from synthmed.data.dicom.rtstruct import structure_voxels, structures
from synthmed.data.dicom.segmentation import Voxels, segment_voxels, segments
from synthmed.data.dicom.series import refuse_compression
from synthmed.data.dicom.stack import Stack
from synthmed.data.schema import Geometry
from synthmed.errors import UserError

Kind = Literal["SEG", "RTSTRUCT"]


@dataclass(frozen=True)
class LabelObject:
    """A segmentation or structure set.

    Attributes:
        path: Its file.
        kind: Which of the two.
        header: Of the file.
        names: Name of each structure by its number, as the file spells it.
        series: SeriesInstanceUIDs of the images on which it was drawn, as far as it says so.
        frames: FrameOfReferenceUIDs in which it was drawn.
    """

    path: Path
    kind: Kind
    header: Header
    names: dict[int, str]
    series: frozenset[str]
    frames: frozenset[str]


def read_label_object(header: Header) -> LabelObject:
    """Return what a SEG or RTSTRUCT file says of itself.

    Raises:
        UserError: If it is damaged.
    """
    kind: Kind = "SEG" if header.modality == "SEG" else "RTSTRUCT"
    dataset = _read(header.path)
    try:
        with quiet():
            names = segments(dataset) if kind == "SEG" else structures(dataset)
            frames = {header.frame_of_reference, *_values(dataset, "FrameOfReferenceUID")}
            series = {*_values(dataset, "SeriesInstanceUID")} - {header.series}
    except Exception:
        raise unreadable(header.path) from None
    return LabelObject(header.path, kind, header, names, frozenset(series), frozenset(frames - {""}))


def _values(dataset: Any, keyword: str) -> Iterator[str]:
    """Yield what the sequences of references say under a keyword, at whatever depth."""
    for name in (
        "ReferencedSeriesSequence",
        "ReferencedFrameOfReferenceSequence",
        "RTReferencedStudySequence",
        "RTReferencedSeriesSequence",
    ):
        for item in dataset.get(name) or []:
            if item.get(keyword):
                yield str(item.get(keyword))
            yield from _values(item, keyword)


def _read(path: Path) -> Any:
    try:
        with quiet():
            return read_file(path)
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: put it back") from None
    # The library raises whatever its parts raise on bytes that are no header.
    except Exception:
        raise unreadable(path) from None


@dataclass(frozen=True)
class LabelSource:
    """The label map of a case.

    Attributes:
        path: First of its files, for messages.
        name: Pseudonym of the study and "labels", "study-0123abcd/labels".
        objects: Kind and file of each object, and the label value of each structure by its number in it.
        stack: The image on whose grid the label map is wanted.
    """

    path: Path
    name: str
    objects: tuple[tuple[Kind, Path, tuple[tuple[int, int], ...]], ...]
    stack: Stack

    @property
    def files(self) -> dict[str, Path]:
        """The files by their number."""
        return {f"{self.name}/{number:04d}": path for number, (_, path, _) in enumerate(self.objects, start=1)}

    def open(self) -> "LabelVolume":
        """Return the label map, whose files are read by `voxels`."""
        return LabelVolume(self)


class LabelVolume:
    """A label map on the grid of its image.

    Attributes:
        path: See `LabelSource.path`.
        geometry: Of the image, uint8.
        channels: 1.
    """

    def __init__(self, source: LabelSource):
        self.path = source.path
        self.channels = 1
        self._source = source
        self._stack = source.stack
        self.geometry: Geometry = self._stack.geometry.model_copy(update={"dtype": "uint8"})

    def voxels(self) -> np.ndarray:
        """Return the label values `[X, Y, Z, 1]`; where structures overlap, the smaller one is shown.

        A structure within another is then never lost, in whatever order they were drawn.

        Raises:
            UserError: If a file is damaged or does not lie on the image's grid.
        """
        wanted = {value for _, _, table in self._source.objects for _, value in table}
        sizes: Counter[int] = Counter(wanted)
        # One alone overlaps none, so that its size, for which its file is read once more, does not matter.
        for value, voxels in self._structures() if len(wanted) > 1 else ():
            sizes[value] += len(voxels)
        # Ranks are painted instead of values: the larger rank, the smaller structure, wins in whatever order it comes.
        ranked = [0, *sorted(sizes, key=lambda value: (-sizes[value], value))]
        rank = {value: number for number, value in enumerate(ranked)}
        painted = np.zeros(self.geometry.shape, np.uint8)
        for value, voxels in self._structures():
            where = tuple(voxels.T)
            painted[where] = np.maximum(painted[where], rank[value])
        return np.array(ranked, np.uint8)[painted][..., None]

    def _structures(self) -> Iterator[Voxels]:
        for kind, path, table in self._source.objects:
            yield from _valued(kind, path, dict(table), self._stack)


def _valued(kind: Kind, path: Path, values: dict[int, int], image: Stack) -> Iterator[Voxels]:
    dataset = _read(path)
    reader = segment_voxels if kind == "SEG" else structure_voxels
    try:
        with quiet():
            if kind == "SEG":
                refuse_compression(dataset.file_meta.TransferSyntaxUID, path)
            for number, voxels in reader(dataset, path, image):
                if number in values:
                    yield values[number], voxels
    except UserError:
        raise
    # The library raises whatever its parts raise on bytes that are no image.
    except Exception:
        raise unreadable(path) from None
