"""DICOM-SEG objects: which segments they hold, and the voxels of each.

Source: DICOM PS3.3 A.51 and C.8.20 (binary, fractional and label map segmentations).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthmed.data.dicom.slices import part
from synthmed.data.dicom.stack import Stack
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
