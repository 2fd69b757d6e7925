"""DICOM that the tests write for themselves, about people who never were; other folders load this file by its path."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

MR, CT, SECONDARY = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.7"
RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
OBLIQUE = (0.8, 0.6, 0.0, -0.36, 0.48, 0.8)


@dataclass(frozen=True)
class Person:
    """Somebody invented."""

    name: str = "Quarzheim^Ottokar^Emil"
    id: str = "XQ-88-4711"
    birth: str = "19510203"


def uid(text: str) -> str:
    """Return a UID that belongs to a text."""
    return str(generate_uid(entropy_srcs=["synthmed tests", text]))


def _file(path: Path, sop_class: str, instance: str, person: Person, study: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = uid(instance)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, uid(instance)
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = person.name, person.id, person.birth
    dataset.PatientSex = "O"
    dataset.StudyInstanceUID, dataset.StudyID = uid(study), "S-31337"
    dataset.StudyDate, dataset.StudyTime, dataset.AccessionNumber = "20190317", "101112", "ACC99887766"
    dataset.ReferringPhysicianName, dataset.InstitutionName = "Wundermild^Ada", "Klinikum Nirgendheim"
    return dataset


def write_series(
    folder: Path,
    voxels: np.ndarray,
    *,
    series: str = "T1",
    study: str = "study",
    description: str | None = None,
    person: Person | None = None,
    modality: str = "MR",
    number: int = 1,
    space: str | None = None,
    spacing: tuple[float, float] = (1.5, 1.25),
    gap: float = 3.0,
    orientation: tuple[float, ...] = OBLIQUE,
    origin: tuple[float, float, float] = (-20.0, 13.5, 7.25),
    scale: Callable[[int], tuple[float, float]] | None = None,
    edit: Callable[[FileDataset, int], Any] | None = None,
) -> list[Path]:
    """Write `[X, Y, Z]` (or `[X, Y, Z, 3]`) pixel values as a series; file names say nothing of their order.

    Args:
        folder: Made where it is missing.
        voxels: Of an integer type.
        series: Stands for the UID and, unless `description` is given, is the description.
        study: Stands for the UID.
        description: SeriesDescription.
        person: Whose study it is.
        modality: "MR" or "CT".
        number: SeriesNumber.
        space: Stands for the frame of reference, by default the study's.
        spacing: Between rows, between columns.
        gap: Between slices.
        orientation: Direction cosines of a row and a column.
        origin: Position of the first pixel of the first slice.
        scale: From the number of a slice to its slope and intercept.
        edit: Changes a slice's data set before it is written; the slice is left out where it returns False.

    Returns:
        The files in the order of slices.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = np.random.default_rng(len(series)).permutation(voxels.shape[2])
    normal = np.cross(orientation[:3], orientation[3:])
    paths = []
    for index in range(voxels.shape[2]):
        path = folder / f"IM{names[index]:04d}"
        dataset = _file(path, {"CT": CT}.get(modality, MR), f"{study}/{series}/{index}", person or Person(), study)
        dataset.Modality, dataset.SeriesInstanceUID, dataset.SeriesNumber = modality, uid(f"{study}/{series}"), number
        dataset.SeriesDescription = series if description is None else description
        dataset.FrameOfReferenceUID = uid(f"{study}/{space or 'space'}")
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
        dataset.PositionReferenceIndicator = ""
        dataset.InstanceNumber = int(names[index])
        dataset.ImagePositionPatient = [f"{value:.6f}" for value in np.array(origin) + index * gap * normal]
        dataset.ImageOrientationPatient = list(orientation)
        dataset.PixelSpacing, dataset.SliceThickness = list(spacing), gap
        if scale is not None:
            dataset.RescaleSlope, dataset.RescaleIntercept = scale(index)
        pixels = np.ascontiguousarray(np.swapaxes(voxels[:, :, index], 0, 1))
        put_pixels(dataset, pixels)
        if edit is None or edit(dataset, index) is not False:
            dataset.save_as(path, enforce_file_format=True)
            paths.append(path)
    return paths


def put_pixels(dataset: Dataset, pixels: np.ndarray) -> None:
    """Give a data set its pixels `[rows, columns]` or `[rows, columns, 3]`."""
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    dataset.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    bits = 8 * pixels.dtype.itemsize
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"


def write_seg(path: Path, images: list[Path], masks: dict[str, np.ndarray], *, kind: str = "BINARY") -> Path:
    """Write masks `[X, Y, Z]` over a series as DICOM-SEG with highdicom, which leaves empty frames out.

    Args:
        path: The file.
        images: From `write_series`.
        masks: By the label of their segment; bool, or shares 0..1 where `kind` is "FRACTIONAL".
        kind: SegmentationType.
    """
    import highdicom as hd
    from pydicom.sr.codedict import codes

    described = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=codes.SCT.Tissue,
            segmented_property_type=codes.SCT.Tissue,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, label in enumerate(masks, start=1)
    ]
    # [Z, rows, columns, segments]
    stacked = np.stack([np.transpose(mask, (2, 1, 0)) for mask in masks.values()], axis=-1)
    if kind == "LABELMAP":
        stacked = (stacked * np.arange(1, len(masks) + 1)).max(axis=-1).astype(np.uint8)
    elif kind == "BINARY":
        stacked = stacked.astype(np.uint8)
    sources = [pydicom.dcmread(image) for image in images]
    segmentation = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=stacked,
        segmentation_type=kind,
        segment_descriptions=described,
        series_instance_uid=uid(f"{path.name} of {sources[0].StudyInstanceUID}"),
        series_number=99,
        sop_instance_uid=uid(f"{path} instance"),
        instance_number=1,
        manufacturer="nobody",
        manufacturer_model_name="none",
        software_versions="0",
        device_serial_number="0",
        omit_empty_frames=True,
    )
    # highdicom writes today, which is also the day of everything that a test writes.
    for element in segmentation.iterall():
        if element.VR == "DA":
            element.value = sources[0].StudyDate
    path.parent.mkdir(parents=True, exist_ok=True)
    segmentation.save_as(path, enforce_file_format=True)
    return path


def write_rtstruct(path: Path, images: list[Path], contours: dict[str, list[np.ndarray]]) -> Path:
    """Write contours, `[n, 3]` points in mm (LPS) each, by the names of their structures."""
    source = pydicom.dcmread(images[0], stop_before_pixels=True)
    dataset = _file(path, RTSTRUCT, f"{path} instance", Person(str(source.PatientName), source.PatientID), "any")
    dataset.StudyInstanceUID = source.StudyInstanceUID
    dataset.Modality, dataset.SeriesInstanceUID = "RTSTRUCT", uid(f"{path} series")
    series, study, space = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = source.SeriesInstanceUID
    study.RTReferencedSeriesSequence = Sequence([series])
    space.FrameOfReferenceUID = source.FrameOfReferenceUID
    space.RTReferencedStudySequence = Sequence([study])
    dataset.ReferencedFrameOfReferenceSequence = Sequence([space])
    rois, drawn = [], []
    for number, (name, lines) in enumerate(contours.items(), start=1):
        roi, item = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, source.FrameOfReferenceUID
        item.ReferencedROINumber = number
        item.ContourSequence = Sequence()
        for line in lines:
            contour = Dataset()
            contour.ContourGeometricType = "CLOSED_PLANAR" if len(line) > 2 else "POINT"
            contour.NumberOfContourPoints = len(line)
            contour.ContourData = [f"{value:.6f}" for value in np.ravel(line)]
            item.ContourSequence.append(contour)
        rois.append(roi)
        drawn.append(item)
    dataset.StructureSetROISequence, dataset.ROIContourSequence = Sequence(rois), Sequence(drawn)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path
