"""Volumes as files hold them: one small class a file format, all with the same few attributes."""

from synthmed.data.volumes.base import Source, Volume, damaged
from synthmed.data.volumes.nifti import NiftiSource, NiftiVolume

__all__ = ["NiftiSource", "NiftiVolume", "Source", "Volume", "damaged"]
