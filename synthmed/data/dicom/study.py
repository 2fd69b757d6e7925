"""Files of a folder as studies of series, and which series of a study are one case's channels."""

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synthmed.data.dicom.headers import SECONDARY_CAPTURE, Header
from synthmed.data.dicom.labels import LabelObject, read_label_object
from synthmed.data.dicom.names import tidy
from synthmed.data.dicom.slices import Slice
from synthmed.data.dicom.stack import SeveralVolumesError, Stack, plane, stack
from synthmed.data.people import Identity
from synthmed.errors import UserError

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
