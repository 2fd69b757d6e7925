"""Headers of DICOM files: which files of a folder are DICOM, and the elements of each that are needed."""

import functools
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthmed.data.dicom.files import read_file
from synthmed.data.dicom.quiet import quiet
from synthmed.data.dicom.slices import Slice, slices_of, text, whole
from synthmed.data.volumes import PICTURE_ENDINGS, VOLUME_ENDINGS
from synthmed.errors import UserError

if TYPE_CHECKING:
    from pydicom import Dataset

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
