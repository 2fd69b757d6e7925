"""A DICOM series as a volume."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from synthmed.data.dicom.files import read_file
from synthmed.data.dicom.quiet import quiet
from synthmed.data.dicom.slices import Slice
from synthmed.data.dicom.stack import Stack
from synthmed.data.schema import Geometry
from synthmed.data.volumes import Volume
from synthmed.errors import UserError
from synthmed.extras import install_hint
from synthmed.memory import check_memory

if TYPE_CHECKING:
    from pydicom.uid import UID


@dataclass(frozen=True)
class SeriesSource:
    """A series.

    Attributes:
        path: Its folder, or its first file where other series are there too.
        name: Pseudonym of the study and name of the channel, "study-0123abcd/T1".
        stack: Its slices as a volume.
        grid: Geometry of the case's first channel, on whose grid this one lies but for rounded numbers in its header.
    """

    path: Path
    name: str
    stack: Stack
    grid: Geometry | None = None

    @property
    def files(self) -> dict[str, Path]:
        """The files by their number in the order of slices; their own names may tell who the patient is."""
        paths = dict.fromkeys(one.path for one in self.stack.slices)
        return {f"{self.name}/{number:04d}": path for number, path in enumerate(paths, start=1)}

    def open(self) -> "SeriesVolume":
        """Return the slices in order; see `Source.open`."""
        return SeriesVolume(self)


@dataclass(frozen=True)
class RefusedSource:
    """What cannot be used, and why; opening it tells.

    Attributes:
        path: The file or folder.
        reason: What is wrong and how to mend it, without the path: "lacks T2: add it".
    """

    path: Path
    reason: str

    @property
    def files(self) -> dict[str, Path]:
        """Nothing: it cannot be opened."""
        return {}

    def open(self) -> Volume:
        """Raise UserError."""
        raise UserError(f"{self.path} {self.reason}")


class SeriesVolume:
    """A series whose slices are known to make one volume; its pixels are not read yet.

    Attributes:
        path: See `SeriesSource.path`.
        geometry: Where the volume lies.
        channels: 1, or 3 (red, green, blue) where the series is in colour.
    """

    def __init__(self, source: SeriesSource):
        self.path = source.path
        self._stack = source.stack
        self.geometry: Geometry = self._stack.geometry
        if source.grid is not None:
            grid = {"affine": source.grid.affine, "zooms": source.grid.zooms}
            self.geometry = self.geometry.model_copy(update=grid)
        self.channels = self._stack.slices[0].samples
        # The volume, and the pixels of a file of many frames beside it.
        check_memory(
            self.path, 2 * int(np.prod(self.geometry.shape)) * self.channels * np.dtype(self.geometry.dtype).itemsize
        )

    def voxels(self) -> np.ndarray:
        """Read the intensities, slope and intercept applied: `[X, Y, Z, C]` of the type `geometry.dtype`.

        What lies outside the image (PixelPaddingValue) gets the lowest intensity of the image.

        Raises:
            UserError: If a file is truncated, damaged or compressed in a way that cannot be read here.
        """
        slices = self._stack.slices
        voxels = np.empty((0,))
        outside: list[tuple[int, np.ndarray]] = []
        lowest = np.inf
        path, frames = None, np.empty(0)
        for number, one in enumerate(slices):
            if one.path != path:
                path, frames = one.path, _frames(one, self.path)
            pixels = frames[one.frame]
            if not number:
                # Only now: a damaged header may claim any size.
                voxels = np.empty((*self.geometry.shape, self.channels), self.geometry.dtype)
            values = pixels if one.slope == 1.0 and one.intercept == 0.0 else pixels * one.slope + one.intercept
            voxels[:, :, number] = values.transpose(1, 0, 2)
            inside = np.ones(pixels.shape, bool)
            if one.padding is not None:
                inside = (pixels < one.padding[0]) | (pixels > one.padding[1])
                outside.append((number, ~inside.transpose(1, 0, 2)))
            if inside.any():
                lowest = min(lowest, float(values[inside].min()))
        if np.isfinite(lowest):
            for number, where in outside:
                voxels[:, :, number][where] = lowest
        return voxels


def _frames(one: Slice, series: Path) -> np.ndarray:
    """Return the pixel values of a slice's file, `[frames, rows, columns, samples]`."""
    from pydicom.pixels import pixel_array

    try:
        with quiet():
            dataset = read_file(one.path)
            refuse_compression(dataset.file_meta.TransferSyntaxUID, series)
            if "PixelData" not in dataset:
                decimals = next((name for name in ("FloatPixelData", "DoubleFloatPixelData") if name in dataset), None)
                if decimals is not None:
                    # A parametric map, whose intensities the type of whole pixels would cut to whole numbers.
                    mend = "export it with whole pixel values and a RescaleSlope"
                    raise UserError(f"{series} has {decimals} in {one.path.name}, which is not read: {mend}")
                raise UserError(f"{series} has no pixel data in {one.path.name}: export it again, with its image")
            frames = max(int(dataset.get("NumberOfFrames", 1) or 1), 1)
            check_memory(one.path, frames * one.rows * one.columns * one.samples * max(one.bits[0] // 8, 1))
            pixels = pixel_array(dataset)
            size = one.rows * one.columns * one.samples
            if pixels.size < (one.frame + 1) * size or pixels.size % size:
                raise ValueError("of another size than before")
    except FileNotFoundError:
        raise UserError(f"{series} lacks {one.path.name}, which was there before: put it back") from None
    except UserError:
        raise
    # The library raises whatever its parts raise on bytes that are no image, and its words may quote the header.
    except Exception:
        told = "truncated, damaged or encrypted: export it again"
        raise UserError(f"{series} has pixels in {one.path.name} that are {told}") from None
    return pixels.reshape(-1, one.rows, one.columns, one.samples)


def refuse_compression(syntax: "UID", told: Path) -> None:
    """Raise UserError, about `told`, where pixels are compressed in a way for which no decoder is installed."""
    from pydicom.pixels import get_decoder

    if not syntax.is_compressed or syntax.is_deflated:
        return
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        raise UserError(f"{told} is compressed as {syntax.name}: {install_hint('gdcm')}, or export it uncompressed")
