"""Data sets as people have them: each layout is read by one small reader, chosen by looking at the folder."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from synthmed.data.formats import PICTURE_ENDINGS, VOLUME_ENDINGS
from synthmed.data.readers.base import Case, CaseFiles, Dataset, Reader, ReadOptions, Wanted, load_case, match_channels
from synthmed.data.readers.dicom import DicomReader
from synthmed.data.readers.folders import PictureReader, VolumeFolderReader
from synthmed.data.readers.images import Images, image_cases, read_unlabelled
from synthmed.data.readers.nnunet import FILE, UNNAMED, DecathlonReader, NnunetReader, name_of
from synthmed.errors import UserError

__all__ = [
    "Case",
    "CaseFiles",
    "Dataset",
    "Images",
    "ReadOptions",
    "Reader",
    "load_case",
    "read_dataset",
    "read_images",
    "read_unlabelled",
]

READERS: tuple[Reader, ...] = (
    NnunetReader(),
    DecathlonReader(),
    DicomReader(),
    VolumeFolderReader(),
    PictureReader(),
)
"""Asked in this order: layouts with a description come before those that are guessed."""

_GUESSING = (VolumeFolderReader, PictureReader)
_DESCRIBED = (NnunetReader, DecathlonReader)


def read_dataset(path: Path | str, options: ReadOptions | None = None) -> Dataset:
    """Return the data set in a folder: its description and its files, none of which is opened yet.

    Args:
        path: The folder.
        options: What the user says of its names.

    Raises:
        UserError: If the folder is missing, empty or in no layout that a reader knows, or its description is wrong.
    """
    path = Path(path)
    if not path.is_dir():
        kind = "is a file, not a folder" if path.exists() else "does not exist"
        raise UserError(f"data set {path} {kind}: give the folder of images and label maps")
    if not any(path.iterdir()):
        raise UserError(f"data set {path} is empty: give a folder of images and label maps")
    options = options or ReadOptions()
    for reader in READERS:
        if reader.recognises(path):
            if (options.channels or options.label) and isinstance(reader, _DESCRIBED):
                option = "--channel" if options.channels else "--label"
                raise UserError(f"{path} says itself which files are channels and labels: leave out {option}")
            dataset = reader.read(path, options)
            if not dataset.cases:
                raise UserError(f"data set {path} has no case: {_lacks(reader, dataset)}")
            return _named(dataset, options.name)
    if (path / FILE).is_file():
        raise UserError(
            f"{path / FILE} is in no layout that synthmed reads: it names neither 'channel_names' (nnU-Net raw) nor"
            " 'modality' (Medical Segmentation Decathlon); add one, or take the file away"
        )
    raise UserError(
        f"{path} is in no layout that synthmed reads: neither dataset.json (Decathlon, nnU-Net raw)"
        f" nor a file that ends with {', '.join((*VOLUME_ENDINGS, *PICTURE_ENDINGS))} is in it"
    )


def _named(dataset: Dataset, given: str | None) -> Dataset:
    """Return the data set under the name that the user gives, or with a note where it has none."""
    if given is not None:
        name = name_of({"name": given})
        if name == UNNAMED or not name.isprintable():
            raise UserError(f"--name {given!r} is no name of a data set: give one line of words")
        return replace(dataset, name=name)
    if dataset.name != UNNAMED:
        return dataset
    note = (
        f"the data set has no name and is called {UNNAMED} in all that is made of it: --name NAME gives it one (its"
        " folder's may tell of people, and is never taken)"
    )
    return replace(dataset, notes=(*dataset.notes, note))


def _lacks(reader: Reader, dataset: Dataset) -> str:
    if isinstance(reader, NnunetReader):
        return f"imagesTr holds no {dataset.file_ending} image named CASE_0000{dataset.file_ending}"
    if isinstance(reader, DecathlonReader):
        return f'"training" in {FILE} lists none; list each image with its label'
    return "no image in it is of a kind that is read; add the images"


def read_images(path: Path | str, channels: Sequence[str]) -> Images:
    """Return the cases to predict on: a data set's training cases, or those of a folder of image files, unlabelled.

    Args:
        path: A data set in any layout, or a folder with one file a case (`CASE.nii.gz`, channels last if several, or
            `CASE.png`) or one a channel (`CASE_0000.nii.gz`, `CASE_t1.nii.gz`).
        channels: Names of the channels that each case must have, in the order in which they are given back; where the
            images' own names are others, theirs is taken and a note says so.

    Raises:
        UserError: If there is no such folder or no image in it, or a case has more or fewer channels.
    """
    path, wanted = Path(path), Wanted(tuple(channels))
    if path.is_dir():
        reader = next((reader for reader in READERS if reader.recognises(path)), None)
        if reader is not None and not isinstance(reader, _GUESSING):
            dataset = read_dataset(path)
            return Images(*match_channels(dataset.cases, dataset.channels, wanted, path))
    return image_cases(path, wanted)
