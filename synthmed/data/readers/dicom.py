"""DICOM: a study is a case, its registered series are the channels, its SEG or RTSTRUCT objects the label map."""

import itertools
from collections import Counter
from pathlib import Path

from synthmed.data.dicom.labels import LabelObject, LabelSource
from synthmed.data.dicom.slices import Header, holds_dicom, read_headers
from synthmed.data.dicom.stack import RefusedSource, SeriesSource
from synthmed.data.dicom.study import (
    COLOURS,
    LABELS,
    MEND,
    Choice,
    Series,
    Study,
    choose_channels,
    patient_names,
    studies_of,
    study_names,
    tidy,
)
from synthmed.data.formats import Source
from synthmed.data.readers.base import CaseFiles, Dataset, Modality, ReadOptions
from synthmed.data.readers.nnunet import UNNAMED
from synthmed.data.schema import IGNORE, Geometry
from synthmed.errors import UserError

_MODALITIES: dict[str, Modality] = {"CT": "CT", "MR": "MRI"}
BACKGROUND = "background"


class DicomReader:
    """Reads DICOM files in folders of any depth; DICOMDIR is not looked at, the headers tell what belongs together."""

    def recognises(self, path: Path) -> bool:
        """Return whether a few files of the folder are DICOM."""
        return holds_dicom(path)

    def read(self, path: Path, options: ReadOptions) -> Dataset:
        """Return the studies of the folder as cases under pseudonyms.

        Raises:
            UserError: If a file is damaged, a study has two patients, or there is no image at all.
        """
        if options.patient_pattern:
            raise UserError(f"{path} is DICOM, where PatientID tells the patients apart: leave out --patient-pattern")
        if options.label:
            raise UserError(f"{path} is DICOM, where SEG and RTSTRUCT objects are the labels: leave out --label")
        headers = read_headers(path)
        studies = studies_of(headers)
        if not studies:
            raise UserError(f"{path} holds DICOM files but no images: add the series that they belong to")
        channels, choices = choose_channels(studies, options.channels)
        names = study_names(study.uid for study in studies)
        patients = patient_names({study.uid: study.patient for study in studies}, names)
        spelled = _class_names(studies)
        values, classes = _classes(spelled, path)
        cases, left_labels = [], 0
        for choice in choices:
            name = names[choice.study.uid]
            label, unused = _label(choice, name, values, spelled)
            left_labels += unused
            images = _images(choice, channels, name)
            cases.append(CaseFiles(case=name, patient=patients[choice.study.uid], images=images, label=label))
        labelled = any(case.label is not None for case in cases)
        colour = len(channels) == 1 and any(one and one.slices[0].samples == 3 for one in choices[0].series)
        return Dataset(
            path=path,
            name=UNNAMED,
            licence="unknown",
            layout="DICOM",
            channels=COLOURS if colour else channels,
            classes=classes if labelled else (BACKGROUND,),
            label_values=tuple(range(len(classes))) if labelled else (0,),
            cases=sorted(cases, key=lambda case: case.case),
            modalities=("picture",) * 3 if colour else _modalities(choices),
            notes=(
                *_strays(headers, studies),
                *_notes(studies, choices, labelled, classes, left_labels),
                *_withheld(choices, channels, options.channels, studies, spelled),
            ),
            labelled=labelled,
        )


def _modalities(choices: list[Choice]) -> tuple[Modality, ...]:
    found: list[Modality] = []
    for series in zip(*(choice.series for choice in choices), strict=True):
        kinds = {_MODALITIES.get(one.header.modality, "other") for one in series if one is not None}
        found.append(kinds.pop() if len(kinds) == 1 else "other")
    return tuple(found)


def _images(choice: Choice, channels: tuple[str, ...], name: str) -> tuple[Source, ...]:
    sources: list[Source] = []
    grid = next((one.stack.geometry for one in choice.series if one is not None and one.stack is not None), None)
    for channel, series in zip(channels, choice.series, strict=True):
        if series is None:
            sources.append(RefusedSource(choice.study.path, f"lacks {channel}, which other studies have: {MEND}"))
        else:
            sources.append(_source(series, f"{name}/{channel}", grid))
    return tuple(sources)


def _source(series: Series, name: str, grid: Geometry | None) -> SeriesSource | RefusedSource:
    return _refused(series) if series.stack is None else SeriesSource(series.path, name, series.stack, grid)


def _refused(series: Series) -> RefusedSource:
    path = next((one.path for one in series.slices if str(series.error).startswith(f"{one.path} ")), series.path)
    return RefusedSource(path, str(series.error).removeprefix(f"{path} "))


Spelled = dict[tuple[Path, int], str]
"""Name of the class of each structure, by its file and its number there."""


def _class_names(studies: list[Study]) -> Spelled:
    """Return the names of structures: their own, or "structure 1" and so on where those tell of a person.

    What is called the same has the same number in all files, and what is not has another: a number within its file
    says nothing of what a structure is.
    """
    own = {
        (label.path, number): label.names[number]
        for study in studies
        for label in study.labels
        for number in label.names
    }
    identity = next((study.identity for study in studies), None)
    found: Spelled = {}
    withheld: dict[str, list[tuple[Path, int]]] = {}
    for place, text in own.items():
        if not tidy(text) or (identity is not None and identity.is_revealed_by(text)):
            withheld.setdefault((tidy(text) or text).casefold(), []).append(place)
        else:
            found[place] = tidy(text)
    taken = {name.casefold() for name in found.values()}
    free = (name for number in itertools.count(1) if (name := f"structure {number}") not in taken)
    for _, places in sorted(withheld.items()):
        found |= dict.fromkeys(places, next(free))
    return found


def _classes(spelled: Spelled, path: Path) -> tuple[dict[str, int], tuple[str, ...]]:
    """Return the label value of each structure's name, case aside, over all studies, and the names of the classes.

    Raises:
        UserError: If there are more than a label map of a store can tell apart.
    """
    known: dict[str, str] = {}
    for name in spelled.values():
        if name.casefold() != BACKGROUND:
            known.setdefault(name.casefold(), name)
    if len(known) >= IGNORE:
        raise UserError(
            f"{path} has {len(known)} structures of different names in its SEG and RTSTRUCT objects, there can be"
            f" {IGNORE - 1}: give what is the same one name, or leave out the objects that are not needed"
        )
    ordered = sorted(known)
    return {name: value for value, name in enumerate(ordered, start=1)}, (
        BACKGROUND,
        *(known[name] for name in ordered),
    )


def _label(choice: Choice, name: str, values: dict[str, int], spelled: Spelled) -> tuple[Source | None, int]:
    """Return the label map of a study and how many of its label objects belong to series that were left out."""
    chosen = [one for one in choice.series if one is not None]
    if not chosen or not choice.study.labels:
        return None, 0
    used: list[LabelObject] = []
    for label in choice.study.labels:
        fits = _belongs(label, chosen, choice.study)
        if isinstance(fits, str):
            return RefusedSource(label.path, fits), 0
        if fits:
            used.append(label)
    unused = len(choice.study.labels) - len(used)
    if not used:
        return None, unused
    tables = []
    owner: dict[int, LabelObject] = {}
    for label in used:
        table = []
        for number in sorted(label.names):
            class_name = spelled[label.path, number]
            value = values.get(class_name.casefold())
            if value is None:
                continue
            other = owner.setdefault(value, label)
            if other is not label:
                reason = f"holds {class_name}, as {other.path.name} does: keep one of the two files"
                return RefusedSource(label.path, reason), unused
            table.append((number, value))
        tables.append((label.kind, label.path, tuple(table)))
    grid = next((one.stack for one in chosen if one.stack is not None), None)
    if grid is None:
        return _refused(chosen[0]), unused
    return LabelSource(used[0].path, f"{name}/labels", tuple(tables), grid), unused


def _belongs(label: LabelObject, chosen: list[Series], study: Study) -> bool | str:
    """Return whether a label object was drawn on the chosen series; what is wrong with it where that cannot be."""
    on_chosen = bool(label.series & {one.uid for one in chosen})
    spaces = {one.header.frame_of_reference for one in chosen}
    if label.frames & spaces or (on_chosen and not label.frames):
        known = {one.uid for group in study.groups for one in group}
        # Drawn on another grid of the same space: not usable here, unless it does not say on which.
        return on_chosen or not label.series & known
    if not on_chosen and label.series & {one.uid for group in study.groups for one in group}:
        return False
    return "is of another frame of reference than the images of its study: remove it or add the series it was drawn on"


def _strays(headers: list[Header], studies: list[Study]) -> tuple[str, ...]:
    """Return what to say of label objects whose study has no images here."""
    known = {study.uid for study in studies}
    count = sum(header.modality in LABELS and header.study not in known for header in headers)
    return (f"left out: {count} of the label objects, of studies whose images are not here",) if count else ()


def _notes(
    studies: list[Study], choices: list[Choice], labelled: bool, classes: tuple[str, ...], left_labels: int
) -> tuple[str, ...]:
    notes: list[str] = []
    left: Counter[str] = Counter()
    places: Counter[str] = Counter()
    for choice in choices:
        reasons = {reason: n for reason, n in choice.study.left_out.items() if reason != "another geometry"}
        reasons |= {"another geometry": choice.away, "no channel of the others": choice.spare}
        for reason, count in reasons.items():
            left[reason] += count
            places[reason] += bool(count)
    for reason in sorted(left):
        if left[reason]:
            notes.append(f"left out: {left[reason]} series of {_studies(places[reason])} with {reason}")
    others = Counter(kind for study in studies for kind in study.others)
    if others:
        kinds = ", ".join(tidy(kind) for kind in sorted(others))
        notes.append(f"left out: {sum(others.values())} of the files, which are no images ({kinds})")
    if left_labels:
        notes.append(f"left out: {left_labels} of the label objects, drawn on series that were left out")
    if not labelled:
        notes.append("no labels: no SEG or RTSTRUCT object belongs to these images; they are read as images alone")
    elif len(classes) > 2:
        notes.append("where structures overlap, the smaller one is shown")
    unknown = sum(not study.patient for study in studies)
    if unknown:
        notes.append(f"no PatientID in {_studies(unknown)}: each such study is taken for a patient of its own")
    return tuple(notes)


def _studies(studies: int) -> str:
    return f"{studies} {'study' if studies == 1 else 'studies'}"


def _withheld(
    choices: list[Choice],
    channels: tuple[str, ...],
    wanted: tuple[tuple[str, str], ...],
    studies: list[Study],
    spelled: Spelled,
) -> tuple[str, ...]:
    """Return what to say of descriptions that name nothing since they tell of a person."""
    notes: list[str] = []
    why = "for it holds a name, number or date of a person in the headers"
    series = [one for study in studies for group in study.groups for one in group if one.withheld]
    if series and not wanted and channels != ("CT",):
        files = len({one.path for each in series for one in each.slices})
        instead = {
            channel
            for choice in choices
            for channel, one in zip(channels, choice.series, strict=True)
            if one is not None and one.withheld
        }
        called = f"called {', '.join(sorted(instead))} instead" if instead else "they are no channel"
        notes.append(
            f"SeriesDescription of {files} files dropped, {why}: {called}; --channel NAME=PATTERN names the channels"
        )
    for kind, element in (("SEG", "SegmentLabel"), ("RTSTRUCT", "ROIName")):
        dropped = {
            (label.path, spelled[label.path, number])
            for study in studies
            for label in study.labels
            for number, text in label.names.items()
            if label.kind == kind and study.identity.is_revealed_by(text)
        }
        if dropped:
            files = len({path for path, _ in dropped})
            called = ", ".join(sorted({name for _, name in dropped}))
            notes.append(f"{element} of {files} files dropped, {why}: called {called} instead")
    return tuple(notes)
