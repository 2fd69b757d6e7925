"""Pictures with masks: beside each other or in parallel folders, one a case; or a folder of numbered slices a case."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from synthmed.data.readers.base import CaseFiles, Dataset, Modality, ReadOptions, natural_key
from synthmed.data.readers.cases import Found, build_cases
from synthmed.data.readers.description import FILE
from synthmed.data.readers.finish import labelled_dataset
from synthmed.data.readers.grouping import Group, attach_labels, group_given, group_single
from synthmed.data.readers.naming import Parts, entries, names_patient, walk
from synthmed.data.volumes import PICTURE_ENDINGS, PictureSource, Source, picture_header
from synthmed.data.volumes.picture_files import PictureHeader, has_constant_alpha
from synthmed.errors import UserError

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
