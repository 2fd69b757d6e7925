"""What people's DICOM folders get wrong, and the line that each mistake gives."""

import numpy as np
import pytest

from synthmed.data.inspect import fingerprint, refuse_problems
from synthmed.data.readers import ReadOptions, read_dataset
from synthmed.errors import UserError


def at(number, change):
    """Return an edit of one slice."""
    return lambda dataset, index: change(dataset) if index == number else None


def put(name, value):
    """Return an edit that sets an element."""
    return lambda dataset: setattr(dataset, name, value)


def drop(name):
    """Return an edit that removes an element."""
    return lambda dataset: delattr(dataset, name)


def leave_out(*numbers):
    """Return an edit that leaves slices out."""
    return lambda dataset, index: index not in numbers


def twin(dataset, index):
    if index == 3:
        dataset.ImagePositionPatient = twin.last
    twin.last = dataset.ImagePositionPatient


def smaller(dataset):
    dataset.Rows, dataset.PixelData = 6, dataset.PixelData[: 6 * 9 * 2]


def shift(dataset):
    x, y, z = dataset.ImagePositionPatient
    dataset.ImagePositionPatient = [float(x) + 3.2, float(y) + 2.4, z]


def decimals(dataset):
    dataset.FloatPixelData = np.linspace(0, 1, 7 * 9, dtype=np.float32).tobytes()
    dataset.BitsAllocated = dataset.BitsStored = 32
    del dataset.PixelData, dataset.PixelRepresentation


def two_frames(dataset):
    dataset.NumberOfFrames = 2
    dataset.PixelData = 2 * dataset.PixelData[: 7 * 9 * 2]


SERIES = {
    "two orientations in one series": (
        at(2, put("ImageOrientationPatient", [1, 0, 0, 0, 1, 0])),
        r"mixes orientations in one series \(1 of 5 slices differ, such as IM\d+\): move the odd ones out",
    ),
    "two pixel spacings in one series": (at(0, put("PixelSpacing", [1, 1])), r"mixes pixel spacings .*1 of 5"),
    "slices of two sizes in one series": (at(4, smaller), r"mixes sizes in one series"),
    "a missing slice": (leave_out(2), r"lacks slice 3 of the series, between IM\d+ and IM\d+: add the missing files"),
    "two missing slices": (leave_out(1, 2), r"lacks slices 2 to 3 of the series"),
    "an uneven gap": (
        at(4, put("ImagePositionPatient", [-14.5, 4.2, 16.9])),
        r"uneven gaps between slices|shifted against each other",
    ),
    "one slice twice": (twin, r"two slices at one position \(IM\d+ and IM\d+\): remove one"),
    "a slice beside the others": (at(2, shift), r"slices that are shifted against each other|uneven gaps"),
    "no position": (at(1, drop("ImagePositionPatient")), r"has no ImagePositionPatient, so its place is not known"),
    "no pixel spacing": (at(1, drop("PixelSpacing")), r"has no PixelSpacing"),
    "a pixel spacing of 0": (lambda d, _: setattr(d, "PixelSpacing", [0, 1]), r"PixelSpacing that is not above 0"),
    "an orientation that is none": (
        lambda d, _: setattr(d, "ImageOrientationPatient", [1, 0, 0, 1, 0, 0]),
        r"no pair of right-angled directions",
    ),
    "a position that is no number": (
        at(3, put("ImagePositionPatient", ["1", "2"])),
        r"truncated, damaged or encrypted",
    ),
    "a slope of 0": (at(0, put("RescaleSlope", 0)), r"has the RescaleSlope 0: export it again"),
    "no pixel data": (at(3, drop("PixelData")), r"has no pixel data in IM\d+: export it again, with its image"),
    "pixels with decimals, all of them": (
        lambda d, _: decimals(d),
        r"has FloatPixelData in IM\d+, which is not read: export it with whole pixel values and a RescaleSlope",
    ),
    "pixels of 64 bits": (lambda d, _: setattr(d, "BitsAllocated", 64), r"has 64 bits a pixel: export it with whole"),
    "too few pixels": (at(3, lambda d: setattr(d, "PixelData", d.PixelData[:50])), r"truncated, damaged or encrypted"),
    "inverted grey values": (lambda d, _: setattr(d, "PhotometricInterpretation", "MONOCHROME1"), r"has MONOCHROME1: "),
    "a palette": (lambda d, _: setattr(d, "PhotometricInterpretation", "PALETTE COLOR"), r"has PALETTE COLOR: convert"),
    "two frames of reference": (at(2, put("FrameOfReferenceUID", "1.2.3")), r"mixes frames of reference in one series"),
    "frames without positions": (at(2, two_frames), r"holds 2 frames without the position of each"),
    "no StudyInstanceUID": (at(2, put("StudyInstanceUID", "")), r"has no StudyInstanceUID or SeriesInstanceUID"),
    "two patients in one study": (
        at(2, put("PatientID", "other")),
        r"is of another patient than .*correct their PatientID",
    ),
    "an impossible number of bits": (at(2, put("BitsStored", 99)), r"impossible number of rows, columns or bits"),
}


def line_of(path, options=None):
    """Return what the user is told of a folder."""
    with pytest.raises(UserError) as caught:
        refuse_problems(fingerprint(read_dataset(path, options)), path)
    told = str(caught.value)
    assert "\n" not in told and ": " in told and (str(path) in told or told.startswith("--"))
    for secret in ("Quarzheim", "Ottokar", "4711", "1951", "ACC99887766"):
        assert secret not in told
    # A problem is told with a semicolon before its mend, an error with a colon.
    return told.replace("; ", ": ")


@pytest.mark.parametrize("mistake", SERIES)
def test_mistakes_in_a_series(tmp_path, written, voxels, mistake):
    """Each is told in one line with its mend, and never with what the header says of the patient."""
    edit, expected = SERIES[mistake]
    written.write_series(tmp_path / "images", voxels(), edit=edit)
    import re

    assert re.search(expected, line_of(tmp_path))


def test_several_volumes_alone_are_told(tmp_path, written, voxels):
    """With nothing else to read, the diffusion series is the problem and not a note."""
    values = np.concatenate([voxels(1), voxels(2)], axis=2)
    positions: list = []

    def again(dataset, index):
        positions.append(positions[index - 5] if index >= 5 else dataset.ImagePositionPatient)
        dataset.ImagePositionPatient = positions[index]

    written.write_series(tmp_path, values, edit=again)
    assert "holds 2 volumes in one series (echoes, phases or b values): export each as" in line_of(tmp_path)


@pytest.mark.parametrize("content", [b"", b"garbage" * 100, b"\0" * 128 + b"DICM" + b"\x93" * 200])
def test_files_that_are_no_dicom(tmp_path, written, voxels, content):
    """An encrypted or cut file in the folder may be the slice that is missing at its end."""
    written.write_series(tmp_path, voxels())
    (tmp_path / "x.dcm").write_bytes(content)
    told = line_of(tmp_path)
    assert "x.dcm " in told and "export it again" in told


def test_no_images_at_all(tmp_path, written, voxels):
    """A SEG without its images cannot be used."""
    pytest.importorskip("highdicom")
    images = written.write_series(tmp_path / "i", voxels())
    written.write_seg(tmp_path / "s" / "seg.dcm", images, {"a": voxels() > 400})
    assert "holds DICOM files but no images" in line_of(tmp_path / "s")


def _label_mistakes():
    def elsewhere(dataset):
        dataset.FrameOfReferenceUID = "1.2.3"
        dataset.ReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.4"

    def outside(dataset):
        for group in dataset.PerFrameFunctionalGroupsSequence:
            group.PlanePositionSequence[0].ImagePositionPatient = [500, 500, 500]

    def between(dataset):
        for group in dataset.PerFrameFunctionalGroupsSequence:
            x, y, z = group.PlanePositionSequence[0].ImagePositionPatient
            group.PlanePositionSequence[0].ImagePositionPatient = [x + 0.4, y + 0.3, z]

    def coarse(dataset):
        dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [3, 2.5]

    def unplaced(dataset):
        for group in dataset.PerFrameFunctionalGroupsSequence:
            del group.PlanePositionSequence

    def unknown(dataset):
        dataset.SegmentationType = "SOMETHING"

    def cut(dataset):
        dataset.PixelData = dataset.PixelData[:6]

    return {
        "a SEG of another frame of reference": (elsewhere, "of another frame of reference than the images"),
        "a SEG outside its images": (outside, "marks voxels outside its images"),
        "a SEG between the pixels": (between, "does not lie on the pixels of its images: resample it"),
        "a SEG of other pixels": (coarse, "has pixels of another size than its images: resample it"),
        "a SEG without positions": (unplaced, "does not say where a frame lies"),
        "a SEG of an unknown type": (unknown, "a segmentation of an unknown type"),
        "a SEG with pixels missing": (cut, "truncated, damaged or encrypted"),
    }


@pytest.mark.parametrize("mistake", _label_mistakes())
def test_mistakes_in_a_segmentation(tmp_path, written, voxels, mistake):
    """A label map that does not fit is worse than none."""
    pytest.importorskip("highdicom")
    import pydicom

    edit, expected = _label_mistakes()[mistake]
    images = written.write_series(tmp_path / "i", voxels())
    path = written.write_seg(tmp_path / "seg.dcm", images, {"a": voxels() > 400})
    dataset = pydicom.dcmread(path)
    edit(dataset)
    dataset.save_as(path)
    assert expected in line_of(tmp_path)


def test_one_class_in_two_files(tmp_path, written, voxels):
    """Two readers' opinions are not to be mixed in silence."""
    pytest.importorskip("highdicom")
    images = written.write_series(tmp_path / "i", voxels())
    for name in ("one", "two"):
        written.write_seg(tmp_path / f"{name}.dcm", images, {"a": voxels() > 400})
    assert "holds a, as one.dcm does: keep one of the two files" in line_of(tmp_path)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(1, 1, 0), (5, 1, 2), (5, 5, 0)], "contours that are not parallel to the slices"),
        ([(1, 1, 9), (5, 1, 9), (5, 5, 9)], "contours outside its images"),
        ([(1, 1, 1.5), (5, 1, 1.5), (5, 5, 1.5)], "contours between the slices of its images"),
    ],
)
def test_contours_beside_the_slices(tmp_path, written, voxels, points, expected):
    """Contours drawn on another series would land on the nearest slices of this one."""
    images = written.write_series(
        tmp_path / "i", voxels(), orientation=(1, 0, 0, 0, 1, 0), spacing=(1, 1), gap=1.0, origin=(0, 0, 0)
    )
    written.write_rtstruct(tmp_path / "rs.dcm", images, {"a": [np.array(points)]})
    assert expected in line_of(tmp_path)


def test_a_study_without_labels_among_labelled_ones(tmp_path, written, voxels):
    """A case taken for healthy because its label is missing would teach that lesions are not there."""
    pytest.importorskip("highdicom")
    for study in ("a", "bb"):
        images = written.write_series(tmp_path / study, voxels(len(study)), study=study)
    written.write_seg(tmp_path / "seg.dcm", images, {"a": voxels() > 400})
    assert "image without its label" in line_of(tmp_path)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (ReadOptions(patient_pattern="(.*)_"), "leave out --patient-pattern"),
        (ReadOptions(label="*seg*"), "leave out --label"),
        (ReadOptions(channels=(("T2", "T2*"),)), "fits no series: choose among T1"),
        (ReadOptions(channels=(("T", "*"),)), "fits 2 series"),
    ],
)
def test_options_that_do_not_fit(tmp_path, written, voxels, options, expected):
    """An option that does nothing would be believed to have done something."""
    for name in ("T1", "T1 again"):
        written.write_series(tmp_path / name, voxels(len(name)), series=name)
    assert expected in line_of(tmp_path, options)
