"""What names say: which files are one case's, and which cases one patient's."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import translate
from pathlib import Path

from synthmed.data.formats import ending_of
from synthmed.data.readers.base import CaseFiles, natural_key
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


_BIDS = re.compile(r"(sub-[0-9A-Za-z]+)(?:_.*)?")
_TCGA = re.compile(r"(TCGA[-_][0-9A-Za-z]{2}[-_][0-9A-Za-z]{4})(?:[-_].*)?")
_SIDE = re.compile(r"(.*\d)[LR]|(.+?)[_\-. ](?:left|right|l|r|od|os|lt|rt)", re.IGNORECASE)
_VISIT = re.compile(
    r"(.+?)[_\-. ](?:(?:v|visit|t|tp|timepoint|ses|session|fu|followup|follow-up)"
    r"[_-]?\d+|baseline|follow-?up|(?:19|20)\d{6}|(?:19|20)\d\d-\d\d-\d\d)",
    re.IGNORECASE,
)
_NUMBERED = re.compile(r"(.*\d.*?)[_\-. ]\d+")
Folders = dict[str, Parts]


@dataclass(frozen=True)
class _Rule:
    what: str
    patient: Callable[[str], str]


def assign_patients(
    cases: Sequence[CaseFiles], pattern: str | None, *, folders: Folders | None = None, numbered: bool = False
) -> tuple[list[CaseFiles], tuple[str, ...]]:
    """Return the cases with their patients, and what the user should know of how these were found.

    Args:
        cases: The cases.
        pattern: Regular expression with one group, which finds the patient in a case's name or, where it does not
            match that, in its path in the data set; None to look for common habits.
        folders: Folders in which each case lies, where folders may be patients.
        numbered: Whether cases `AB12_1` and `AB12_2` are slices of one patient.

    Raises:
        UserError: If the pattern is wrong or does not match a case.
    """
    names = [case.case for case in cases]
    places = folders or {}
    if pattern is not None:
        patients = _by_pattern(names, pattern, places)
        what = f"--patient-pattern {pattern}"
    else:
        patients, what = _by_habit(names, places, numbered)
    found = [replace(case, patient=patient) for case, patient in zip(cases, patients, strict=True)]
    count = len(set(patients))
    if not what or count == len(names) and pattern is None:
        return found, ()
    note = f"{len(names)} case{'s' * (len(names) != 1)} of {count} patient{'s' * (count != 1)}: {what}"
    return found, (note if pattern is not None else f"{note}; --patient-pattern says it otherwise",)


def _by_pattern(names: list[str], pattern: str, folders: Folders) -> list[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f"--patient-pattern {pattern} is no regular expression ({error}): mend it") from None
    if compiled.groups != 1:
        raise UserError(
            f"--patient-pattern {pattern} has {compiled.groups} groups: put brackets around the patient alone, as in"
            r" '(\d+)[LR]'"
        )
    patients = []
    for name in names:
        match = compiled.search(name) or compiled.search("/".join((*folders.get(name, ()), name)))
        if match is None or not match[1]:
            raise UserError(f"--patient-pattern {pattern} finds no patient in the case {name}: widen it")
        patients.append(match[1])
    return patients


def _by_habit(names: list[str], folders: Folders, numbered: bool) -> tuple[list[str], str]:
    for pattern, what in ((_BIDS, "names begin as in BIDS (sub-...)"), (_TCGA, "names begin with a TCGA patient")):
        matches = [pattern.fullmatch(name) for name in names]
        if all(matches):
            return [match[1] for match in matches if match], what
    patients, used = list(names), []
    inside = [_patient_folder(folders.get(name, ())) for name in names]
    if all(inside):
        patients = [folder for folder in inside if folder]
        if len(set(patients)) < len(names):
            used.append("they lie in a folder each")
    best, chosen = patients, list[str]()
    for rules in _RULES:
        shorter = patients
        for rule in rules:
            shorter = [rule.patient(name) for name in shorter]
        if len(set(shorter)) < len(set(best)) and _groups(patients, shorter):
            best = shorter
            chosen = [rule.what for rule in rules]
    if best is not patients:
        patients = best
        used.extend(chosen)
    if numbered and not all(inside) and not used:
        matches = [_NUMBERED.fullmatch(name) for name in names]
        shorter = [match[1] if match else name for match, name in zip(matches, names, strict=True)]
        if all(matches) and _groups(names, shorter):
            return shorter, "names that differ in the last number alone"
    return patients, " and ".join(dict.fromkeys(used))


def _groups(names: list[str], shorter: list[str]) -> bool:
    """Return whether shorter names bring cases together, and not all of them: then it is no patient's name."""
    patients = Counter(shorter)
    before = len(set(names))
    return len(patients) < before and (len(patients) > 1 or before == 2)


def _without_side(name: str) -> str:
    match = _SIDE.fullmatch(name)
    return (match[1] or match[2]) if match else name


def _without_visit(name: str) -> str:
    match = _VISIT.fullmatch(name)
    return match[1] if match else name


_SIDES = _Rule("names that differ in left and right alone", _without_side)
_VISITS = _Rule("names that differ in visit or date alone", _without_visit)
# A side may stand before a visit or behind it; the least that brings most together is taken.
_RULES = ((_SIDES,), (_VISITS,), (_VISITS, _SIDES), (_SIDES, _VISITS))


def _patient_folder(folders: Parts) -> str | None:
    """Return the name of the outermost folder that may be a patient's: one with a digit that holds one alone."""
    for level, name in enumerate(folders):
        if names_patient(name):
            # Hospitals may number their patients alike.
            return "_".join((*(own for own in folders[:level] if re.search(r"\d", own)), name))
    return None
