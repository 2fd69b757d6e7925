"""Readers of folders without a description: a folder a case, images beside label maps, pictures with masks."""

import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from synthmed.data.formats import PICTURE_ENDINGS, VOLUME_ENDINGS, PictureSource, Source, picture_header, source_of
from synthmed.data.formats.pictures import LOSSY_ENDINGS, PictureHeader, has_constant_alpha
from synthmed.data.parallel import count_values
from synthmed.data.readers.base import CaseFiles, Dataset, Modality, ReadOptions, natural_key
from synthmed.data.readers.grouping import (
    Found,
    Group,
    attach_labels,
    build_cases,
    channel_titles,
    group_found,
    group_given,
    group_single,
)
from synthmed.data.readers.naming import Parts, assign_patients, entries, names_patient, walk
from synthmed.data.readers.nnunet import FILE, UNNAMED, modality_of
from synthmed.errors import UserError

MOST_VALUES = 32
_WORKERS = 2
_GREYS = 256


@dataclass(frozen=True)
class Labels:
    """What the label maps of a set hold.

    Attributes:
        cases: The cases, with label maps that are read as the whole set asks.
        classes: Names of the classes, background first.
        values: Value of each class.
        note: What was found, for the user.
    """

    cases: list[CaseFiles]
    classes: tuple[str, ...]
    values: tuple[int, ...]
    note: str


def find_labels(cases: Sequence[CaseFiles], path: Path) -> Labels:
    """Read all label maps once and return which values they hold; damaged ones are left to the inspection.

    Args:
        cases: Those of the set.
        path: The set, for messages.

    Raises:
        UserError: If the values are too many for classes, no whole numbers, negative, or nothing but background.
    """
    cases = list(cases)
    sources = [case.label for case in cases if case.label is not None]
    _refuse_lossy(sources)
    values = _values_of(sources)
    coloured = any(
        isinstance(source, PictureSource) and max(own, default=0) >= _GREYS * _GREYS for source, own in values
    )
    if coloured:
        cases = [replace(case, label=_coloured(case.label)) for case in cases]
        values = _values_of([case.label for case in cases if case.label is not None])
    found = sorted({value for _, own in values for value in own} | {0})
    if len(found) > MOST_VALUES:
        source, own = max(values, key=lambda item: len(item[1]))
        raise UserError(
            f"{source.path} has {len(own)} different values ({len(found)} in all label maps), classes can be"
            f" {MOST_VALUES}: save masks without smoothing or compression, one value a class, as PNG or NIfTI"
        )
    if found[0] < 0:
        source = next(source for source, own in values if found[0] in own)
        raise UserError(f"{source.path} has the value {found[0]}: write classes as whole numbers from 0")
    if len(found) == 1 and values:
        raise UserError(f"{path}: all label maps hold nothing but 0: give those in which something is labelled")
    foreground = [_name(value, coloured) for value in found[1:]]
    if len(foreground) == 1 and not coloured:
        foreground = ["foreground"]
    shown = ", ".join(_name(value, True) if coloured else str(value) for value in found)
    note = f"label values {shown} found in {len(values)} label map{'s' * (len(values) != 1)}"
    return Labels(cases=cases, classes=("background", *foreground), values=tuple(found), note=note)


def _name(value: int, coloured: bool) -> str:
    return f"#{value:06x}" if coloured else f"class {value}"


def _refuse_lossy(sources: Sequence[Source]) -> None:
    for source in sources:
        files = source.paths if isinstance(source, PictureSource) else ()
        lossy = next((file for file in files if file.suffix.lower() in LOSSY_ENDINGS), None)
        if lossy is not None:
            raise UserError(f"{lossy} is a JPEG mask, whose compression changes class numbers: save masks as PNG")


def _values_of(sources: Sequence[Source]) -> list[tuple[Source, set[int]]]:
    with ThreadPoolExecutor(_WORKERS) as pool:
        found = list(pool.map(_values, sources))
    return [(source, own) for source, own in zip(sources, found, strict=True) if own is not None]


def _values(source: Source) -> set[int] | None:
    try:
        voxels = source.open().voxels()
    except UserError:
        return None
    found = count_values(voxels)
    if any(value != round(value) for value in found if np.isfinite(value)) or not all(map(np.isfinite, found)):
        raise UserError(f"{source.path} has values that are no whole numbers: write class numbers")
    return {int(value) for value in found}


def _coloured(source: Source | None) -> Source | None:
    return replace(source, coloured=True) if isinstance(source, PictureSource) else source


def channel_count(cases: Sequence[CaseFiles]) -> int:
    """Return how many channels most cases with one image file have; 1 where none can be opened."""
    counts: Counter[int] = Counter()
    for case in cases:
        if len(case.images) == 1:
            try:
                counts[case.images[0].open().channels] += 1
            except UserError:
                continue
    return counts.most_common(1)[0][0] if counts else 1


def labelled_dataset(
    found: Found,
    path: Path,
    options: ReadOptions,
    *,
    layout: str,
    channels: tuple[str, ...],
    modalities: tuple[Modality, ...],
    numbered: bool = False,
) -> Dataset:
    """Return a data set of found cases: with the label values that are in the files, or without labels at all.

    Args:
        found: Cases by their names.
        path: The data set.
        options: What the user says.
        layout: Name of the layout.
        channels: Names of the channels.
        modalities: Their kinds.
        numbered: See `assign_patients`.

    Raises:
        UserError: If label values are no classes, or the pattern of patients is wrong.
    """
    cases, patients = assign_patients(found.cases, options.patient_pattern, folders=found.folders, numbered=numbered)
    classes: tuple[str, ...] = ("background",)
    values: tuple[int, ...] = (0,)
    labelled = any(case.label is not None for case in cases) or bool(found.orphans)
    if labelled:
        labels = find_labels(cases, path)
        cases, classes, values = labels.cases, labels.classes, labels.values
        said = labels.note
    else:
        said = "no label maps found: images alone; --label PATTERN says which files are label maps"
    first = cases[0].images[0].path.name if cases else ""
    return Dataset(
        path=path,
        name=UNNAMED,
        licence="unknown",
        layout=layout,
        channels=channels,
        classes=classes,
        label_values=values,
        cases=cases,
        modalities=modalities,
        orphans=found.orphans,
        notes=(*found.notes, said, *patients),
        file_ending="".join(Path(first).suffixes[-2:]) if first.lower().endswith(".gz") else Path(first).suffix,
        labelled=labelled,
    )


class VolumeFolderReader:
    """Reads folders of NIfTI, NRRD and MetaImage files."""

    def recognises(self, path: Path) -> bool:
        """Return whether there is a volume in the folder or below it, and no description."""
        return not (path / FILE).is_file() and next(walk(path, VOLUME_ENDINGS), None) is not None

    def read(self, path: Path, options: ReadOptions) -> Dataset:
        """Return the data set; label maps are read once to find their values."""
        found = find_volumes(path, options)
        titles = channel_titles(found.channels, channel_count(found.cases) if len(found.channels) == 1 else 1)
        if options.channels and len(found.channels) == len(titles):
            titles = found.channels
        return labelled_dataset(
            found,
            path,
            options,
            layout="volumes, a folder a case" if all(found.folders.values()) else "volumes named by case",
            channels=titles,
            modalities=tuple(modality_of(title) for title in titles),
        )


def find_volumes(path: Path, options: ReadOptions) -> Found:
    """Return the cases of a folder of volumes by their names alone.

    Raises:
        UserError: If a given pattern matches nothing, or files cannot be told apart.
    """
    files = entries(path, VOLUME_ENDINGS, options.label)
    images = [entry for entry in files if not entry.label]
    labels = [entry for entry in files if entry.label]
    if not images:
        raise UserError(f"{path} holds label maps alone, by their names: say with --label PATTERN which are label maps")
    given = options.channels
    groups = group_given(images, given, path) if given else group_found(images, labels)
    orphans = attach_labels(groups, labels)
    found = build_cases(
        groups, path, channels=[name for name, _ in given], source=lambda file, mask: source_of(file, mask=mask)
    )
    found.orphans = [entry.path for entry in orphans]
    pictures = sum(1 for _ in walk(path, PICTURE_ENDINGS))
    if pictures:
        found.notes.append(f"pictures left out, since there are volumes: {pictures}")
    return found


CHANNELS = {1: ("image",), 2: ("grey", "alpha"), 3: ("red", "green", "blue"), 4: ("red", "green", "blue", "alpha")}


class PictureReader:
    """Reads folders of PNG, JPEG, TIFF and BMP pictures."""

    def recognises(self, path: Path) -> bool:
        """Return whether there is a picture in the folder or below it, and no description."""
        return not (path / FILE).is_file() and next(walk(path, PICTURE_ENDINGS), None) is not None

    def read(self, path: Path, options: ReadOptions) -> Dataset:
        """Return the data set; headers of pictures are read, and masks once to find their values."""
        found, headers = find_pictures(path, options)
        if options.channels:
            channels = found.channels
        else:
            counts = Counter(header.channels for header in headers.values())
            channels = CHANNELS[counts.most_common(1)[0][0]] if counts else CHANNELS[1]
            if channels[-1] == "alpha" and _without_alpha(found, headers):
                channels = ("image",) if len(channels) == 2 else channels[:-1]
        kind: Modality = "picture"
        return labelled_dataset(
            found,
            path,
            options,
            layout="2D images",
            channels=channels,
            modalities=(kind,) * len(channels),
            numbered=True,
        )


def find_pictures(path: Path, options: ReadOptions) -> tuple[Found, dict[Path, PictureHeader]]:
    """Return the cases of a folder of pictures, and what the pictures' headers say, of those that can be opened.

    Raises:
        UserError: If a given pattern matches nothing, or files cannot be told apart.
    """
    files = entries(path, PICTURE_ENDINGS, options.label)
    images = [entry for entry in files if not entry.label]
    labels = [entry for entry in files if entry.label]
    if not images:
        raise UserError(f"{path} holds masks alone, by their names: say with --label PATTERN which are masks")
    headers = _headers([entry.path for entry in images])
    groups = group_given(images, options.channels, path) if options.channels else group_single(images)
    orphans = attach_labels(groups, labels)
    stacks = {} if options.channels else _stacks(groups, headers)
    single = [group for group in groups if group.key[0] not in stacks]
    found = build_cases(single, path, channels=[name for name, _ in options.channels], source=_source)
    found.orphans = [entry.path for entry in orphans]
    _add_stacks(found, stacks)
    found.notes.extend(_turned_notes(found.cases, headers))
    return found, headers


def _source(path: Path, mask: bool) -> Source:
    return PictureSource((path,), mask=mask)


def _headers(paths: Sequence[Path]) -> dict[Path, PictureHeader]:
    headers = {}
    for path in paths:
        try:
            headers[path] = picture_header(path)
        except UserError:
            # The inspection tells it, with all else that is wrong.
            continue
    return headers


def _stacks(groups: Sequence[Group], headers: dict[Path, PictureHeader]) -> dict[Parts, list[Group]]:
    """Return the folders that hold the numbered slices of one volume: alike in size, and apart in a number alone."""
    folders: dict[Parts, list[Group]] = {}
    for group in groups:
        folders.setdefault(group.key[0], []).append(group)
    stacks = {
        names: sorted(inside, key=lambda group: natural_key(group.first.stem))
        for names, inside in folders.items()
        if names and names_patient(names[-1]) and _are_slices(inside, headers)
    }
    # "benign2" is a folder too: a lone one must have its name in its files'.
    alone = len(stacks) == 1 and any(names[-1] not in one.first.stem for names, own in stacks.items() for one in own)
    return {} if alone else stacks


def _are_slices(groups: Sequence[Group], headers: dict[Path, PictureHeader]) -> bool:
    entries = [group.first for group in groups]
    known = [headers[entry.path] for entry in entries if entry.path in headers]
    if len(entries) < 2 or len({(one.columns, one.rows, one.channels, one.dtype, one.pages) for one in known}) != 1:
        return False
    if len({len(entry.parts) for entry in entries}) != 1:
        return False
    varying = [own for own in zip(*(entry.parts for entry in entries), strict=True) if len(set(own)) > 1]
    return len(varying) == 1 and len(set(varying[0])) == len(entries) and all(map(_counts, varying[0]))


def _counts(part: str) -> bool:
    return re.fullmatch(r"(slice|s|z|img|image|i)?\d+", part, re.IGNORECASE) is not None


def _add_stacks(found: Found, stacks: dict[Parts, list[Group]]) -> None:
    if not stacks:
        return
    slices = 0
    for names, groups in stacks.items():
        name = "_".join(names)
        labels = tuple(group.labels[0].path for group in groups if len(group.labels) == 1)
        label = PictureSource(labels, mask=True) if len(labels) == len(groups) else None
        if labels and label is None:
            bare = next(group.first.path.name for group in groups if len(group.labels) != 1)
            found.notes.append(f"{name} has no label map: {bare} has no mask, or two")
        images = PictureSource(tuple(group.first.path for group in groups))
        found.cases.append(CaseFiles(case=name, patient=name, images=(images,), label=label))
        found.folders[name] = names
        slices += len(groups)
    found.cases.sort(key=lambda case: natural_key(case.case))
    found.channels = found.channels or ("",)
    found.notes.append(f"{slices} numbered pictures of {len(stacks)} folders are the slices of {len(stacks)} volumes")


def _turned_notes(cases: Sequence[CaseFiles], headers: dict[Path, PictureHeader]) -> list[str]:
    """Say which photographs are turned as their EXIF data ask.

    Raises:
        UserError: If it cannot be known whether a mask was drawn before or after turning.
    """
    turned = 0
    for case in cases:
        for source in case.images:
            for number, path in enumerate(source.paths if isinstance(source, PictureSource) else ()):
                header = headers.get(path)
                if header is None or header.orientation == 1:
                    continue
                turned += 1
                if isinstance(case.label, PictureSource):
                    _check_turned(path, header, case.label.paths[number])
    return [f"{turned} photographs turned upright as their EXIF data ask"] if turned else []


def _check_turned(path: Path, header: PictureHeader, mask: Path) -> None:
    try:
        other = picture_header(mask)
    except UserError:
        return
    shows = header.columns != header.rows and header.orientation >= 5
    fits = (other.columns, other.rows) == (header.columns, header.rows)
    if other.orientation != header.orientation and not (shows and fits):
        raise UserError(
            f"{path} asks by EXIF to be turned and {mask.name} does not: save both upright and without EXIF orientation"
        )


def _without_alpha(found: Found, headers: dict[Path, PictureHeader]) -> bool:
    """Leave alpha out of all cases if it is the same everywhere and thus says nothing; return whether it was."""
    if any(header.alpha and not has_constant_alpha(path) for path, header in headers.items()):
        return False
    found.cases = [
        replace(
            case,
            images=tuple(replace(one, alpha=False) if isinstance(one, PictureSource) else one for one in case.images),
        )
        for case in found.cases
    ]
    found.notes.append("alpha is the same everywhere and left out")
    return True
