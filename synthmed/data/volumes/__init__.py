"""Volumes as files hold them: one small class a file format, all with the same few attributes."""

from synthmed.data.volumes.base import Source, Volume, damaged
from synthmed.data.volumes.itk import ITK_ENDINGS, ItkSource, ItkVolume
from synthmed.data.volumes.kinds import VOLUME_ENDINGS, ending_of, source_of
from synthmed.data.volumes.nifti import NIFTI_ENDINGS, NiftiSource, NiftiVolume
from synthmed.data.volumes.picture_files import picture_header
from synthmed.data.volumes.pictures import PICTURE_ENDINGS, PictureSource, PictureVolume
from synthmed.data.volumes.reordered import ReorderedSource, ReorderedVolume

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
