"""RTSTRUCT objects: which structures they hold, and the voxels whose centres lie inside their contours.

Source: DICOM PS3.3 C.8.8.5 and C.8.8.6 (contours are closed polygons in mm; a hole is a contour within another).
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthmed.data.dicom.segmentation import Voxels
from synthmed.data.dicom.stack import Stack
from synthmed.errors import UserError

if TYPE_CHECKING:
    from pydicom import Dataset

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
