"""Images without label maps, to stand beside a labelled store."""

from pathlib import Path

from synthmed.data.readers.base import CaseFiles, Dataset, ReadOptions, natural_key
from synthmed.data.readers.channels import Wanted, match_channels
from synthmed.data.readers.description import FILE, licence_of, name_of, read_description
from synthmed.data.readers.dicom import DicomReader
from synthmed.data.readers.images import FOLDERS, Images, image_cases
from synthmed.data.readers.modality import modality_of
from synthmed.data.readers.patients import assign_patients
from synthmed.data.schema import Manifest
from synthmed.errors import UserError

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
