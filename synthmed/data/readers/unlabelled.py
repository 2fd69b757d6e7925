"""Images without label maps, to stand beside a labelled store."""

from pathlib import Path

from synthmed.data.readers.base import Dataset, ReadOptions, natural_key
from synthmed.data.readers.channels import Wanted, match_channels
from synthmed.data.readers.description import FILE, licence_of, read_description
from synthmed.data.readers.dicom import DicomReader
from synthmed.data.readers.images import FOLDERS, image_cases
from synthmed.data.readers.modality import modality_of
from synthmed.data.readers.patients import assign_patients
from synthmed.data.schema import Manifest
from synthmed.errors import UserError


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
    wanted = Wanted(beside.channels, of="the store")
    inner = [path / name for name in FOLDERS if (path / name).is_dir() and any((path / name).iterdir())]
    dicom = DicomReader()
    if not inner and not (path / FILE).is_file() and dicom.recognises(path):
        studies = dicom.read(path, ReadOptions())
        cases, renamed = match_channels(studies.cases, studies.channels, wanted, path)
        notes = (*studies.notes, *renamed)
    else:
        found = [image_cases(folder, wanted) for folder in inner or [path]]
        cases, notes = assign_patients([case for one in found for case in one.cases], None)
        notes = (*dict.fromkeys(note for one in found for note in one.notes), *notes)
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
