"""Files of DICOM slices: opening them, their headers, read quietly, and what of them counts."""

import functools
import logging
import math
import os
import struct
import sys
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthmed.data.formats import PICTURE_ENDINGS, VOLUME_ENDINGS
from synthmed.errors import UserError

if TYPE_CHECKING:
    from pydicom import Dataset, FileDataset

_lock = threading.Lock()
_users = 0
_context: Any = None
_level = logging.NOTSET


@contextmanager
def quiet() -> Iterator[None]:
    """Silence all warnings, and pydicom's log, within; several threads may be within at once.

    `warnings.catch_warnings` alone would leave the filters of one thread behind when another is within.
    """
    global _users, _context, _level
    log = logging.getLogger("pydicom")
    with _lock:
        if _users == 0:
            _context = warnings.catch_warnings()
            _context.__enter__()
            warnings.simplefilter("ignore")
            _level = log.level
            log.setLevel(logging.CRITICAL + 1)
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _context.__exit__(None, None, None)
                log.setLevel(_level)


_DEFLATED = b"1.2.840.10008.1.2.1.99"
_START = 1 << 16
_CHUNK = 1 << 20
SMALLEST_LIMIT = 1 << 28
LARGEST_RATIO = 100
"""Of the bytes of a deflated file to those it stands for: no header says how many, and images hardly shrink so far."""


def read_file(path: Path, **how: Any) -> "FileDataset":
    """Return a file as `pydicom.dcmread` reads it.

    Args:
        path: The file.
        how: Options of `pydicom.dcmread`.

    Raises:
        UserError: If it is deflated and stands for more than files of its size do.
        Exception: Whatever the library raises on a damaged file.
    """
    import pydicom

    with open(path, "rb") as file:
        if _DEFLATED in file.read(_START):
            _check_deflated(path)
    return pydicom.dcmread(path, **how)


def _check_deflated(path: Path) -> None:
    # By DICOM PS3.10, 7.1, the group of what is not deflated begins with its length, at byte 132.
    content = path.read_bytes()
    (length,) = struct.unpack("<I", content[140:144])
    rest, inflate, size = content[144 + length :], zlib.decompressobj(-zlib.MAX_WBITS), 0
    limit = max(SMALLEST_LIMIT, LARGEST_RATIO * len(content))
    while rest and not inflate.eof:
        size += len(inflate.decompress(rest, _CHUNK))
        rest = inflate.unconsumed_tail
        if size > limit:
            raise UserError(f"{path} is deflated and stands for more than {limit >> 20} MiB: export it uncompressed")


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


MAGIC = b"DICM"
_MAGIC_AT = 128
_DIRECTORY = "1.2.840.10008.1.3.10"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
# Enough to know a folder by, few enough that a tree of a million files is known as quickly.
_PROBED_IN_FOLDER, _PROBED = 3, 48
_OTHERS = (*VOLUME_ENDINGS, *PICTURE_ENDINGS)

PERSONAL = (
    *("PatientID", "OtherPatientIDs", "PatientTelephoneNumbers", "PatientTelecomInformation", "PatientAddress"),
    *("MedicalRecordLocator", "InsurancePlanIdentification", "CurrentPatientLocation", "AccessionNumber", "StudyID"),
    *("AdmissionID", "ServiceEpisodeID", "RequestedProcedureID", "ScheduledProcedureStepID"),
    *("PerformedProcedureStepID", "PlacerOrderNumberImagingServiceRequest", "FillerOrderNumberImagingServiceRequest"),
    *("ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID", "ClinicalTrialSiteName", "ResponsibleOrganization"),
    *("InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "StationName", "DeviceSerialNumber"),
    *("ReferringPhysicianAddress", "ReferringPhysicianTelephoneNumbers", "PersonAddress", "PersonTelephoneNumbers"),
)
"""Elements that identify a person or a place; nothing that they say may be in a name, nor may people's names or days.

Those are in all elements of the VRs PN, DA and DT, at whatever depth.
"""
_PN, _DAYS = "PN", ("DA", "DT")
# An item for each slice or contour, and nothing in them names a person.
_WITHOUT_PEOPLE = ("PerFrameFunctionalGroupsSequence", "ROIContourSequence")
# What names a series whose description may not. Whatever else stands there is no modality, and may be anything.
_MODALITIES = """
AR ASMT AU BDUS BI BMD CFM CR CT CTPROTOCOL DG DMS DOC DX ECG EEG EMG EOG EPS ES FID GM HC HD IO IOL IVOCT IVUS KER KO
LEN LS M3D MG MR NM OAM OCT OP OPM OPT OPTBSV OPTENF OPV OSS OT PA PLAN POS PR PT PX REG RESP RF RG RTDOSE RTIMAGE
RTINTENT RTPLAN RTRAD RTRECORD RTSEGANN RTSTRUCT RWV SEG SM SMR SR SRF STAIN TEXTUREMAP TG US VA XA XAPROTOCOL XC
"""
_KNOWN_MODALITIES = frozenset(_MODALITIES.split())


@dataclass(frozen=True, slots=True)
class Header:
    """What is kept of one file's header until its case is known; none of it is written anywhere but through `names`.

    Attributes:
        path: The file.
        sop_class: What kind of object it is, a UID.
        study: StudyInstanceUID.
        series: SeriesInstanceUID.
        patient: PatientID; empty where it is not known. Whoever issued it, patients of one ID are better kept together.
        personal: What it says of people, places and days, at whatever depth: see `PERSONAL`.
        modality: As DICOM abbreviates it; OT for what is no modality of DICOM.
        description: SeriesDescription.
        number: SeriesNumber.
        frame_of_reference: UID of the space in which positions are told; empty where it is not known.
        image_type: Values of ImageType.
        slices: Its slices; empty where it is no image.
    """

    path: Path
    sop_class: str
    study: str
    series: str
    patient: str
    personal: tuple[str, ...]
    modality: str
    description: str
    number: int
    frame_of_reference: str
    image_type: tuple[str, ...]
    slices: tuple[Slice, ...]


def unreadable(path: Path) -> UserError:
    """Return the error for a DICOM file that cannot be read; what the library says may quote the header."""
    return UserError(f"{path} is truncated, damaged or encrypted: export it again")


def is_dicom(path: Path) -> bool:
    """Return whether a file begins as DICOM files do."""
    try:
        with path.open("rb") as file:
            start = file.read(_MAGIC_AT + len(MAGIC))
    except OSError:
        return False
    return start[_MAGIC_AT:] == MAGIC


def holds_dicom(folder: Path) -> bool:
    """Return whether DICOM files are the images of a folder, at whatever depth; a few of them tell."""
    probed = found = others = 0
    for number, (_, files) in enumerate(_walk(folder)):
        if probed >= _PROBED or number >= 10 * _PROBED:
            break
        for path in files[:_PROBED_IN_FOLDER]:
            probed += 1
            if path.name.lower().endswith(_OTHERS):
                others += 1
            elif is_dicom(path):
                found += 1
    return found > others


def _walk(folder: Path) -> Iterator[tuple[Path, list[Path]]]:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        kept = sorted(name for name in names if not name.startswith(".") and name.upper() != "DICOMDIR")
        yield Path(place), [Path(place) / name for name in kept]


def read_headers(folder: Path) -> list[Header]:
    """Return the headers of all DICOM files below a folder, in the order of their paths.

    Raises:
        UserError: If a DICOM file cannot be read, or a file called .dcm is none.
    """
    headers: list[Header] = []
    bad: list[UserError] = []
    for _, files in _walk(folder):
        for path in files:
            try:
                header = read_header(path)
            except UserError as error:
                bad.append(error)
                continue
            if header is not None:
                headers.append(header)
    if bad:
        more = f" (and {len(bad) - 1} more such files)" if len(bad) > 1 else ""
        raise UserError(f"{bad[0]}{more}")
    return headers


def read_header(path: Path) -> Header | None:
    """Return a file's header, None where it is no DICOM file or a DICOMDIR.

    Raises:
        UserError: If it cannot be read, or is called .dcm and is no DICOM file.
    """
    if not is_dicom(path):
        if path.suffix.lower() in (".dcm", ".ima"):
            raise UserError(f"{path} is no DICOM file (encrypted, empty or damaged?): export it again or remove it")
        return None
    try:
        with quiet():
            dataset = read_file(path, stop_before_pixels=True)
            if str(dataset.file_meta.get("MediaStorageSOPClassUID", "")) == _DIRECTORY:
                return None
            header = _header(dataset, path)
    except UserError:
        raise
    # The library raises whatever its parts raise on bytes that are no header.
    except Exception:
        raise unreadable(path) from None
    if not header.study or not header.series:
        raise UserError(f"{path} has no StudyInstanceUID or SeriesInstanceUID: export it again")
    return header


def _header(dataset: "Dataset", path: Path) -> Header:
    modality = text(dataset, "Modality").upper()
    return Header(
        path=path,
        sop_class=text(dataset, "SOPClassUID"),
        study=text(dataset, "StudyInstanceUID"),
        series=text(dataset, "SeriesInstanceUID"),
        patient=text(dataset, "PatientID"),
        # The slices of a series share these texts, which so are in memory once.
        personal=tuple(sorted({sys.intern(value) for value in _personal(dataset) if value})),
        modality=modality if not modality or modality in _KNOWN_MODALITIES else "OT",
        description=text(dataset, "SeriesDescription"),
        number=whole(dataset.get("SeriesNumber"), 0),
        frame_of_reference=text(dataset, "FrameOfReferenceUID"),
        image_type=tuple(part.strip().upper() for part in text(dataset, "ImageType").split("\\")),
        slices=slices_of(dataset, path),
    )


def _personal(dataset: "Dataset") -> Iterator[str]:
    """Yield what a data set and the sequences in it say of people, places and days."""
    wanted, without = _tags(PERSONAL), _tags(_WITHOUT_PEOPLE)
    for tag in list(dataset.keys()):  # noqa: SIM118 - a data set iterates over decoded elements
        kind = _kind(dataset, tag)
        if tag in without or (kind not in ("SQ", _PN, *_DAYS) and tag not in wanted):
            continue
        try:
            value = dataset[tag].value
        # The library raises whatever its parts raise on a damaged element, which then says nothing that we use.
        except Exception:
            continue
        if kind == "SQ":
            for item in value or ():
                yield from _personal(item)
            continue
        for one in value if isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue" else [value]:
            yield str(one or "").strip(" \0")[: 8 if kind in _DAYS else None]


def _kind(dataset: "Dataset", tag: Any) -> str:
    """Return an element's VR without decoding it; that of the standard where the file does not say it."""
    from pydicom.datadict import dictionary_has_tag, dictionary_VR

    kind = dataset.get_item(tag).VR
    if kind in (None, "UN"):
        kind = dictionary_VR(tag) if dictionary_has_tag(tag) else "UN"
    return str(kind)


@functools.cache
def _tags(names: tuple[str, ...]) -> frozenset[int]:
    from pydicom.datadict import tag_for_keyword

    tags = {name: tag_for_keyword(name) for name in names}
    unknown = [name for name, tag in tags.items() if tag is None]
    if unknown:
        raise ValueError(f"no element is called {unknown[0]}")
    return frozenset(int(tag) for tag in tags.values() if tag is not None)
