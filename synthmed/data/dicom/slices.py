"""What the header of a DICOM file says of each of its slices."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthmed.errors import UserError


@dataclass(frozen=True, slots=True)
class Slice:
    """A slice: where its pixels are and what turns them into intensities in space.

    Attributes:
        path: Its file.
        frame: Its number in a file of several, else 0.
        rows: Of pixels.
        columns: Of pixels.
        samples: 1, or 3 where it is in colour.
        photometric: How pixel values are to be seen, as DICOM names it.
        bits: Bits allocated for a pixel, bits used of them.
        signed: Whether pixel values are.
        slope: Intensities are `slope * pixel + intercept`.
        intercept: See `slope`.
        padding: Smallest and largest pixel value that stand outside the image; None where there are none.
        position: Centre of its first pixel in mm, LPS; None where the header does not say.
        orientation: Directions of growing columns and of growing rows, LPS; None where the header does not say.
        spacing: Between rows and between columns, in mm; None where the header does not say.
        thickness: In mm, 0 where the header does not say.
        table: Whether intensities are in a table instead (Modality LUT).
    """

    path: Path
    frame: int
    rows: int
    columns: int
    samples: int
    photometric: str
    bits: tuple[int, int]
    signed: bool
    slope: float
    intercept: float
    padding: tuple[int, int] | None
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    thickness: float
    table: bool


def text(dataset: Any, name: str) -> str:
    """Return an element as text, several values with backslashes between them, empty where it is missing."""
    value = dataset.get(name)
    if value is None:
        return ""
    if isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue":
        return "\\".join(str(part) for part in value).strip()
    return str(value).strip(" \0")


def whole(value: Any, otherwise: int) -> int:
    """Return an element's value as a whole number, `otherwise` where it is missing or empty."""
    return otherwise if value is None or value == "" else int(value)


def part(own: Any, shared: Any, name: str) -> Any:
    """Return the item of a functional group, a frame's own or that of all frames; None where it is missing."""
    found = own.get(name) or shared.get(name)
    return found[0] if found else None


def _numbers(dataset: Any, name: str, count: int) -> tuple[float, ...] | None:
    value = dataset.get(name) if dataset is not None else None
    if value is None or value == "":
        return None
    numbers = tuple(float(part) for part in value)
    if len(numbers) != count or not all(math.isfinite(number) for number in numbers):
        raise ValueError(name)
    return numbers


def _number(dataset: Any, name: str, otherwise: float) -> float:
    value = dataset.get(name) if dataset is not None else None
    number = otherwise if value is None or value == "" else float(value)
    if not math.isfinite(number):
        raise ValueError(name)
    return number


def slices_of(dataset: Any, path: Path) -> tuple[Slice, ...]:
    """Return the slices of a file, none where it is no image.

    Raises:
        UserError: If it holds several frames and does not say where they lie.
    """
    if "Rows" not in dataset or "Columns" not in dataset or text(dataset, "Modality").upper() in ("SEG", "RTDOSE"):
        return ()
    frames = max(whole(dataset.get("NumberOfFrames"), 1), 1)
    groups = dataset.get("PerFrameFunctionalGroupsSequence")
    if frames == 1 and not groups:
        return (_slice(dataset, path, 0, dataset, dataset, dataset, dataset),)
    if not groups or len(groups) != frames:
        raise UserError(f"{path} holds {frames} frames without the position of each: export it as single slices")
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [{}])[0]

    return tuple(
        _slice(
            dataset,
            path,
            number,
            part(own, shared, "PlanePositionSequence"),
            part(own, shared, "PlaneOrientationSequence"),
            part(own, shared, "PixelMeasuresSequence"),
            part(own, shared, "PixelValueTransformationSequence"),
        )
        for number, own in enumerate(groups)
    )


def _slice(dataset: Any, path: Path, frame: int, place: Any, turn: Any, measures: Any, scale: Any) -> Slice:
    bits = whole(dataset.get("BitsAllocated"), 16)
    signed = whole(dataset.get("PixelRepresentation"), 0) == 1
    spacing = _numbers(measures, "PixelSpacing", 2) or _numbers(dataset, "ImagerPixelSpacing", 2)
    return Slice(
        path=path,
        frame=frame,
        rows=int(dataset.Rows),
        columns=int(dataset.Columns),
        samples=whole(dataset.get("SamplesPerPixel"), 1),
        photometric=text(dataset, "PhotometricInterpretation").upper(),
        bits=(bits, whole(dataset.get("BitsStored"), bits)),
        signed=signed,
        slope=_number(scale, "RescaleSlope", 1.0),
        intercept=_number(scale, "RescaleIntercept", 0.0),
        padding=_padding(dataset, bits, signed),
        position=_numbers(place, "ImagePositionPatient", 3),
        orientation=_numbers(turn, "ImageOrientationPatient", 6),
        spacing=spacing,
        thickness=_number(measures, "SliceThickness", 0.0),
        table="ModalityLUTSequence" in dataset,
    )


def _padding(dataset: Any, bits: int, signed: bool) -> tuple[int, int] | None:
    if dataset.get("PixelPaddingValue") is None:
        return None
    ends = [
        int(dataset.PixelPaddingValue),
        whole(dataset.get("PixelPaddingRangeLimit"), int(dataset.PixelPaddingValue)),
    ]
    # Some writers store a negative value as if it were unsigned.
    ends = [end - (1 << bits) if signed and end >= 1 << (bits - 1) else end for end in ends]
    return min(ends), max(ends)
