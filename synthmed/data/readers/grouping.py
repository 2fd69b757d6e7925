"""Which files belong to one case, by their names alone."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from synthmed.data.readers.base import natural_key
from synthmed.data.readers.naming import Entry, Parts, glob_parts, holds_many, without_label_words
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
