"""Volumes as files hold them: one small class a file format, all with the same few attributes."""

from pathlib import Path

from synthmed.data.formats.base import ReorderedSource, ReorderedVolume, Source, Volume, damaged
from synthmed.data.formats.itk import ITK_ENDINGS, ItkSource, ItkVolume
from synthmed.data.formats.nifti import NIFTI_ENDINGS, NiftiSource, NiftiVolume
from synthmed.data.formats.pictures import PICTURE_ENDINGS, PictureSource, PictureVolume, picture_header
from synthmed.errors import UserError

__all__ = [
    "ITK_ENDINGS",
    "NIFTI_ENDINGS",
    "PICTURE_ENDINGS",
    "VOLUME_ENDINGS",
    "ItkSource",
    "ItkVolume",
    "NiftiSource",
    "NiftiVolume",
    "PictureSource",
    "PictureVolume",
    "ReorderedSource",
    "ReorderedVolume",
    "Source",
    "Volume",
    "damaged",
    "ending_of",
    "picture_header",
    "source_of",
]

VOLUME_ENDINGS = (*NIFTI_ENDINGS, *ITK_ENDINGS)


def ending_of(name: str) -> str | None:
    """Return the ending, as it stands in a file's name, by which the file is read; None where it is not."""
    lower = name.lower()
    ending = next((ending for ending in (*VOLUME_ENDINGS, *PICTURE_ENDINGS) if lower.endswith(ending)), None)
    return None if ending is None or len(ending) == len(name) else name[-len(ending) :]


def source_of(path: Path, *, mask: bool = False, spacing: tuple[float, float, float] | None = None) -> Source:
    """Return what reads a file.

    Args:
        path: The file; it need not exist.
        mask: Whether it is a label map, which matters for pictures.
        spacing: Voxel size of a picture, where something beside it tells it.

    Raises:
        UserError: If no format has the ending of its name.
    """
    ending = (ending_of(path.name) or "").lower()
    if ending in NIFTI_ENDINGS:
        return NiftiSource(path)
    if ending in ITK_ENDINGS:
        return ItkSource(path)
    if ending in PICTURE_ENDINGS:
        return PictureSource((path,), mask=mask, spacing=spacing)
    known = ", ".join((*VOLUME_ENDINGS, *PICTURE_ENDINGS))
    raise UserError(f"{path} is in no format that is read ({known}): convert it to .nii.gz, a picture to .png")
