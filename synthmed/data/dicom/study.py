"""DICOM studies: which series are whose, what they are called, and which is which channel."""

import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from synthmed.data.dicom.labels import LabelObject, read_label_object
from synthmed.data.dicom.slices import SECONDARY_CAPTURE, Header, Slice
from synthmed.data.dicom.stack import SeveralVolumesError, Stack, plane, stack
from synthmed.data.people import Identity
from synthmed.errors import UserError

LONGEST = 40


def tidy(text: str) -> str:
    """Return a free text as a name: letters, digits and `_ . + -`, single spaces, at most 40 characters."""
    kept = re.sub(r"[^\w.+\- ]+", " ", unicodedata.normalize("NFKC", text))
    return " ".join(kept.split())[:LONGEST].strip(" .")


def study_names(uids: Iterable[str]) -> dict[str, str]:
    """Return a pseudonym for each StudyInstanceUID: the first 8 hex digits of its SHA-256, 16 where two would agree."""
    digests = {uid: hashlib.sha256(uid.encode()).hexdigest() for uid in uids}
    for digits in (8, 16, 64):
        names = {uid: f"study-{digest[:digits]}" for uid, digest in digests.items()}
        if len(set(names.values())) == len(names):
            break
    return names


def patient_names(patients: Mapping[str, str], studies: Mapping[str, str]) -> dict[str, str]:
    """Return a pseudonym of each study's patient, made of the first of the patient's studies.

    A digest of the PatientID itself would not do: IDs are short, and all of them can be tried.

    Args:
        patients: PatientID by StudyInstanceUID; empty where it is not known, and the study then has its own patient.
        studies: Pseudonyms from `study_names`.
    """
    first: dict[str, str] = {}
    for uid in sorted(studies, key=lambda uid: studies[uid]):
        first.setdefault(patients[uid] or f"\0{uid}", studies[uid])
    return {uid: first[patients[uid] or f"\0{uid}"].replace("study-", "patient-") for uid in studies}


LABELS = ("SEG", "RTSTRUCT")
_SCOUT = re.compile(r"locali[sz]er|scout|topogram|surview|scanogram|3[ -]?plane", re.IGNORECASE)
_DERIVED = {"LOCALIZER", "SCREEN SAVE", "PROJECTION IMAGE", "DOSE_INFO"}


@dataclass(frozen=True)
class Series:
    """The images of one series.

    Attributes:
        uid: SeriesInstanceUID.
        path: Its folder, or its first file where other series are in the folder too.
        header: Of its first file.
        slices: In any order.
        name: Its description as a name; the modality where there is none, or it is withheld.
        withheld: Whether the description tells of a person.
        stack: Its slices in order; None where they make no single volume.
        error: Why they make none.
    """

    uid: str
    path: Path
    header: Header
    slices: tuple[Slice, ...]
    name: str
    withheld: bool
    stack: Stack | None
    error: UserError | None

    @property
    def described(self) -> bool:
        """Return whether the name comes from the description."""
        return self.name != self.header.modality

    @property
    def scout(self) -> bool:
        """Return whether it was taken to plan others, or made from them for looking at."""
        return bool(_DERIVED & set(self.header.image_type)) or bool(_SCOUT.search(self.header.description))

    @property
    def screenshot(self) -> bool:
        """Return whether it is a picture of a screen or in colour."""
        return self.header.sop_class.startswith(SECONDARY_CAPTURE) or self.slices[0].samples > 1


@dataclass(frozen=True)
class Study:
    """What is known of a study.

    Attributes:
        uid: StudyInstanceUID.
        patient: PatientID; empty where it is not known.
        identity: Of everybody in the data set: what may be in no name.
        groups: Series that lie on one grid, the best choice for a case first; a series may be broken.
        labels: Segmentations and structure sets.
        left_out: How many series were left out for each reason.
        others: Modalities of objects that are neither images nor labels.
    """

    uid: str
    patient: str
    identity: Identity
    groups: tuple[tuple[Series, ...], ...]
    labels: tuple[LabelObject, ...]
    left_out: dict[str, int]
    others: tuple[str, ...]

    @property
    def path(self) -> Path:
        """Return the folder or file by which the user knows the study."""
        return self.groups[0][0].path


def studies_of(headers: list[Header]) -> list[Study]:
    """Return the studies with images, sorted by UID.

    Raises:
        UserError: If a study has two patients, or a segmentation cannot be read.
    """
    found: dict[str, list[Header]] = defaultdict(list)
    for header in headers:
        found[header.study].append(header)
    crowded = _crowded(headers)
    # A relative or a physician may stand in another study's headers.
    identity = Identity(text for header in headers for text in header.personal)
    studies = [_study(uid, found[uid], identity, crowded) for uid in sorted(found)]
    return [study for study in studies if study.groups]


def _crowded(headers: list[Header]) -> set[Path]:
    """Return the folders that hold several series."""
    series: dict[Path, set[str]] = defaultdict(set)
    for header in headers:
        series[header.path.parent].add(header.series)
    return {folder for folder, uids in series.items() if len(uids) > 1}


def _study(uid: str, headers: list[Header], identity: Identity, crowded: set[Path]) -> Study:
    known = [header for header in headers if header.patient]
    for header in known[1:]:
        if header.patient != known[0].patient:
            raise UserError(
                f"{header.path} is of another patient than {known[0].path}, in the same study: correct their PatientID"
            )
    images: dict[str, list[Header]] = defaultdict(list)
    for header in headers:
        if header.slices:
            images[header.series].append(header)
    series = [_series(name, images[name], identity, crowded) for name in images]
    series.sort(key=lambda one: (one.header.number, one.name.casefold(), one.uid))
    labels = tuple(read_label_object(header) for header in headers if header.modality in LABELS)
    kept, left_out = _worth_looking_at(series)
    groups = _groups(kept, labels)
    rest = sum(len(group) for group in groups[1:])
    if rest:
        left_out["another geometry"] = rest
    others = tuple(header.modality or "no modality" for header in headers if _is_other(header))
    patient = known[0].patient if known else ""
    return Study(uid, patient, identity, tuple(groups), labels, left_out, others)


def _is_other(header: Header) -> bool:
    return not header.slices and header.modality not in LABELS


def _series(uid: str, headers: list[Header], identity: Identity, crowded: set[Path]) -> Series:
    header = headers[0]
    folder = header.path.parent
    path = header.path if folder in crowded or any(other.path.parent != folder for other in headers) else folder
    slices = tuple(one for other in headers for one in other.slices)
    name = tidy(header.description)
    withheld = bool(name) and identity.is_revealed_by(header.description)
    if not name or withheld:
        name = header.modality
    found, wrong = None, None
    spaces = {other.frame_of_reference for other in headers}
    try:
        if len(spaces) > 1:
            raise UserError(f"{path} mixes frames of reference in one series: move the odd slices out")
        found = stack(slices, path)
    except UserError as error:
        wrong = error
    return Series(uid, path, header, slices, name, withheld, found, wrong)


def _worth_looking_at(series: list[Series]) -> tuple[list[Series], dict[str, int]]:
    """Return the series without scouts, screenshots and such, as long as others are there; how many of each."""
    left_out: dict[str, int] = {}
    kept = series
    for reason, is_one in (
        ("a localizer or derived picture", lambda one: one.scout),
        ("a screenshot or in colour", lambda one: one.screenshot),
        ("several volumes in one series", lambda one: isinstance(one.error, SeveralVolumesError)),
    ):
        others = [one for one in kept if not is_one(one)]
        if others and len(others) < len(kept):
            left_out[reason] = len(kept) - len(others)
            kept = others
    return kept, left_out


def _groups(series: list[Series], labels: tuple[LabelObject, ...]) -> list[tuple[Series, ...]]:
    """Return groups of series on one grid: first those that labels were drawn on, then the larger ones."""
    groups: list[list[Series]] = []
    for one in series:
        if one.stack is not None:
            fitting = next((group for group in groups if _same_grid(one, group[0])), None)
            groups.append([one]) if fitting is None else fitting.append(one)
    for one in series:
        if one.stack is None:
            # A broken series belongs where its plane is: better told than left out, for it lacks perhaps one file.
            fitting = next((group for group in groups if _same_plane(one, group[0])), None)
            groups.append([one]) if fitting is None else fitting.append(one)
    drawn_on = {uid for label in labels for uid in label.series}

    def worth(group: list[Series]) -> tuple[int, int, int, int, int]:
        return (
            sum(one.uid in drawn_on for one in group),
            len(group),
            sum(one.stack is not None for one in group),
            len(group[0].slices),
            group[0].slices[0].rows * group[0].slices[0].columns,
        )

    in_order = [sorted(group, key=lambda one: (one.header.number, one.name.casefold(), one.uid)) for group in groups]
    return [tuple(group) for group in sorted(in_order, key=worth, reverse=True)]


def _same_grid(one: Series, other: Series) -> bool:
    """Return whether two series lie on one grid of the same space; nothing registers what has no frame of reference."""
    space = one.header.frame_of_reference
    if not space or space != other.header.frame_of_reference or one.stack is None or other.stack is None:
        return False
    same = one.stack.geometry.shape == other.stack.geometry.shape and one.slices[0].samples == other.slices[0].samples
    if not same:
        return False
    # The furthest corner must agree to a tenth of a voxel.
    corner = np.array([*one.stack.geometry.shape, 1.0])
    pixel = 0.1 * min(one.stack.geometry.zooms)
    return all(np.abs((one.stack.affine - other.stack.affine) @ end).max() <= pixel for end in (corner, [0, 0, 0, 1]))


def _same_plane(one: Series, other: Series) -> bool:
    space = one.header.frame_of_reference
    return bool(space) and space == other.header.frame_of_reference and plane(one.slices[0]) == plane(other.slices[0])


COLOURS = ("red", "green", "blue")
MEND = "add the series, move the study out, or choose channels with --channel NAME=PATTERN"


@dataclass(frozen=True)
class Choice:
    """The series of one study that are its channels.

    Attributes:
        study: The study.
        series: A series for each channel, None where the study lacks it.
        spare: How many series of the same grid are no channel.
        away: How many series lie on other grids.
    """

    study: Study
    series: tuple[Series | None, ...]
    spare: int
    away: int


def choose_channels(
    studies: list[Study], wanted: tuple[tuple[str, str], ...] = ()
) -> tuple[tuple[str, ...], list[Choice]]:
    """Return the names of the channels and, for each study, its series.

    Args:
        studies: At least one.
        wanted: Name of each channel and a pattern (as in a shell) of its description; by default the descriptions
            that most studies have on their chosen grid are the channels, or "CT" where each has one CT series there.

    Raises:
        UserError: If no study has a series that a pattern asks for.
    """
    if wanted:
        names = tuple(name for name, _ in wanted)
        patterns = tuple(pattern.casefold() for _, pattern in wanted)
        choices = [_matching(study, patterns) for study in studies]
        for name, pattern, found in zip(
            names, patterns, zip(*(one.series for one in choices), strict=True), strict=True
        ):
            if not any(found):
                known = ", ".join(sorted({one.name for study in studies for group in study.groups for one in group}))
                raise UserError(f"--channel {name}={pattern} fits no series: choose among {known}")
        return names, choices
    if all(len(study.groups[0]) == 1 and study.groups[0][0].header.modality == "CT" for study in studies):
        # One CT series each: Hounsfield units are the same everywhere, whatever a site calls its protocol.
        return ("CT",), [_choice(study, study.groups[0], 1) for study in studies]
    named = [[_named(group) for group in study.groups] for study in studies]
    counts = Counter(tuple(sorted(_folded(groups[0]))) for groups in named)
    # The set of names that most studies have; of two as frequent ones the larger.
    usual = max(counts, key=lambda names: (counts[names], len(names), names))
    first = next(groups[0] for groups in named if tuple(sorted(_folded(groups[0]))) == usual)
    names = tuple(first)
    return names, [_best(study, groups, names) for study, groups in zip(studies, named, strict=True)]


def _folded(names: dict[str, Series]) -> dict[str, Series]:
    return {name.casefold(): one for name, one in names.items()}


def _named(group: tuple[Series, ...]) -> dict[str, Series]:
    """Return the series of a group by names that are told apart: what has none or repeats becomes "MR 1", "MR 2"."""
    counts = Counter(one.name.casefold() for one in group)
    named: dict[str, Series] = {}
    numbers: Counter[str] = Counter()
    for one in group:
        name = one.name
        if not one.described or counts[name.casefold()] > 1:
            numbers[one.header.modality] += 1
            name = f"{one.header.modality or 'series'} {numbers[one.header.modality]}"
        named[name] = one
    return named


def _best(study: Study, groups: list[dict[str, Series]], names: tuple[str, ...]) -> Choice:
    wanted = [name.casefold() for name in names]
    # max takes the first of equals, and groups come best first.
    folded = max((_folded(group) for group in groups), key=lambda group: sum(name in group for name in wanted))
    return _choice(study, tuple(folded.get(name) for name in wanted), len(folded))


def _matching(study: Study, patterns: tuple[str, ...]) -> Choice:
    best: tuple[tuple[Series | None, ...], int] = ((None,) * len(patterns), 0)
    for group in study.groups:
        found: list[Series | None] = []
        for pattern in patterns:
            fitting = [one for one in group if fnmatchcase(_spoken(one).casefold(), pattern)]
            if len(fitting) > 1:
                names = ", ".join(one.name for one in fitting)
                raise UserError(f"{study.path}: the pattern {pattern} fits {len(fitting)} series ({names}): narrow it")
            found.append(fitting[0] if fitting else None)
        if sum(one is not None for one in found) > sum(one is not None for one in best[0]):
            best = tuple(found), len(group)
    return _choice(study, *best)


def _spoken(series: Series) -> str:
    """Return what a pattern of the user is compared with: a name that is withheld, too, for the user knows it."""
    return tidy(series.header.description) if series.withheld else series.name


def _choice(study: Study, series: tuple[Series | None, ...], in_group: int) -> Choice:
    total = sum(len(group) for group in study.groups)
    taken = sum(one is not None for one in series)
    return Choice(study, series, in_group - taken, total - in_group)
