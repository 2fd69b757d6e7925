"""What file and folder names say: words of labels and images, parts of a name, patterns as in a shell."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import translate
from pathlib import Path

from synthmed.data.readers.base import natural_key
from synthmed.data.volumes import ending_of
from synthmed.errors import UserError

Parts = tuple[str, ...]

_LABEL = re.compile(r"seg|label|mask(?!ed)|truth|annot|contour|delin|^gt|gt$|^rois?\d*$", re.IGNORECASE)
_LABEL_FOLDER = re.compile(_LABEL.pattern + r"|manual", re.IGNORECASE)
_IMAGE_FOLDER = re.compile(
    r"(images?|imgs?|pictures?|photos?|scans?|volumes?|inputs?|originals?)(t[rs])?", re.IGNORECASE
)
_MANY = re.compile(
    r"(train|training|val|valid|validation|test|testing|tr|ts|holdout|input|inputs|task\d*|data|images?)(_?set)?|"
    r"(fold|part|batch|split|set|dataset|site|cent(er|re)|hospital|scanner|vendor|domain|cohort|group|class|grade|stage)"
    r"[_-]?\d+",
    re.IGNORECASE,
)
_DEEPEST = 6


@dataclass(frozen=True)
class Entry:
    """A file of a data set by what its name says.

    Attributes:
        path: The file.
        folders: Folders between the data set and the file, without those that only say "images" or "labels".
        stem: Its name without the ending.
        parts: Parts of the stem, between its signs.
        label: Whether its own name or a folder's says that it is a label map.
    """

    path: Path
    folders: Parts
    stem: str
    parts: Parts
    label: bool


def split_name(name: str) -> Parts:
    """Return the parts of a name between `_`, `-`, dots, blanks and brackets."""
    return tuple(part for part in re.split(r"[_\-.\s()\[\]]+", name) if part)


def walk(root: Path, endings: tuple[str, ...]) -> Iterator[Path]:
    """Yield the files of these formats in a folder and those below it, without hidden ones and those of macOS."""
    for folder, below, names in os.walk(root):
        depth = len(Path(folder).relative_to(root).parts)
        below[:] = sorted((name for name in below if _is_shown(name) and depth < _DEEPEST), key=natural_key)
        for name in sorted(filter(_is_shown, names), key=natural_key):
            if (ending_of(name) or "").lower() in endings:
                yield Path(folder) / name


def _is_shown(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"


def names_patient(folder: str) -> bool:
    """Return whether a folder's name may be a patient's: it has a digit, and no word for a place that holds many."""
    several = _MANY.fullmatch(folder) or any(map(_MANY.fullmatch, split_name(folder)))
    return re.search(r"\d", folder) is not None and not several


def holds_many(folder: str) -> bool:
    """Return whether a folder's name is that of a split, a hospital or the like, whatever number it has."""
    return _MANY.fullmatch(folder) is not None


def entries(root: Path, endings: tuple[str, ...], label: str | None = None) -> list[Entry]:
    """Return the files of these formats in and below a folder.

    Args:
        root: The data set.
        endings: Of the formats.
        label: Pattern of the label maps; found by words in names where it is not given.

    Raises:
        UserError: If `label` matches nothing.
    """
    paths = list(walk(root, endings))
    stems = [path.name.removesuffix(ending_of(path.name) or "") for path in paths]
    parts = [split_name(stem) for stem in stems]
    # A word that stands in every name is the data set's own: "SegTHOR_01_ct", "SegTHOR_01_heart".
    everywhere = set.intersection(*map(set, parts)) if len(parts) > 1 else set()
    named = [any(_LABEL.search(part) and part not in everywhere for part in own) for own in parts]
    inside = [any(map(_LABEL_FOLDER.search, path.relative_to(root).parts[:-1])) for path in paths]
    if label is not None:
        labels = [glob_parts(label, path, root) is not None for path in paths]
        if not any(labels):
            raise UserError(
                f"{root}: --label {label} matches no file: write it as in a shell, for example '*_seg.nii.gz'"
            )
    elif any(inside) and not all(inside):
        # Beside a folder of labels, a word in a picture's own name ("left_segment.png") is no sign.
        labels = inside
    else:
        labels = named
    return [
        Entry(path=path, folders=_own_folders(path, root), stem=stem, parts=own, label=is_label)
        for path, stem, own, is_label in zip(paths, stems, parts, labels, strict=True)
    ]


def _own_folders(path: Path, root: Path) -> Parts:
    return tuple(
        name
        for name in path.relative_to(root).parts[:-1]
        if not _LABEL_FOLDER.search(name) and not _IMAGE_FOLDER.fullmatch(name)
    )


def without_label_words(parts: Parts) -> Parts:
    """Return the parts of a label map's name that do not say that it is one."""
    return tuple(part for part in parts if not _LABEL.search(part))


def glob_parts(pattern: str, path: Path, root: Path) -> Parts | None:
    """Return the parts of what the stars of a pattern stand for in a file's name; None where it does not match.

    A pattern with a slash is compared with the path inside the data set.
    """
    text = path.relative_to(root).as_posix() if "/" in pattern else path.name
    # Each star becomes a group of its own.
    pieces = [translate(piece)[4:-3] if piece else "" for piece in re.split(r"\*+", pattern)]
    found = re.fullmatch("(.*?)".join(pieces[:-1] + [pieces[-1]]), text, re.DOTALL)
    if found is None:
        return None
    # `case*` also stands for the ending, which is nobody's name.
    stem = len(text) - len(ending_of(text) or "")
    spans = (found.span(number + 1) for number in range(len(pieces) - 1))
    return split_name("_".join(text[first : min(last, stem)] for first, last in spans))
