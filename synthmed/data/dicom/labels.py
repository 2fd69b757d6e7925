"""Label maps of DICOM: segmentation objects and structure sets."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from synthmed.data.dicom.slices import Header, part, quiet, read_file, unreadable
from synthmed.data.dicom.stack import Stack, refuse_compression
from synthmed.data.schema import Geometry
from synthmed.errors import UserError

if TYPE_CHECKING:
    from pydicom import Dataset

Voxels = tuple[int, np.ndarray]
"""The number of a structure and voxels of it, `[n, 3]` indices of the image; some may come twice."""

# A share of a voxel: positions are rounded decimal texts.
_OFF_GRID = 0.25


def segments(dataset: "Dataset") -> dict[int, str]:
    """Return the labels of a segmentation's segments by their numbers; 0 is background."""
    items = dataset.get("SegmentSequence") or []
    named = {int(item.SegmentNumber): str(item.get("SegmentLabel") or item.SegmentNumber) for item in items}
    return {number: label for number, label in named.items() if number}


def segment_voxels(dataset: "Dataset", path: Path, image: Stack) -> Iterator[Voxels]:
    """Yield the voxels of each frame of a segmentation, placed in an image by the frame's position.

    Args:
        dataset: The segmentation.
        path: Its file, for messages.
        image: The image on whose grid it was drawn, perhaps turned or cut to a part of it.

    Raises:
        UserError: If a frame does not lie on the image's grid, or marks voxels outside the image.
    """
    kind = str(dataset.get("SegmentationType", "BINARY")).upper()
    if kind not in ("BINARY", "FRACTIONAL", "LABELMAP"):
        raise UserError(f"{path} is a segmentation of an unknown type: export it as BINARY")
    # Half of this value is the threshold of a fractional segmentation.
    full = int(dataset.get("MaximumFractionalValue", 255)) if kind == "FRACTIONAL" else 1
    groups = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [{}])[0]
    frames = 0
    for own, pixels in zip(groups, _frames(dataset), strict=False):
        frames += 1
        if pixels.shape != (int(dataset.Rows), int(dataset.Columns)):
            raise ValueError("frame of another size")
        place = _frame_to_voxel(own, shared, path, image)
        if kind == "LABELMAP":
            for number in np.unique(pixels[pixels > 0]).tolist():
                yield number, _placed(pixels == number, place, path, image)
        else:
            item = part(own, shared, "SegmentIdentificationSequence")
            if item is None:
                raise UserError(f"{path} does not say to which segment a frame belongs: export it again")
            yield int(item.ReferencedSegmentNumber), _placed(2 * pixels.astype(np.int64) >= full, place, path, image)
    if frames != len(groups) or frames != int(dataset.get("NumberOfFrames", frames) or frames):
        raise ValueError("frames are missing")


def _frames(dataset: "Dataset") -> Iterator[np.ndarray]:
    """Yield the frames, `[rows, columns]`, one at a time: all at once may be hundreds of segments times slices."""
    from pydicom.pixels import iter_pixels

    if int(dataset.BitsAllocated) != 1 or dataset.file_meta.TransferSyntaxUID.is_compressed:
        yield from iter_pixels(dataset)
        return
    # The library iterates over packed bits only where frames begin with a byte, which they need not.
    shape = int(dataset.Rows), int(dataset.Columns)
    size, packed = shape[0] * shape[1], np.frombuffer(dataset.PixelData, np.uint8)
    for begin in range(0, int(dataset.get("NumberOfFrames", 1) or 1) * size, size):
        taken = np.unpackbits(packed[begin // 8 : -(-(begin + size) // 8)], bitorder="little")
        yield taken[begin % 8 : begin % 8 + size].reshape(shape)


def _frame_to_voxel(own: Any, shared: Any, path: Path, image: Stack) -> np.ndarray:
    """Return the 4 x 4 matrix from (column, row, 0, 1) of a frame to voxel indices of the image."""
    place = part(own, shared, "PlanePositionSequence")
    turn = part(own, shared, "PlaneOrientationSequence")
    measures = part(own, shared, "PixelMeasuresSequence")
    if place is None or turn is None or measures is None:
        raise UserError(f"{path} does not say where a frame lies (position, orientation, spacing): export it again")
    turned = np.array(turn.ImageOrientationPatient, np.float64)
    rows, columns = (float(value) for value in measures.PixelSpacing)
    frame = np.eye(4)
    frame[:3, 0], frame[:3, 1] = turned[:3] * columns, turned[3:] * rows
    frame[:3, 3] = np.array(place.ImagePositionPatient, np.float64)
    frame[:2] *= -1
    matrix = np.linalg.inv(image.affine) @ frame
    if np.abs(np.linalg.norm(matrix[:3, :2], axis=0) - 1).max() > 0.01:
        raise UserError(f"{path} has pixels of another size than its images: resample it onto them")
    return matrix


def _placed(mask: np.ndarray, place: np.ndarray, path: Path, image: Stack) -> np.ndarray:
    rows, columns = np.nonzero(mask)
    exact = columns[:, None] * place[:3, 0] + rows[:, None] * place[:3, 1] + place[:3, 3]
    voxels = np.round(exact)
    if (voxels < 0).any() or (voxels >= image.geometry.shape).any():
        raise UserError(f"{path} marks voxels outside its images: add the missing slices, or remove it")
    if len(voxels) and np.abs(exact - voxels).max() > _OFF_GRID:
        raise UserError(f"{path} does not lie on the pixels of its images: resample it onto them")
    return voxels.astype(np.int64)


# A share of the distance between slices.
_OFF_SLICE = 0.25
_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")


def structures(dataset: "Dataset") -> dict[int, str]:
    """Return the names of the structures that have an area, by their numbers; points and open lines have none."""
    areas = {int(item.ReferencedROINumber) for item in dataset.get("ROIContourSequence") or [] if _closed(item)}
    named = {int(item.ROINumber): str(item.get("ROIName") or item.ROINumber) for item in _rois(dataset)}
    return {number: name for number, name in named.items() if number in areas}


def structure_voxels(dataset: "Dataset", path: Path, image: Stack) -> Iterator[Voxels]:
    """Yield the voxels of each structure, slice by slice.

    Args:
        dataset: The RTSTRUCT.
        path: Its file, for messages.
        image: The image on whose slices it was drawn.

    Raises:
        UserError: If a contour lies beside the slices or is not parallel to them.
    """
    to_voxel = np.linalg.inv(image.affine)
    columns, rows, _ = image.geometry.shape
    for item in dataset.get("ROIContourSequence") or []:
        contours: dict[int, list[np.ndarray]] = defaultdict(list)
        for contour in _closed(item):
            points = np.array(contour.ContourData, np.float64).reshape(-1, 3) * [-1.0, -1.0, 1.0]
            voxels = points @ to_voxel[:3, :3].T + to_voxel[:3, 3]
            # Decimal texts make noise that would put a corner now on this side of a pixel's centre, now on that.
            contours[_slice(voxels[:, 2], path, image)].append(np.round(voxels[:, :2], 4))
        for number, polygons in contours.items():
            inside = np.argwhere(fill(polygons, (rows, columns)))
            where = np.column_stack([inside[:, 1], inside[:, 0], np.full(len(inside), number)])
            yield int(item.ReferencedROINumber), where


def fill(polygons: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Return which pixels' centres lie inside an odd number of polygons: bool `[rows, columns]`.

    Every edge toggles the pixels on its right in each row that it crosses. Edges own their upper and left ends, so
    that two areas with a common border share no pixel and leave none out.

    Args:
        polygons: Corners `[n, 2]` as (column, row), the centre of the first pixel being (0, 0).
        shape: Rows and columns.
    """
    rows, columns = shape
    toggled = np.zeros((rows, columns + 1), np.uint8)
    for corners in polygons:
        for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            if y1 < y0:
                x0, y0, x1, y1 = x1, y1, x0, y0
            first, end = (int(np.ceil(np.clip(y, 0, rows))) for y in (y0, y1))
            if first >= end:
                continue
            crossed = np.arange(first, end)
            at = x0 + (crossed - y0) * ((x1 - x0) / (y1 - y0))
            # Within one edge no row comes twice, so that plain indexing toggles each once.
            toggled[crossed, np.ceil(np.clip(at, 0, columns)).astype(np.int64)] ^= 1
    return np.bitwise_xor.accumulate(toggled[:, :columns], axis=1).astype(bool)


def _rois(dataset: "Dataset") -> Any:
    return dataset.get("StructureSetROISequence") or []


def _closed(item: Any) -> list[Any]:
    contours = item.get("ContourSequence") or []
    return [one for one in contours if one.get("ContourGeometricType") in _CLOSED and len(one.ContourData) >= 9]


def _slice(heights: np.ndarray, path: Path, image: Stack) -> int:
    if not np.isfinite(heights).all() or np.ptp(heights) > 2 * _OFF_SLICE:
        raise UserError(f"{path} has contours that are not parallel to the slices: export it as DICOM-SEG")
    middle = float(heights.mean())
    number = round(middle)
    if not 0 <= number < image.geometry.shape[2]:
        raise UserError(f"{path} has contours outside its images: add the missing slices, or remove it")
    if abs(middle - number) > _OFF_SLICE:
        raise UserError(f"{path} has contours between the slices of its images: add the images on which it was drawn")
    return number


Kind = Literal["SEG", "RTSTRUCT"]


@dataclass(frozen=True)
class LabelObject:
    """A segmentation or structure set.

    Attributes:
        path: Its file.
        kind: Which of the two.
        header: Of the file.
        names: Name of each structure by its number, as the file spells it.
        series: SeriesInstanceUIDs of the images on which it was drawn, as far as it says so.
        frames: FrameOfReferenceUIDs in which it was drawn.
    """

    path: Path
    kind: Kind
    header: Header
    names: dict[int, str]
    series: frozenset[str]
    frames: frozenset[str]


def read_label_object(header: Header) -> LabelObject:
    """Return what a SEG or RTSTRUCT file says of itself.

    Raises:
        UserError: If it is damaged.
    """
    kind: Kind = "SEG" if header.modality == "SEG" else "RTSTRUCT"
    dataset = _read(header.path)
    try:
        with quiet():
            names = segments(dataset) if kind == "SEG" else structures(dataset)
            frames = {header.frame_of_reference, *_values(dataset, "FrameOfReferenceUID")}
            series = {*_values(dataset, "SeriesInstanceUID")} - {header.series}
    except Exception:
        raise unreadable(header.path) from None
    return LabelObject(header.path, kind, header, names, frozenset(series), frozenset(frames - {""}))


def _values(dataset: Any, keyword: str) -> Iterator[str]:
    """Yield what the sequences of references say under a keyword, at whatever depth."""
    for name in (
        "ReferencedSeriesSequence",
        "ReferencedFrameOfReferenceSequence",
        "RTReferencedStudySequence",
        "RTReferencedSeriesSequence",
    ):
        for item in dataset.get(name) or []:
            if item.get(keyword):
                yield str(item.get(keyword))
            yield from _values(item, keyword)


def _read(path: Path) -> Any:
    try:
        with quiet():
            return read_file(path)
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: put it back") from None
    # The library raises whatever its parts raise on bytes that are no header.
    except Exception:
        raise unreadable(path) from None


@dataclass(frozen=True)
class LabelSource:
    """The label map of a case.

    Attributes:
        path: First of its files, for messages.
        name: Pseudonym of the study and "labels", "study-0123abcd/labels".
        objects: Kind and file of each object, and the label value of each structure by its number in it.
        stack: The image on whose grid the label map is wanted.
    """

    path: Path
    name: str
    objects: tuple[tuple[Kind, Path, tuple[tuple[int, int], ...]], ...]
    stack: Stack

    @property
    def files(self) -> dict[str, Path]:
        """The files by their number."""
        return {f"{self.name}/{number:04d}": path for number, (_, path, _) in enumerate(self.objects, start=1)}

    def open(self) -> "LabelVolume":
        """Return the label map, whose files are read by `voxels`."""
        return LabelVolume(self)


class LabelVolume:
    """A label map on the grid of its image.

    Attributes:
        path: See `LabelSource.path`.
        geometry: Of the image, uint8.
        channels: 1.
    """

    def __init__(self, source: LabelSource):
        self.path = source.path
        self.channels = 1
        self._source = source
        self._stack = source.stack
        self.geometry: Geometry = self._stack.geometry.model_copy(update={"dtype": "uint8"})

    def voxels(self) -> np.ndarray:
        """Return the label values `[X, Y, Z, 1]`; where structures overlap, the smaller one is shown.

        A structure within another is then never lost, in whatever order they were drawn.

        Raises:
            UserError: If a file is damaged or does not lie on the image's grid.
        """
        wanted = {value for _, _, table in self._source.objects for _, value in table}
        sizes: Counter[int] = Counter(wanted)
        # One alone overlaps none, so that its size, for which its file is read once more, does not matter.
        for value, voxels in self._structures() if len(wanted) > 1 else ():
            sizes[value] += len(voxels)
        # Ranks are painted instead of values: the larger rank, the smaller structure, wins in whatever order it comes.
        ranked = [0, *sorted(sizes, key=lambda value: (-sizes[value], value))]
        rank = {value: number for number, value in enumerate(ranked)}
        painted = np.zeros(self.geometry.shape, np.uint8)
        for value, voxels in self._structures():
            where = tuple(voxels.T)
            painted[where] = np.maximum(painted[where], rank[value])
        return np.array(ranked, np.uint8)[painted][..., None]

    def _structures(self) -> Iterator[Voxels]:
        for kind, path, table in self._source.objects:
            yield from _valued(kind, path, dict(table), self._stack)


def _valued(kind: Kind, path: Path, values: dict[int, int], image: Stack) -> Iterator[Voxels]:
    dataset = _read(path)
    reader = segment_voxels if kind == "SEG" else structure_voxels
    try:
        with quiet():
            if kind == "SEG":
                refuse_compression(dataset.file_meta.TransferSyntaxUID, path)
            for number, voxels in reader(dataset, path, image):
                if number in values:
                    yield values[number], voxels
    except UserError:
        raise
    # The library raises whatever its parts raise on bytes that are no image.
    except Exception:
        raise unreadable(path) from None
