"""Pictures (PNG, JPEG, TIFF, BMP) and stacks of them as arrays and geometry.

A picture says nothing of its place in a body. Its rows are taken to run to posterior and its columns to left, so that
prepared slices stand as the picture does, and its units are unknown.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synthmed.data.schema import Geometry, as_matrix
from synthmed.data.volumes.base import file_keys
from synthmed.data.volumes.picture_files import PictureHeader, picture_header, read_pages
from synthmed.errors import UserError
from synthmed.memory import check_memory

PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
LOSSY_ENDINGS = (".jpg", ".jpeg")


@dataclass(frozen=True)
class PictureSource:
    """A picture, a TIFF file of several pages, or a stack of pictures as one volume.

    Attributes:
        paths: One picture a slice, in their order; or one TIFF file whose pages are slices.
        mask: Whether the pixels are class numbers: a palette's index, a grey value, or of a colour
            `red << 16 | green << 8 | blue`; alpha is ignored.
        coloured: Whether masks in red, green and blue are colour-coded even where all pixels are grey, as other masks
            of the set show.
        alpha: Whether a picture's alpha is a channel; always ignored in masks.
        spacing: Voxel size along columns, rows and slices, where something beside the picture tells it.
    """

    paths: tuple[Path, ...]
    mask: bool = False
    coloured: bool = False
    alpha: bool = True
    spacing: tuple[float, float, float] | None = None

    @property
    def path(self) -> Path:
        """The picture, or the folder of a stack."""
        return self.paths[0] if len(self.paths) == 1 else self.paths[0].parent

    @property
    def files(self) -> dict[str, Path]:
        """The pictures by the names of their folder and themselves."""
        return file_keys(self.paths)

    def open(self) -> "PictureVolume":
        """Read the headers; see `Source.open`."""
        return PictureVolume(self)


class PictureVolume:
    """An opened picture or stack whose pixels are not read yet.

    Attributes:
        path: The picture, or the folder of a stack.
        geometry: Columns, rows and slices as X, Y and Z, which run to left, posterior and superior.
        channels: Of a pixel.
    """

    def __init__(self, source: PictureSource):
        self.path = source.path
        self._source = source
        headers = [picture_header(path) for path in source.paths]
        first = headers[0]
        for path, header in zip(source.paths, headers, strict=True):
            if len(headers) > 1 and header.pages > 1:
                raise UserError(f"{path} has {header.pages} pages in a stack of pictures: save each page as a picture")
            if (header.columns, header.rows, header.channels, header.dtype) != (
                *(first.columns, first.rows, first.channels, first.dtype),
            ):
                raise UserError(
                    f"{path} is {_described(header)}, {source.paths[0].name} is {_described(first)}:"
                    " slices of one stack must be alike"
                )
        check_memory(
            self.path, 3 * len(headers) * first.rows * first.columns * first.channels * np.dtype(first.dtype).itemsize
        )
        self._slices = first.pages if len(headers) == 1 else len(headers)
        self.channels = 1 if source.mask else first.channels - (first.alpha and not source.alpha)
        spacing = source.spacing or (1.0, 1.0, 1.0)
        affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
        self.geometry = Geometry(
            shape=(first.columns, first.rows, self._slices),
            affine=as_matrix(affine),
            zooms=spacing,
            xyzt_units=("mm" if source.spacing else "unknown", "unknown"),
            dtype=first.dtype,
        )

    def voxels(self) -> np.ndarray:
        """Read the pixels in the stored type, those of colour-coded masks as int32: `[columns, rows, slices, C]`.

        Raises:
            UserError: If a file is truncated or damaged.
        """
        slices: list[np.ndarray] = []
        for path in self._source.paths:
            slices.extend(read_pages(path, mask=self._source.mask, coloured=self._source.coloured))
        if any(page.shape != slices[0].shape for page in slices):
            raise UserError(f"{self.path} has pages of different sizes: save those that are slices as one stack")
        stack = np.stack(slices, axis=2)[..., : None if self._source.mask else self.channels]
        return np.ascontiguousarray(stack.swapaxes(0, 1))


def _described(header: PictureHeader) -> str:
    return f"{header.columns} x {header.rows} of {header.channels} x {header.dtype}"
