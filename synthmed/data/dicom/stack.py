"""From DICOM slices to volumes: sorting, gaps, mixtures, and the series of a folder."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from synthmed.data.dicom.slices import Slice, quiet, read_file
from synthmed.data.formats import Volume
from synthmed.data.geometry import LPS_TO_RAS
from synthmed.data.schema import Geometry, as_matrix
from synthmed.errors import UserError, present
from synthmed.extras import install_hint
from synthmed.memory import check_memory

if TYPE_CHECKING:
    from pydicom.uid import UID

# Header numbers are decimal texts, often rounded to a few digits.
_SAME_DIRECTION = 1e-3
_SAME_LENGTH = 1e-3
_THERE = "slices without orientation or spacing are refused"
# Gaps may differ by this share of the usual gap, and by this many mm whatever it is.
_EVEN, _ROUNDED = 0.05, 0.02


class SeveralVolumesError(UserError):
    """A series that holds the same positions several times, such as echoes or b values."""


@dataclass(frozen=True)
class Stack:
    """A series as a volume.

    Attributes:
        slices: In the order of their positions along the normal (row x column directions).
        geometry: Of the volume `[X, Y, Z]`: columns, rows, slices.
    """

    slices: tuple[Slice, ...]
    geometry: Geometry

    @property
    def affine(self) -> np.ndarray:
        """Voxel to world in mm, RAS+."""
        return np.asarray(self.geometry.affine)


def plane(one: Slice) -> tuple[object, ...]:
    """Return size, pixel spacing and direction of a slice, rounded, by which series can be compared."""
    spacing = tuple(round(value, 3) for value in one.spacing or ())
    # Adding 0 turns -0 into 0.
    direction = tuple(round(value, 2) + 0.0 for value in one.orientation or ())
    return one.rows, one.columns, one.samples, spacing, direction


def stack(slices: tuple[Slice, ...], path: Path) -> Stack:
    """Return the slices of one series in order, with their geometry.

    Args:
        slices: At least one, in any order.
        path: The series' file or folder, for messages.

    Raises:
        SeveralVolumesError: If each position is taken several times.
        UserError: If the slices make no single volume.
    """
    first = slices[0]
    _refuse_pixels(slices, path)
    if len(slices) == 1 and (first.position is None or first.orientation is None):
        return Stack(slices, _flat(first))
    _refuse_mixture(slices, path)
    orientation, spacing = present(first.orientation, _THERE), present(first.spacing, _THERE)
    along_columns, along_rows = np.array(orientation[:3]), np.array(orientation[3:])
    normal = np.cross(along_columns, along_rows)
    positions = np.array([one.position for one in slices], dtype=np.float64)
    order = np.argsort(positions @ normal, kind="stable")
    ordered = tuple(slices[number] for number in order)
    positions = positions[order]
    _refuse_gaps(ordered, positions @ normal, path)
    step = _step(positions, normal, first.thickness, min(spacing), path)
    affine = np.eye(4)
    affine[:3, 0] = along_columns * spacing[1]
    affine[:3, 1] = along_rows * spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = positions[0]
    return Stack(ordered, _geometry(ordered, LPS_TO_RAS @ affine))


def _geometry(slices: tuple[Slice, ...], affine: np.ndarray, unit: str = "mm") -> Geometry:
    zooms = [float(length) for length in np.linalg.norm(affine[:3, :3], axis=0)]
    return Geometry(
        shape=(slices[0].columns, slices[0].rows, len(slices)),
        affine=as_matrix(affine),
        zooms=(zooms[0], zooms[1], zooms[2]),
        xyzt_units=(unit, "unknown"),
        qform_code=0,
        sform_code=1,
        dtype=stored_type(slices),
    )


def _flat(one: Slice) -> Geometry:
    """Return the geometry of a single picture that lies nowhere in space, such as a radiograph."""
    rows, columns = one.spacing or (1.0, 1.0)
    affine = LPS_TO_RAS @ np.diag([columns or 1.0, rows or 1.0, one.thickness or 1.0, 1.0])
    return _geometry((one,), affine, "mm" if one.spacing else "unknown")


def stored_type(slices: tuple[Slice, ...]) -> str:
    """Return the smallest sensible NumPy type of the slices' intensities; whole numbers stay whole."""
    if all(one.slope == 1.0 and one.intercept == 0.0 for one in slices):
        types = [np.dtype(f"{'int' if one.signed else 'uint'}{max(one.bits[0], 8)}") for one in slices]
        return str(np.result_type(*types))
    if any(one.slope % 1 or one.intercept % 1 for one in slices):
        return "float32"
    ends = [one.slope * value + one.intercept for one in slices for value in _range(one)]
    for name in ("int16", "int32"):
        if np.iinfo(name).min <= min(ends) and max(ends) <= np.iinfo(name).max:
            return name
    return "float32"


def _range(one: Slice) -> tuple[int, int]:
    used = one.bits[1]
    return (-(1 << (used - 1)), (1 << (used - 1)) - 1) if one.signed else (0, (1 << used) - 1)


def _refuse_pixels(slices: tuple[Slice, ...], path: Path) -> None:
    for one in slices:
        if one.bits[0] == 64:
            raise UserError(f"{one.path} has 64 bits a pixel: export it with whole numbers of 16 and a RescaleSlope")
        if one.rows < 1 or one.columns < 1 or one.bits[0] not in (1, 8, 16, 32) or not 1 <= one.bits[1] <= one.bits[0]:
            raise UserError(f"{one.path} has an impossible number of rows, columns or bits: export it again")
        if one.slope == 0.0:
            raise UserError(f"{one.path} has the RescaleSlope 0: export it again")
        if one.table:
            raise UserError(f"{one.path} has its intensities in a table (Modality LUT): export it with a slope instead")
        if one.samples not in (1, 3) or one.photometric in ("PALETTE COLOR", "MONOCHROME1"):
            kind = one.photometric if one.samples in (1, 3) else f"{one.samples} samples a pixel"
            raise UserError(f"{one.path} has {kind}: convert it to MONOCHROME2 or RGB")
    if len({one.samples for one in slices}) > 1:
        raise UserError(f"{path} mixes grey and colour slices in one series: keep one kind")


def _refuse_mixture(slices: tuple[Slice, ...], path: Path) -> None:
    for name, what in (
        ("position", "ImagePositionPatient"),
        ("orientation", "ImageOrientationPatient"),
        ("spacing", "PixelSpacing"),
    ):
        lacking = [one for one in slices if getattr(one, name) is None]
        if lacking:
            raise UserError(f"{lacking[0].path} has no {what}, so its place is not known: remove it or export it again")
    for what, tolerance, values in (
        ("sizes", 0.0, np.array([(one.rows, one.columns) for one in slices], np.float64)),
        ("orientations", _SAME_DIRECTION, np.array([one.orientation for one in slices])),
        ("pixel spacings", _SAME_LENGTH, np.array([one.spacing for one in slices])),
    ):
        # What most slices have is right; the odd ones are named.
        rounded = Counter(map(tuple, np.round(values, 3)))
        usual = np.array(rounded.most_common(1)[0][0])
        odd = np.flatnonzero(np.abs(values - usual).max(axis=1) > tolerance + 1e-3)
        if len(odd):
            example = slices[odd[0]].path
            raise UserError(
                f"{path} mixes {what} in one series ({len(odd)} of {len(slices)} slices differ, such as"
                f" {example.name}): move the odd ones out"
            )
    first = slices[0]
    orientation, spacing = present(first.orientation, _THERE), present(first.spacing, _THERE)
    columns, rows = np.array(orientation[:3]), np.array(orientation[3:])
    lengths = np.array([columns @ columns, rows @ rows])
    if np.abs(lengths - 1).max() > 0.01 or abs(columns @ rows) > 0.01:
        raise UserError(f"{first.path} has an orientation that is no pair of right-angled directions: export it again")
    if min(spacing) <= 0:
        raise UserError(f"{first.path} has a PixelSpacing that is not above 0: export it again")


def _refuse_gaps(ordered: tuple[Slice, ...], heights: np.ndarray, path: Path) -> None:
    gaps = np.diff(heights)
    if not len(gaps):
        return
    if gaps.min() < 1e-3:
        counts = Counter(np.round(heights, 2))
        times = set(counts.values())
        if times == {max(times)} and max(times) > 1:
            raise SeveralVolumesError(
                f"{path} holds {max(times)} volumes in one series (echoes, phases or b values):"
                " export each as a series of its own"
            )
        twin = int(np.argmin(gaps))
        raise UserError(
            f"{path} has two slices at one position ({ordered[twin].path.name} and {ordered[twin + 1].path.name}):"
            " remove one"
        )
    # The lower of two middle ones: of three slices that are left, one gap may be too wide.
    usual = float(np.sort(gaps)[(len(gaps) - 1) // 2])
    tolerance = max(_EVEN * usual, _ROUNDED)
    uneven = np.flatnonzero(np.abs(gaps - usual) > tolerance)
    if not len(uneven):
        return
    at = int(uneven[0])
    more = f" and in {len(uneven) - 1} more places" if len(uneven) > 1 else ""
    missing = round(float(gaps[at]) / usual) - 1
    if missing >= 1 and abs(gaps[at] - (missing + 1) * usual) <= tolerance * (missing + 1):
        lost = f"slice {at + 2}" if missing == 1 else f"slices {at + 2} to {at + 1 + missing}"
        raise UserError(
            f"{path} lacks {lost} of the series, between {ordered[at].path.name} and {ordered[at + 1].path.name}{more}:"
            " add the missing files"
        )
    raise UserError(
        f"{path} has uneven gaps between slices ({gaps[at]:.3g} mm between {ordered[at].path.name} and"
        f" {ordered[at + 1].path.name}, usually {usual:.3g} mm{more}): resample it or add the missing files"
    )


def _step(positions: np.ndarray, normal: np.ndarray, thickness: float, pixel: float, path: Path) -> np.ndarray:
    """Return the way from one slice to the next; with a tilted gantry it does not follow the normal."""
    if len(positions) == 1:
        return normal * (thickness if thickness > 0 else 1.0)
    step = (positions[-1] - positions[0]) / (len(positions) - 1)
    line = positions[0] + np.arange(len(positions))[:, None] * step
    aside = (positions - line) - np.outer((positions - line) @ normal, normal)
    if np.linalg.norm(aside, axis=1).max() > 0.5 * pixel:
        raise UserError(f"{path} has slices that are shifted against each other: move the odd ones out or resample it")
    return step


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
