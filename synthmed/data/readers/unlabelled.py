"""Images without label maps, to stand beside a labelled store."""

from dataclasses import replace
from pathlib import Path

from synthmed.data.readers.base import CaseFiles, Dataset, ReadOptions, natural_key
from synthmed.data.readers.description import FILE, licence_of, read_description
from synthmed.data.readers.dicom import DicomReader
from synthmed.data.readers.images import image_cases
from synthmed.data.readers.modality import modality_of
from synthmed.data.readers.patients import assign_patients
from synthmed.data.schema import Manifest
from synthmed.errors import UserError

FOLDERS = ("imagesTr", "imagesTs")


def read_unlabelled(path: Path | str, beside: Manifest) -> Dataset:
    """Return the images of a folder as a data set without labels; label maps in it are not looked at.

    Args:
        path: A Decathlon or nnU-Net raw folder, of which imagesTr and imagesTs are taken, DICOM studies, or a folder of
            images as `read_images` takes it.
        beside: What the store says of itself beside which they are to stand; it names channels and classes.

    Raises:
        UserError: If there is no image, a case has other channels, or two cases have one name.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{path} is no folder: give a data set or a folder of images")
    inner = [path / name for name in FOLDERS if (path / name).is_dir() and any((path / name).iterdir())]
    dicom = DicomReader()
    if not inner and not (path / FILE).is_file() and dicom.recognises(path):
        cases, notes = _of_studies(dicom.read(path, ReadOptions()), beside)
    else:
        found = [case for folder in inner or [path] for case in image_cases(folder, len(beside.channels))]
        cases, notes = assign_patients(found, None)
    names = [case.case for case in cases]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{path} has two cases named {twice}: rename one")
    description = read_description(path) if (path / FILE).is_file() else {}
    return Dataset(
        path=path,
        name=str(description.get("name") or path.name),
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


def _of_studies(studies: Dataset, beside: Manifest) -> tuple[list[CaseFiles], tuple[str, ...]]:
    """Return the cases of DICOM studies without labels, their channels in the order of the store."""
    own, wanted = studies.channels, beside.channels
    if len(own) != len(wanted):
        raise UserError(
            f"{studies.path} has the channels {', '.join(own)}, the store {', '.join(wanted)}: give images of the same"
        )
    same = set(own) == set(wanted)
    order = [own.index(name) for name in wanted] if same else range(len(own))
    notes = studies.notes
    if not same:
        pairs = ", ".join(f"{one} as {other}" for one, other in zip(own, wanted, strict=True))
        notes = (*notes, f"channels are called otherwise than the store's and taken in their order: {pairs}")
    cases = [
        replace(case, label=None, images=tuple(case.images[number] for number in order))
        if len(case.images) == len(own)
        else replace(case, label=None)
        for case in studies.cases
    ]
    return cases, notes
