"""What every reader gives, whatever the layout: cases, their channels and their label maps."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from synthmed.data.formats import ReorderedSource, Source, Volume
from synthmed.data.schema import Geometry
from synthmed.errors import InvariantError, UserError

Modality = Literal["CT", "MRI", "picture", "other"]
"""How a channel's intensities are to be understood: HU, no unit, a picture's grey values, or anything else."""


@dataclass(frozen=True)
class CaseFiles:
    """Where a case's data are.

    Attributes:
        case: Name of the case.
        patient: Name of the patient whom it belongs to.
        images: One source a channel, or one with all channels.
        label: The label map; None where there is none.
    """

    case: str
    patient: str
    images: tuple[Source, ...]
    label: Source | None = None

    @property
    def files(self) -> dict[str, Path]:
        """All files of the case by the names under which a store records their hashes.

        Where two files have one name, as `images/p1/vol.nii.gz` and `labels/p1/vol.nii.gz`, what they are of the case
        stands before it. More of their folders would tell them apart as well, but those of DICOM may name a person.
        """
        sources = [(f"image-{number}", source.files) for number, source in enumerate(self.images)]
        if self.label is not None:
            sources.append(("label", self.label.files))
        named: dict[str, set[Path]] = {}
        for _, own in sources:
            for name, path in own.items():
                named.setdefault(name, set()).add(path)
        found: dict[str, Path] = {}
        for role, own in sources:
            for name, path in own.items():
                key = name if len(named[name]) == 1 else f"{role}/{name}"
                if found.get(key, path) != path:
                    raise InvariantError(f"two files are recorded as {key}")
                found[key] = path
        return found


@dataclass(frozen=True)
class ReadOptions:
    """What a user says of a folder's names; all of it is found where it is not given.

    Attributes:
        patient_pattern: Regular expression with one group, which finds the patient in a case's name.
        channels: Name of each channel and the pattern (as in a shell) of its files.
        label: Pattern of the label maps' files.
        name: Name of the data set, which goes before that in its description.
    """

    patient_pattern: str | None = None
    channels: tuple[tuple[str, str], ...] = ()
    label: str | None = None
    name: str | None = None


@dataclass(frozen=True)
class Dataset:
    """A data set's description and files.

    Attributes:
        path: Its folder.
        name: From its description, or as the user gives it, else `UNNAMED`: a folder's name may be a patient's.
        licence: As its description states it, else "unknown".
        layout: Name of the layout.
        channels: Names of the channels.
        classes: Names of the classes, background first.
        label_values: Value of each class in the label files.
        cases: In natural order of their names.
        modalities: Kind of each channel's intensities.
        ignore_value: Value in the label files that means "not known"; None where there is none.
        regions: Name of each region and the label values that it is made of, the order being that in which later ones
            overwrite earlier ones; empty where classes are no regions.
        orphans: Label files without an image.
        notes: What a user should know of how the folder was understood.
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
    modalities: tuple[Modality, ...] = ()
    ignore_value: int | None = None
    regions: dict[str, tuple[int, ...]] = field(default_factory=dict)
    orphans: list[Path] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    file_ending: str = ".nii.gz"
    labelled: bool = True


@dataclass(frozen=True)
class Case:
    """A case in memory.

    Attributes:
        case: Name of the case.
        images: float32 `[X, Y, Z, C]` in the source's units and orientation.
        labels: Values as in the file, whole numbers `[X, Y, Z]`, or None.
        geometry: Of the volume.
    """

    case: str
    images: np.ndarray
    labels: np.ndarray | None
    geometry: Geometry


class Reader(Protocol):
    """Reads one layout of data sets."""

    def recognises(self, path: Path) -> bool:
        """Return whether the folder is in this layout; no image is opened for that."""

    def read(self, path: Path, options: ReadOptions) -> Dataset:
        """Return the data set; raise UserError where its description is wrong."""


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Return a sorting key in which `case_2` comes before `case_10`."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]


def visible_files(folder: Path, ending: str) -> list[Path]:
    """Return the files in a folder with this ending, in natural order, without the `._` ones that macOS leaves."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if path.name.endswith(ending) and not path.name.startswith(".")]
    return sorted(found, key=lambda path: natural_key(path.name))


def load_case(files: CaseFiles) -> Case:
    """Return a case's images and label map; all of them must have the same shape.

    Raises:
        UserError: If a file is missing, damaged, or does not fit the others of the case.
    """
    volumes = [source.open() for source in files.images]
    geometry = volumes[0].geometry
    for volume in volumes[1:]:
        if volume.geometry.shape != geometry.shape:
            raise UserError(f"{volume.path} has the shape {volume.geometry.shape}, {volumes[0].path} {geometry.shape}")
    return Case(case=files.case, images=_images(volumes), labels=_labels(files, geometry), geometry=geometry)


def _images(volumes: list[Volume]) -> np.ndarray:
    if len(volumes) == 1:
        return volumes[0].voxels().astype(np.float32, copy=False)
    # One file's voxels at a time beside the whole. As the files have them, x runs fastest: the other order would make
    # each file's values be gathered from all over the memory.
    shape = volumes[0].geometry.shape
    channels = [volume.channels for volume in volumes]
    images = np.empty((*shape, sum(channels)), np.float32, order="F")
    first = 0
    for volume in volumes:
        images[..., first : first + volume.channels] = volume.voxels()
        first += volume.channels
    return images


def _labels(files: CaseFiles, geometry: Geometry) -> np.ndarray | None:
    if files.label is None:
        return None
    volume = files.label.open()
    if volume.geometry.shape != geometry.shape or volume.channels != 1:
        raise UserError(f"{volume.path} has the shape {volume.geometry.shape}, its image {geometry.shape}")
    values = volume.voxels()[..., 0]
    if values.dtype.kind == "f" and not np.array_equal(values, np.round(values)):
        raise UserError(f"{volume.path} has values that are no whole numbers: write class numbers")
    # Whole numbers keep the type that the file has: int64 would take eight times the memory of most.
    return values if values.dtype.kind in "iu" else values.astype(np.int64)


@dataclass(frozen=True)
class Wanted:
    """Channels that cases must have.

    Attributes:
        names: Their names, in their order.
        of: Who needs them, for messages: "the model".
    """

    names: tuple[str, ...]
    of: str = "the model"


def match_channels(
    cases: Sequence[CaseFiles], own: Sequence[str] | None, wanted: Wanted, path: Path
) -> tuple[list[CaseFiles], tuple[str, ...]]:
    """Return the cases without label maps, their channels in the wanted order, and what the user should know.

    Where the names are the same, case aside, they say which channel is which; else channels are taken in the order in
    which they come, and that is said.

    Args:
        cases: With one file a channel, or one with all of them.
        own: Names of their channels; None where nothing names them, so that their order alone can count.
        wanted: What is needed.
        path: Where the cases are from, for messages.

    Raises:
        UserError: If there are more or fewer channels than wanted.
    """
    if own is not None and len(own) != len(wanted.names):
        raise UserError(
            f"{path} has the channels {', '.join(own)}, {wanted.of} {', '.join(wanted.names)}: give images of the same"
        )
    for case in cases:
        if len(case.images) not in (1, len(wanted.names)):
            raise wrong_count(path, case.case, len(case.images), wanted)
    order, notes = _order(own, wanted) if own is not None else (tuple(range(len(wanted.names))), ())
    return [replace(case, label=None, images=_ordered(case.images, order)) for case in cases], notes


def wrong_count(path: Path, case: str, count: int, wanted: Wanted) -> UserError:
    """Return the error for a case with more or fewer files than channels."""
    files = f"{count} channel file{'s' * (count != 1)}"
    return UserError(
        f"{path}: {case} has {files}, {wanted.of} needs {len(wanted.names)} ({', '.join(wanted.names)}):"
        " add or remove files"
    )


def _order(own: Sequence[str], wanted: Wanted) -> tuple[tuple[int, ...], tuple[str, ...]]:
    folded = [name.casefold() for name in own]
    needed = [name.casefold() for name in wanted.names]
    if set(folded) == set(needed) and len(set(needed)) == len(needed):
        return tuple(folded.index(name) for name in needed), ()
    pairs = ", ".join(f"{one} as {other}" for one, other in zip(own, wanted.names, strict=True))
    note = f"channels are called otherwise than {wanted.of} calls them and taken in their order: {pairs}"
    return tuple(range(len(needed))), (note,)


def _ordered(images: tuple[Source, ...], order: tuple[int, ...]) -> tuple[Source, ...]:
    if order == tuple(range(len(order))):
        return images
    if len(images) == 1:
        return (ReorderedSource(images[0], order),)
    return tuple(images[number] for number in order)
