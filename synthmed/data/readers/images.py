"""Images without label maps, of any layout: what a model predicts on, and what stands beside a labelled store."""

from dataclasses import dataclass, replace
from pathlib import Path

from synthmed.data.formats import PICTURE_ENDINGS, VOLUME_ENDINGS, PictureSource, ending_of
from synthmed.data.readers.base import CaseFiles, Dataset, ReadOptions, Wanted, match_channels, natural_key, wrong_count
from synthmed.data.readers.dicom import DicomReader
from synthmed.data.readers.folders import find_pictures, find_volumes
from synthmed.data.readers.grouping import Found, channel_titles
from synthmed.data.readers.naming import Parts, assign_patients, walk
from synthmed.data.readers.nnunet import (
    FILE,
    described_channels,
    grouped_by_channel,
    licence_of,
    missing_number,
    modality_of,
    name_of,
    read_description,
)
from synthmed.data.schema import Manifest
from synthmed.errors import UserError

FOLDERS = ("imagesTr", "imagesTs")
"""Where sets with a description keep their images."""


@dataclass(frozen=True)
class Images:
    """Cases without label maps.

    Attributes:
        cases: With the wanted channels, in the wanted order.
        notes: What a user should know of how the channels were understood.
        folders: Folders in which each case lies, where folders may be patients.
        numbered: Whether cases `AB12_1` and `AB12_2` are slices of one patient.
    """

    cases: list[CaseFiles]
    notes: tuple[str, ...] = ()
    folders: dict[str, Parts] | None = None
    numbered: bool = False


def image_cases(folder: Path, wanted: Wanted) -> Images:
    """Return the unlabelled cases of a folder of images (see `read_images`).

    Channels have names where the folder, or the set whose imagesTr or imagesTs it is, has a dataset.json, or where
    files of one case are set apart by a word.

    Raises:
        UserError: If there is no image, or a case has other channels.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: give a data set or a folder of images")
    own = described_channels(folder.parent if folder.name in FOLDERS else folder)
    cases = _numbered(folder, wanted)
    found = Found()
    pictures = False
    if cases is None:
        if next(walk(folder, VOLUME_ENDINGS), None) is not None:
            found = find_volumes(folder, ReadOptions())
        elif next(walk(folder, PICTURE_ENDINGS), None) is not None:
            found, pictures = find_pictures(folder, ReadOptions())[0], True
        else:
            raise UserError(f"{folder} holds no image that is read, as .nii.gz or .png: give a folder of images")
        cases = found.cases
        own = own or _named(found.channels, wanted)
    cases, notes = match_channels([_without_alpha(case, wanted) for case in cases], own, wanted, folder)
    for case in cases:
        # One file is taken for all channels only where no case has a file a channel.
        if len(case.images) == 1 < len(found.channels):
            raise wrong_count(folder, case.case, 1, wanted)
    return Images(cases, notes, found.folders, numbered=pictures)


def _named(suffixes: tuple[str, ...], wanted: Wanted) -> tuple[str, ...] | None:
    """Return the names that files' suffixes give the channels; None where they only count them."""
    # A single file may hold all channels.
    alone = len(suffixes) == 1 and (not suffixes[0] or len(wanted.names) > 1)
    if not suffixes or alone or all(suffix.isdecimal() for suffix in suffixes):
        return None
    return channel_titles(suffixes, 1)


def _numbered(folder: Path, wanted: Wanted) -> list[CaseFiles] | None:
    """Return the cases of a folder as nnU-Net names them, `CASE_0000`, if all files are named so; else None."""
    files = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    endings = {ending for path in files if (ending := ending_of(path.name)) is not None}
    if len(endings) != 1:
        return None
    ending = endings.pop()
    grouped = grouped_by_channel(folder, ending)
    if not grouped or sum(map(len, grouped.values())) < sum(path.name.endswith(ending) for path in files):
        return None
    channels = len(wanted.names)
    fits = [len(sources) == channels for sources in grouped.values()]
    gaps = {case: missing for case, own in grouped.items() if (missing := missing_number(own)) is not None}
    if not any(0 in own for own in grouped.values()) or (ending.lower() in PICTURE_ENDINGS and (gaps or not all(fits))):
        # `IMG_0001.png` and `IMG_0002.png` are two photographs.
        return None
    for case, missing in gaps.items():
        raise UserError(
            f"{folder / f'{case}_{missing:04d}{ending}'} is missing, beside later channels of {case}: add it, or number"
            " the files from 0000 without a gap"
        )
    for case, sources in grouped.items():
        if len(sources) != channels and not (len(sources) == 1 and not any(fits)):
            raise wrong_count(folder, case, len(sources), wanted)
    cases = [CaseFiles(case=case, patient=case, images=tuple(sources.values())) for case, sources in grouped.items()]
    return sorted(cases, key=lambda case: natural_key(case.case))


def _without_alpha(case: CaseFiles, wanted: Wanted) -> CaseFiles:
    """Return a case whose pictures have no alpha, where the model is one of grey or coloured pictures."""
    images = tuple(
        PictureSource(one.paths, alpha=len(wanted.names) not in (1, 3), spacing=one.spacing)
        if isinstance(one, PictureSource)
        else one
        for one in case.images
    )
    return replace(case, images=images)


_UNKNOWN_PATIENTS = (
    "a patient's pseudonym is of the first study in a folder: the store's images are left out, other studies of its"
    " validation and test patients may not be; keep those out yourself"
)


def read_unlabelled(path: Path | str, beside: Manifest, *, patient_pattern: str | None = None) -> Dataset:
    """Return the images of a folder as a data set without labels; label maps in it are not looked at.

    Args:
        path: A Decathlon or nnU-Net raw folder, of which imagesTr and imagesTs are taken, DICOM studies, or a folder of
            images as `read_images` takes it.
        beside: What the store says of itself beside which they are to stand; it names channels and classes.
        patient_pattern: That by which the store's patients were found, if there was one. Where it does not fit these
            cases, their names and folders tell patients as in any data set.

    Raises:
        UserError: If there is no image, a case has other channels, or two cases have one name.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{path} is no folder: give a data set or a folder of images")
    wanted = Wanted(beside.channels, of="the store")
    inner = [path / name for name in FOLDERS if (path / name).is_dir() and any((path / name).iterdir())]
    dicom = DicomReader()
    if not inner and not (path / FILE).is_file() and dicom.recognises(path):
        studies = dicom.read(path, ReadOptions())
        cases, renamed = match_channels(studies.cases, studies.channels, wanted, path)
        notes = (*studies.notes, *renamed)
        if any(case.split != "train" for case in beside.cases):
            notes = (*notes, _UNKNOWN_PATIENTS)
    else:
        found = [image_cases(folder, wanted) for folder in inner or [path]]
        cases, patients = _with_patients(found, patient_pattern)
        notes = (*dict.fromkeys(note for one in found for note in one.notes), *patients)
    names = [case.case for case in cases]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{path} has two cases named {twice}: rename one")
    description = read_description(path) if (path / FILE).is_file() else {}
    return Dataset(
        path=path,
        name=name_of(description),
        licence=licence_of(description),
        layout="images without labels",
        channels=beside.channels,
        classes=beside.classes,
        label_values=beside.plan.label_values,
        cases=sorted(cases, key=lambda case: natural_key(case.case)),
        notes=notes,
        modalities=tuple(modality_of(channel) for channel in beside.channels),
        labelled=False,
    )


def _with_patients(found: list[Images], pattern: str | None) -> tuple[list[CaseFiles], tuple[str, ...]]:
    cases = [case for one in found for case in one.cases]
    folders = {name: own for one in found for name, own in (one.folders or {}).items()}
    numbered = all(one.numbered for one in found)
    if pattern is not None:
        try:
            return assign_patients(cases, pattern, folders=folders)
        except UserError as error:
            cases, notes = assign_patients(cases, None, folders=folders, numbered=numbered)
            told = str(error).rpartition(": ")[0]
            return cases, (*notes, f"{told}, as it does in the store: patients are told by names instead")
    return assign_patients(cases, None, folders=folders, numbered=numbered)
