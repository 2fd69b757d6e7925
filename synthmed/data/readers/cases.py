"""From groups of files to named cases: which files are channels, which label map is whose."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from synthmed.data.readers.base import CaseFiles, natural_key
from synthmed.data.readers.grouping import Group, in_order
from synthmed.data.readers.naming import Parts, split_name
from synthmed.data.volumes import Source
from synthmed.errors import UserError


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
