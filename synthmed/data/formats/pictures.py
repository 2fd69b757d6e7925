"""Pictures as volumes: PNG, JPEG, TIFF and BMP files, single or a stack."""

import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from synthmed.data.formats.base import DEFLATE_RATIO, damaged, file_keys
from synthmed.data.formats.itk import itk_reason
from synthmed.data.schema import Geometry, as_matrix
from synthmed.errors import UserError
from synthmed.memory import check_memory

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
# How many bytes of pixels one byte of a file can hold; TIFF has codes that write a blank line as one bit.
_LARGEST_RATIOS = {"PNG": DEFLATE_RATIO, "BMP": DEFLATE_RATIO, "JPEG": 2080, "TIFF": 1 << 14}
_ORIENTATION = 0x0112
_TURNED_BY_A_QUARTER = (5, 6, 7, 8)
# What Pillow calls the pixels: (NumPy type, channels).
_MODES = {
    "1": ("uint8", 1),
    "L": ("uint8", 1),
    "I;16": ("uint16", 1),
    "I;16B": ("uint16", 1),
    "I": ("int32", 1),
    "F": ("float32", 1),
    "LA": ("uint8", 2),
    "RGB": ("uint8", 3),
    "RGBA": ("uint8", 4),
}
# These are converted to red, green and blue.
_CONVERTED = ("P", "PA", "CMYK", "YCbCr", "RGBX", "HSV", "LAB")


@dataclass(frozen=True)
class PictureHeader:
    """What a picture's header says.

    Attributes:
        columns: Width as it is to be looked at, that is after `orientation` is applied.
        rows: Height, likewise.
        pages: How many pictures the file has.
        channels: Of a pixel.
        dtype: NumPy name of the stored type.
        orientation: EXIF's number for how the picture must be turned; 1 is not at all.
        alpha: Whether the last channel is alpha.
    """

    columns: int
    rows: int
    pages: int
    channels: int
    dtype: str
    orientation: int
    alpha: bool


def picture_header(path: Path) -> PictureHeader:
    """Return what a picture's header says, without reading its pixels.

    Raises:
        UserError: If the file is missing, damaged, claims more pixels than it can hold, or has pixels of a kind that
            is not read.
    """
    with _opened(path) as image:
        return _header(image, path)


def has_constant_alpha(path: Path) -> bool:
    """Return whether all pixels of a picture are equally opaque, so that alpha says nothing; true if it is damaged."""
    try:
        with _opened(path) as image:
            low, high = image.getchannel("A").getextrema()
            return bool(low == high)
    except Exception:
        # The inspection tells it.
        return True


def _opened(path: Path) -> Any:
    from PIL import Image, UnidentifiedImageError

    # Up to its limit Pillow only warns; whether a picture fits is asked below.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    try:
        return Image.open(path, formats=_FORMATS)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: put the file back") from None
    except Image.DecompressionBombError:
        raise UserError(
            f"{path} claims more than {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels: cut it into smaller pictures"
        ) from None
    except UnidentifiedImageError:
        raise UserError(
            f"{path} is damaged, or no PNG, JPEG, TIFF or BMP picture of 1, 3 or 4 channels: copy it again, or save it"
            " as PNG"
        ) from None
    except Exception as error:
        raise _broken(path, error) from None


def _broken(path: Path, error: Exception) -> UserError:
    # Pillow's decoders raise almost any exception when a file is damaged, and document none.
    if isinstance(error, struct.error):
        return damaged(path, "its header is cut short")
    return damaged(path, itk_reason(error) if isinstance(error, RuntimeError) else error)


def _header(image: Any, path: Path) -> PictureHeader:
    try:
        dtype, channels = _kind(image, path)
        pages = _tiff_pages(path) if image.format == "TIFF" else 1
        # Of a PNG file without EXIF in its head, Pillow would decode all pixels to look for it behind them.
        exif = image.format != "PNG" or "exif" in image.info
        orientation = int(image.getexif().get(_ORIENTATION, 1)) if exif else 1
    except UserError:
        raise
    except Exception as error:
        raise _broken(path, error) from None
    columns, rows = image.size
    claimed = columns * rows * channels * np.dtype(dtype).itemsize / (8 if image.mode == "1" else 1)
    if claimed > path.stat().st_size * _LARGEST_RATIOS[image.format]:
        raise damaged(path, "it is shorter than its header says")
    # Each page as Pillow holds it and as an array, then all as one stack.
    check_memory(path, 3 * pages * columns * rows * channels * np.dtype(dtype).itemsize)
    # TIFF files are turned by Pillow itself.
    if orientation in _TURNED_BY_A_QUARTER and image.format != "TIFF":
        columns, rows = rows, columns
    return PictureHeader(
        columns=columns,
        rows=rows,
        pages=pages,
        channels=channels,
        dtype=dtype,
        orientation=orientation if 1 <= orientation <= 8 else 1,
        alpha=image.mode in ("LA", "RGBA"),
    )


def _tiff_pages(path: Path) -> int:
    """Return how many pages a TIFF file has; Pillow would pass over those behind a cut without a word.

    Source: TIFF 6.0, section 2, and https://www.awaresystems.be/imaging/tiff/bigtiff.html.
    """
    with open(path, "rb") as file:
        head = file.read(16)
        order = "<" if head[:2] == b"II" else ">"
        big = struct.unpack(order + "H", head[2:4])[0] == 43
        count_code, entry, link_code = ("Q", 20, "Q") if big else ("H", 12, "I")
        (link,) = struct.unpack(order + link_code, head[8:16] if big else head[4:8])
        seen: set[int] = set()
        while link:
            if link in seen:
                raise ValueError("its pages go round in a circle")
            seen.add(link)
            file.seek(link)
            (entries,) = struct.unpack(order + count_code, file.read(struct.calcsize(order + count_code)))
            file.seek(entries * entry, 1)
            (link,) = struct.unpack(order + link_code, file.read(struct.calcsize(order + link_code)))
    return max(len(seen), 1)


def _kind(image: Any, path: Path) -> tuple[str, int]:
    """Return the NumPy type and the number of channels of an opened picture."""
    raw = _raw_mode(image)
    if image.mode in _CONVERTED:
        return "uint8", 1 if _grey_palette(image) else 3
    if image.mode not in _MODES or (image.format == "PNG" and raw == "LA;16B"):
        raise UserError(f"{path} has {raw or image.mode} pixels, which are not read: save it as grey, RGB or RGBA")
    dtype, channels = _MODES[image.mode]
    return ("uint16" if channels > 1 and ";16" in raw else dtype), channels


def _raw_mode(image: Any) -> str:
    arguments = image.tile[0].args if image.tile else ""
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _grey_palette(image: Any) -> bool:
    if image.mode != "P":
        return False
    colours = np.asarray(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    return bool((colours == colours[:, :1]).all())


def read_pages(path: Path, *, mask: bool, coloured: bool) -> list[np.ndarray]:
    """Return the pages of a picture `[rows, columns, C]`, turned as EXIF asks; see `PictureSource`.

    Raises:
        UserError: If the file is damaged or its pixels are not read.
    """
    with _opened(path) as image:
        header = _header(image, path)
        raw = _raw_mode(image)
        try:
            if header.channels > 1 and (";16" in raw or raw.startswith("RGBa")):
                pages = _through_itk(path, header)
            else:
                pages, size = [], image.size
                for page in range(header.pages):
                    image.seek(page)
                    if image.size != size:
                        raise UserError(f"{path} has pages of different sizes: save those that are slices as one stack")
                    pages.append(_pixels(image, mask))
        except UserError:
            raise
        except Exception as error:
            raise _broken(path, error) from None
        if image.format != "TIFF":
            pages = [_turned(page, header.orientation) for page in pages]
    return [_as_mask(page, header, path, coloured) for page in pages] if mask else pages


def _through_itk(path: Path, header: PictureHeader) -> list[np.ndarray]:
    # Pillow cuts 16 bits of colours down to 8, and divides colours by an alpha that multiplies them.
    import SimpleITK

    if header.orientation != 1:
        raise UserError(f"{path} asks by EXIF to be turned, which is not done to such pixels: save it turned upright")

    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    array = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    return list(array.reshape(header.pages, header.rows, header.columns, header.channels))


def _pixels(image: Any, mask: bool) -> np.ndarray:
    if mask and image.mode in ("P", "PA"):
        array = np.asarray(image if image.mode == "P" else image.getchannel(0))
    elif image.mode in _CONVERTED:
        array = np.asarray(image.convert("L" if _grey_palette(image) else "RGB"))
    else:
        array = np.asarray(image)
    if array.dtype == bool:
        array = array.astype(np.uint8)
    return array.astype(array.dtype.newbyteorder("=")).reshape(*array.shape[:2], -1)


def _turned(page: np.ndarray, orientation: int) -> np.ndarray:
    """Turn a picture as EXIF 2.32, table 6 (tag 274), says."""
    if orientation in _TURNED_BY_A_QUARTER:
        page = page.swapaxes(0, 1)
    flips = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}.get(orientation, ())
    return np.flip(page, flips)


def _as_mask(page: np.ndarray, header: PictureHeader, path: Path, coloured: bool) -> np.ndarray:
    colours = page[..., : page.shape[-1] - header.alpha] if page.shape[-1] == header.channels else page
    if colours.shape[-1] < 3 or (not coloured and (colours == colours[..., :1]).all()):
        return colours[..., :1]
    if colours.dtype != np.uint8:
        raise UserError(f"{path} is a mask of 16-bit colours: save it as grey or with 8 bits")
    red, green, blue = np.moveaxis(colours.astype(np.int32), -1, 0)
    return (red << 16 | green << 8 | blue)[..., np.newaxis]


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
