"""Grouping the files of folders into cases by their names."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from synthmed.data.formats import Source
from synthmed.data.readers.base import CaseFiles, natural_key
from synthmed.data.readers.naming import Entry, Parts, glob_parts, holds_many, split_name, without_label_words
from synthmed.errors import UserError

MOST_CHANNELS = 16
Key = tuple[Parts, Parts]
"""Folders and parts of a name that all files of a case have."""


@dataclass
class Group:
    """The files of one case.

    Attributes:
        key: What their names have in common.
        images: The images by what their names have beside that: the channel.
        labels: The label maps; more than one is for the user to choose from.
    """

    key: Key
    images: dict[str, list[Entry]] = field(default_factory=dict)
    labels: list[Entry] = field(default_factory=list)

    def add(self, channel: str, entry: Entry) -> None:
        """Add an image."""
        self.images.setdefault(channel, []).append(entry)

    @property
    def first(self) -> Entry:
        """The first image."""
        return next(iter(self.images.values()))[0]


def group_single(images: Sequence[Entry]) -> list[Group]:
    """Return a group for every image."""
    return [Group(key=(image.folders, image.parts), images={"": [image]}) for image in images]


def group_given(images: Sequence[Entry], channels: Sequence[tuple[str, str]], root: Path) -> list[Group]:
    """Return groups by given patterns: images in one folder in whose names the stars stand for the same.

    Raises:
        UserError: If a pattern matches nothing.
    """
    groups: dict[Key, Group] = {}
    for name, pattern in channels:
        matched = [(image, parts) for image in images if (parts := glob_parts(pattern, image.path, root)) is not None]
        if not matched:
            raise UserError(
                f"{root}: --channel {name}={pattern} matches no image: write it as in a shell, for example"
                f" {name}='*_{name}.nii.gz'"
            )
        for image, parts in matched:
            key = (image.folders, parts)
            groups.setdefault(key, Group(key=key)).add(name, image)
    return list(groups.values())


def group_found(images: Sequence[Entry], labels: Sequence[Entry]) -> list[Group]:
    """Return groups by what the names of the images, and of their label maps, have in common."""
    shared = _shared_endings(images, labels)
    if shared is not None:
        return _group_folders(images, shared)
    return _group_flat(images, labels)


def _shared_endings(images: Sequence[Entry], labels: Sequence[Entry]) -> Counter[Parts] | None:
    """Return how many folders have files whose names end alike, where each folder seems to be a case; else None."""
    folders = {entry.folders for entry in [*images, *labels]}
    if len(folders) < 2 or () in folders or all(holds_many(names[-1]) for names in folders):
        return None
    sizes = Counter(image.folders for image in images)
    if (
        max(sizes.values(), default=0) > MOST_CHANNELS
        or max(Counter(one.folders for one in labels).values(), default=0) > 1
    ):
        return None
    found: Counter[Parts] = Counter()
    for names in folders:
        ends = {image.parts[start:] for image in images if image.folders == names for start in range(len(image.parts))}
        found.update(end for end in ends if not _is_number(end))
    if max(sizes.values()) == 1:
        # One image a folder: whatever it is called, the folder is the case.
        return found
    return found if found and max(found.values()) * 2 > len(sizes) else None


def _is_number(end: Parts) -> bool:
    # "0000" is a channel as nnU-Net counts them; other numbers are more likely patients or slices.
    return end[-1].isdecimal() and not (len(end[-1]) == 4 and end[-1].startswith("00"))


def _group_folders(images: Sequence[Entry], shared: Counter[Parts]) -> list[Group]:
    groups: dict[Key, Group] = {}
    count = len({image.folders for image in images})
    alone = max(Counter(image.folders for image in images).values()) == 1
    for image in images:
        ends = (image.parts[start:] for start in range(len(image.parts)))
        end = next((end for end in ends if shared[end] * 2 > count), () if alone else image.parts)
        key: Key = (image.folders, ())
        groups.setdefault(key, Group(key=key)).add("_".join(end), image)
    return list(groups.values())


def _group_flat(images: Sequence[Entry], labels: Sequence[Entry]) -> list[Group]:
    """Return groups of files that lie beside those of other cases."""
    bases = {(label.folders, without_label_words(label.parts)) for label in labels}
    groups: dict[Key, Group] = {}
    for image in images:
        key = _longest_start(image, bases)
        if key is None:
            return _group_without_labels(images)
        groups.setdefault(key, Group(key=key)).add("_".join(image.parts[len(key[1]) :]), image)
    if not labels:
        return _group_without_labels(images)
    # A single image with something behind its label map's name has no channels.
    return list(groups.values())


def _longest_start(image: Entry, bases: set[Key]) -> Key | None:
    for end in range(len(image.parts), -1, -1):
        for folders in dict.fromkeys((image.folders, ())):
            if (folders, image.parts[:end]) in bases:
                return folders, image.parts[:end]
    return None


def _group_without_labels(images: Sequence[Entry]) -> list[Group]:
    """Return groups by the last part of the names, if every group then has the same two or more; else single images."""
    groups: dict[Key, Group] = {}
    for image in images:
        if len(image.parts) < 2 or _is_number(image.parts):
            return group_single(images)
        key = (image.folders, image.parts[:-1])
        groups.setdefault(key, Group(key=key)).add(image.parts[-1], image)
    kinds = Counter(channel for group in groups.values() for channel in group.images)
    numbered = all(channel.isdecimal() for channel in kinds)
    if numbered and "0000" in kinds and len(kinds) <= MOST_CHANNELS:
        return list(groups.values())
    alike = all(set(group.images) == set(kinds) for group in groups.values())
    if numbered or not alike or not 2 <= len(kinds) <= MOST_CHANNELS or len(groups) < 2:
        return group_single(images)
    return list(groups.values())


def attach_labels(groups: Sequence[Group], labels: Sequence[Entry]) -> list[Entry]:
    """Give each group its label maps; return those that belong to none.

    A label map belongs to the group with the same name, label words left out; else to the one whose name is the longest
    start of its own, or which begins with it. Where that fits nowhere, what all images' and all label maps' names begin
    and end with is left out as well, then the folders.
    """
    best: dict[int, int] = {}
    for whole in (True, False):
        for strip in (False, True):
            found = _matched(groups, labels, strip=strip, whole=whole)
            if len(found) > len(best):
                best = found
            if len(best) == len(labels):
                break
    for number, label in enumerate(labels):
        if number in best:
            groups[best[number]].labels.append(label)
    return [label for number, label in enumerate(labels) if number not in best]


def _matched(groups: Sequence[Group], labels: Sequence[Entry], *, strip: bool, whole: bool) -> dict[int, int]:
    """Return the number of each label map's group, by the label map's number."""
    names = [group.key[1] for group in groups]
    bases = [without_label_words(label.parts) for label in labels]
    if strip:
        names, bases = _without_common(names), _without_common([label.parts for label in labels])
    keys = [(group.key[0] if whole else (), name) for group, name in zip(groups, names, strict=True)]
    counts = Counter(keys)
    index = {key: number for number, key in enumerate(keys) if counts[key] == 1}
    longer: dict[Key, list[int]] = {}
    for number, (folders, name) in enumerate(keys):
        for end in range(len(name)):
            longer.setdefault((folders, name[:end]), []).append(number)
    found = {}
    for number, (label, base) in enumerate(zip(labels, bases, strict=True)):
        folders = label.folders if whole else ()
        starts = ((folders, base[:end]) for end in range(len(base), -1, -1))
        hit = next((index[key] for key in starts if key in index), None)
        if hit is None and len(longer.get((folders, base), [])) == 1:
            hit = longer[folders, base][0]
        if hit is not None:
            found[number] = hit
    return found


def _without_common(names: list[Parts]) -> list[Parts]:
    """Return the names without the parts with which all of them begin or end."""
    if len(names) < 2:
        return names
    start = end = 0
    shortest = min(map(len, names))
    while start < shortest and len({name[start] for name in names}) == 1:
        start += 1
    while end < shortest - start and len({name[-1 - end] for name in names}) == 1:
        end += 1
    return [name[start : len(name) - end] for name in names]


def in_order(groups: Sequence[Group]) -> list[Group]:
    """Return groups in natural order of their folders and names."""
    return sorted(groups, key=lambda group: natural_key("/".join((*group.key[0], "_".join(group.key[1])))))


@dataclass
class Found:
    """Cases found by names alone.

    Attributes:
        cases: In natural order; the patient is the case until patients are looked for.
        folders: Folders of each case.
        channels: What distinguishes the images of a case; one empty name where it has one.
        orphans: Label maps without an image.
        notes: What the user should know.
    """

    cases: list[CaseFiles] = field(default_factory=list)
    folders: dict[str, Parts] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    orphans: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def build_cases(
    groups: Sequence[Group], root: Path, *, channels: Sequence[str], source: Callable[[Path, bool], Source]
) -> Found:
    """Return named cases.

    Args:
        groups: Files that belong together.
        root: The data set, for messages.
        channels: Names of the channels where the user gave them, in their order.
        source: What reads a file, given whether it is a label map.

    Raises:
        UserError: If a case has two files for one channel, or two label maps, or cases share no channel.
    """
    groups = in_order(groups)
    kept = tuple(channels) or _common_channels(groups)
    if groups and not kept:
        if any(len(entries) > 1 or len(group.images) > 1 for group in groups for entries in group.images.values()):
            shown = ", ".join(sorted({channel for group in groups for channel in group.images}, key=natural_key)[:3])
            raise UserError(
                f"{root} names files of no channel alike in half of the cases (such as {shown}): say which files are"
                " channels with --channel NAME=PATTERN"
            )
        # One image a case, whatever stands behind the patient in its name.
        groups = [Group(key=group.key, images={"": [group.first]}, labels=group.labels) for group in groups]
        kept = ("",)
    found = Found(channels=kept)
    left_out: Counter[str] = Counter()
    for group, name in zip(groups, _names(groups), strict=True):
        images: list[Source] = []
        for channel in kept:
            files = group.images.get(channel, [])
            if len(files) > 1:
                raise UserError(
                    f"{files[1].path} and {files[0].path.name} are both {channel or 'image'} of {name}: say which files"
                    " are channels with --channel NAME=PATTERN"
                )
            images.extend(source(entry.path, False) for entry in files)
        left_out.update(channel for channel in group.images if channel not in kept)
        if not images:
            continue
        if len(group.labels) > 1:
            raise UserError(
                f"{group.labels[1].path} and {group.labels[0].path.name} are both label maps of {name}: say which to"
                " take with --label PATTERN"
            )
        label = source(group.labels[0].path, True) if group.labels else None
        found.cases.append(CaseFiles(case=name, patient=name, images=tuple(images), label=label))
        found.folders[name] = group.key[0]
    for channel, count in sorted(left_out.items()):
        found.notes.append(
            f"{count} file{'s' * (count != 1)} named {channel or 'without a channel'} left out: only few cases have it"
        )
    return found


def _common_channels(groups: Sequence[Group]) -> tuple[str, ...]:
    """Return what at least half of the cases have: a case that lacks one of these is a mistake to be told."""
    counts = Counter(channel for group in groups for channel in group.images)
    common = [channel for channel, count in counts.items() if 2 * count >= len(groups)]
    return tuple(sorted(common, key=natural_key))


def _names(groups: Sequence[Group]) -> list[str]:
    """Return a name for each group: its files', else its folders', all of it where it would not be the only one."""
    folders = _varying([group.key[0] for group in groups])
    names = [_file_name(group) or "_".join(own) for group, own in zip(groups, folders, strict=True)]
    twice = {name for name, count in Counter(names).items() if count > 1}
    names = ["_".join((*own, name)) if name in twice else name for name, own in zip(names, folders, strict=True)]
    again = Counter(names)
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(name if again[name] == 1 else f"{name}_{seen[name]}")
    return [name or "case" for name in unique]


def _file_name(group: Group) -> str:
    """Return what the files of a group begin with, as it is written."""
    count = len(group.key[1])
    stem = group.first.stem
    if not count or split_name(stem)[:count] != group.key[1]:
        return "_".join(group.key[1])
    position = 0
    for part in group.key[1]:
        position = stem.index(part, position) + len(part)
    return stem if count == len(split_name(stem)) else stem[:position]


def _varying(folders: list[Parts]) -> list[Parts]:
    same = {
        level
        for level in range(max(map(len, folders), default=0))
        if len({own[level : level + 1] for own in folders}) == 1
    }
    if len(folders) < 2:
        return folders
    return [tuple(name for level, name in enumerate(own) if level not in same) for own in folders]


def channel_titles(suffixes: Sequence[str], count: int) -> tuple[str, ...]:
    """Return names for channels: what sets their files apart, or numbers where one file holds `count` of them."""
    if len(suffixes) == 1:
        if count > 1:
            return tuple(f"channel {number}" for number in range(count))
        return (suffixes[0] if suffixes[0] and not suffixes[0].isdecimal() else "image",)
    parts = [split_name(suffix) for suffix in suffixes]
    while min(map(len, parts)) > 1 and len({own[-1] for own in parts}) == 1:
        parts = [own[:-1] for own in parts]
    names = ["_".join(own) or "image" for own in parts]
    return tuple(f"channel {int(name)}" if name.isdecimal() else name for name in names)
