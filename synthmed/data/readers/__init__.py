"""Data sets as people have them: each layout is read by one small reader, chosen by looking at the folder."""

from pathlib import Path

from synthmed.data.readers.base import Case, CaseFiles, Dataset, Reader, ReadOptions
from synthmed.data.readers.case import load_case
from synthmed.data.readers.dicom import DicomReader
from synthmed.data.readers.msd import DecathlonReader
from synthmed.data.readers.nnunet import NnunetReader, image_cases
from synthmed.data.readers.unlabelled import read_unlabelled
from synthmed.errors import UserError

__all__ = [
    "Case",
    "CaseFiles",
    "Dataset",
    "ReadOptions",
    "Reader",
    "load_case",
    "read_dataset",
    "read_images",
    "read_unlabelled",
]

READERS: tuple[Reader, ...] = (NnunetReader(), DecathlonReader(), DicomReader())


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
        raise UserError(f"data set {path} {kind}: give the folder that holds dataset.json")
    if not any(path.iterdir()):
        raise UserError(f"data set {path} is empty: give a folder with dataset.json, imagesTr and labelsTr")
    for reader in READERS:
        if reader.recognises(path):
            dataset = reader.read(path, options or ReadOptions())
            if not dataset.cases:
                raise UserError(f"data set {path} has no case: imagesTr holds no {dataset.file_ending} image")
            return dataset
    raise UserError(
        f"{path} is in no layout that synthmed reads: a Medical Segmentation Decathlon or nnU-Net raw folder"
        " has dataset.json (with 'modality' or 'channel_names'), imagesTr and labelsTr"
    )


def read_images(path: Path | str, channels: int) -> list[CaseFiles]:
    """Return the cases to predict on: a data set's training cases, or those of a folder of image files, unlabelled.

    Args:
        path: A data set, or a folder with one NIfTI file a case (`CASE.nii.gz`, channels last if several) or one a
            channel (`CASE_0000.nii.gz`).
        channels: Channels that each case must have.

    Raises:
        UserError: If there is no such folder or no image in it, or a case lacks a channel.
    """
    path = Path(path)
    if path.is_dir() and any(reader.recognises(path) for reader in READERS):
        return read_dataset(path).cases
    return image_cases(path, channels)
