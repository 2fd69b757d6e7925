"""Series of slices as volumes."""

from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from synthmed.data.readers import load_case, read_dataset
from synthmed.errors import UserError


def read_by_simpleitk(folder):
    """Return the series in a folder as SimpleITK reads it: voxels `[X, Y, Z]` and the affine in RAS."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return np.transpose(sitk.GetArrayFromImage(image)), np.diag([-1, -1, 1, 1]) @ affine


def test_a_series_is_what_simpleitk_reads(tmp_path, written, voxels):
    """Slices in another order or a mirrored affine would put every label on the wrong side."""
    written.write_series(tmp_path / "a", voxels(), gap=2.5)
    case = load_case(read_dataset(tmp_path).cases[0])
    expected, affine = read_by_simpleitk(tmp_path / "a")
    np.testing.assert_array_equal(case.images[..., 0], expected)
    np.testing.assert_allclose(case.geometry.affine, affine, atol=1e-5)
    assert case.geometry.dtype == "int16"
    np.testing.assert_allclose(case.geometry.zooms, (1.25, 1.5, 2.5))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(st.floats(0.2, 5), st.floats(0.2, 5)),
    gap=st.floats(0.3, 9),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(2, 6)),
)
def test_any_orientation(tmp_path_factory, written, angles, spacing, gap, shape):
    """Coronal, sagittal and oblique series must land where the scanner says, not only axial ones."""
    folder = tmp_path_factory.mktemp("series")
    turned = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    orientation = tuple(round(float(value), 9) for value in (*turned[:, 0], *turned[:, 1]))
    values = np.random.default_rng(0).integers(0, 4000, shape).astype(np.uint16)
    spacing = tuple(round(value, 6) for value in spacing)
    written.write_series(folder, values, spacing=spacing, gap=round(gap, 6), orientation=orientation)
    case = load_case(read_dataset(folder).cases[0])
    np.testing.assert_array_equal(case.images[..., 0], values)
    index = np.array([shape[0] - 1, shape[1] - 1, shape[2] - 1])
    lps = np.array([-20.0, 13.5, 7.25]) + turned @ (index * [spacing[1], spacing[0], round(gap, 6)])
    ras = np.asarray(case.geometry.affine) @ [*index, 1]
    np.testing.assert_allclose(ras[:3], lps * [-1, -1, 1], atol=1e-4)


def test_slope_and_intercept_of_each_slice(tmp_path, written, voxels):
    """A PET or CT series scales every slice by itself; unscaled, intensities mean nothing."""
    values = voxels(1, "uint16")
    written.write_series(tmp_path, values, scale=lambda k: (0.5 + k, -10.0 * k), modality="CT")
    case = load_case(read_dataset(tmp_path).cases[0])
    expected = values * (0.5 + np.arange(5)) - 10.0 * np.arange(5)
    np.testing.assert_allclose(case.images[..., 0], expected, rtol=1e-6)
    assert case.geometry.dtype == "float32"


def test_hounsfield_units_stay_whole_and_signed(tmp_path, written, voxels):
    """Air at -1000 HU would come back as 0 or 64536 were the stored type, unsigned, kept."""
    written.write_series(
        tmp_path, voxels(0, "uint16"), scale=lambda k: (1, -1024), modality="CT", edit=lambda d, k: stored(d, 12)
    )
    source = read_dataset(tmp_path).cases[0].images[0].open()
    assert source.geometry.dtype == "int16"
    np.testing.assert_array_equal(source.voxels()[..., 0], voxels(0).astype(int) - 1024)


def stored(dataset, bits):
    dataset.BitsStored, dataset.HighBit = bits, bits - 1


def test_padding_becomes_the_lowest_intensity(tmp_path, written, voxels):
    """A CT's corners at -3024 would stretch the range so that the body is left three grey values."""
    values = voxels(0, "int16")
    values[0, 0] = -2000

    def pad(dataset, _):
        dataset.add_new("PixelPaddingValue", "SS", -2000)

    written.write_series(tmp_path, values, scale=lambda k: (1, -1024), modality="CT", edit=pad)
    read = read_dataset(tmp_path).cases[0].images[0].open().voxels()[..., 0]
    assert (read[0, 0] == np.delete(values.reshape(-1, 5), 0, axis=0).min() - 1024).all()
    np.testing.assert_array_equal(read[1:], values[1:].astype(int) - 1024)


@pytest.mark.parametrize("codec", ["RLELossless", "JPEGLSLossless"])
def test_compressed_series(tmp_path, written, voxels, codec):
    """PACS export compressed files by default; the pixels must be the same."""
    from pydicom import uid
    from pydicom.pixels import get_encoder

    syntax = getattr(uid, codec)
    if not get_encoder(syntax).is_available:
        pytest.skip(f"nothing here writes {codec}")
    written.write_series(tmp_path, voxels(0, "uint16"), edit=lambda dataset, _: dataset.compress(syntax))
    np.testing.assert_array_equal(load_case(read_dataset(tmp_path).cases[0]).images[..., 0], voxels())


@pytest.mark.parametrize("codec", ["JPEGLosslessProcess14_1", "JPEG2000Lossless", "JPEGLSLossless"])
def test_what_archives_compress_with_is_decoded(tmp_path, written, voxels, codec):
    """Most hospitals' exports are compressed in one of these ways: nobody could use them."""
    gdcm = pytest.importorskip("gdcm")
    for path in written.write_series(tmp_path, voxels(0, "uint16")):
        reader, writer, change = gdcm.ImageReader(), gdcm.ImageWriter(), gdcm.ImageChangeTransferSyntax()
        reader.SetFileName(str(path))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, codec)))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFileName(str(path))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
    np.testing.assert_array_equal(load_case(read_dataset(tmp_path).cases[0]).images[..., 0], voxels())


def test_a_compression_that_cannot_be_read_names_its_mend(tmp_path, written, voxels, monkeypatch):
    """Without the package's name its user would search for a fault in the files."""
    from pydicom.uid import JPEGLosslessSV1

    def claim(dataset, _):
        dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
        dataset.PixelData = b"\xfe\xff\x00\xe0\x00\x00\x00\x00\xfe\xff\x00\xe0\x04\x00\x00\x00abcd"
        dataset["PixelData"].is_undefined_length = True

    written.write_series(tmp_path, voxels(), edit=claim)
    monkeypatch.setattr("pydicom.pixels.get_decoder", lambda _: SimpleNamespace(is_available=False))
    with pytest.raises(UserError, match=r"compressed as JPEG Lossless.*: pip install 'synthmed\[dicom\]'"):
        load_case(read_dataset(tmp_path).cases[0])


def test_each_file_is_parsed_once_for_its_pixels(tmp_path, written, voxels, monkeypatch):
    """A study of thousands of files on a network drive would take twice as long."""
    import pydicom

    pytest.importorskip("highdicom")
    images = written.write_series(tmp_path / "i", voxels())
    written.write_seg(tmp_path / "seg.dcm", images, {"a": voxels() > 400})
    files = read_dataset(tmp_path).cases[0]
    read, original = [], pydicom.dcmread
    monkeypatch.setattr(pydicom, "dcmread", lambda path, **options: read.append(path) or original(path, **options))
    case = load_case(files)
    np.testing.assert_array_equal(case.labels, voxels() > 400)
    assert sorted(read) == sorted([*images, tmp_path / "seg.dcm"])


def test_enhanced_multi_frame(tmp_path, written, voxels):
    """Newer scanners write one file a series; its frames come in any order."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    values, order = voxels(), [3, 0, 4, 1, 2]
    paths = written.write_series(tmp_path / "slices", values)
    import pydicom

    slices = [pydicom.dcmread(path) for path in paths]
    one = slices[0]
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"
    measures, turn = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = one.PixelSpacing, one.SliceThickness
    turn.ImageOrientationPatient = one.ImageOrientationPatient
    shared = Dataset()
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Sequence([measures]), Sequence([turn])
    frames = []
    for number in order:
        place, scale, frame = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = slices[number].ImagePositionPatient
        scale.RescaleSlope, scale.RescaleIntercept = 2, number
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = Sequence([place]), Sequence([scale])
        frames.append(frame)
    one.SharedFunctionalGroupsSequence, one.PerFrameFunctionalGroupsSequence = Sequence([shared]), Sequence(frames)
    one.NumberOfFrames = 5
    one.PixelData = b"".join(slices[number].PixelData[: 9 * 7 * 2] for number in order)
    del one.ImagePositionPatient, one.ImageOrientationPatient, one.PixelSpacing, one.SliceThickness
    (tmp_path / "enhanced").mkdir()
    one.save_as(tmp_path / "enhanced" / "all.dcm", enforce_file_format=True)
    enhanced = load_case(read_dataset(tmp_path / "enhanced").cases[0])
    single = load_case(read_dataset(tmp_path / "slices").cases[0])
    np.testing.assert_array_equal(enhanced.images[..., 0], 2 * values + np.arange(5))
    np.testing.assert_allclose(enhanced.geometry.affine, single.geometry.affine, atol=1e-6)


def test_colour_has_three_channels(tmp_path, written):
    """A fundus photograph in DICOM is a picture as good as a PNG."""
    values = np.random.default_rng(0).integers(0, 255, (8, 6, 1, 3)).astype(np.uint8)

    def flat(dataset, _):
        del dataset.ImagePositionPatient, dataset.ImageOrientationPatient

    written.write_series(tmp_path, values, edit=flat)
    dataset = read_dataset(tmp_path)
    assert dataset.channels == ("red", "green", "blue")
    assert dataset.modalities == ("picture",) * 3
    np.testing.assert_array_equal(load_case(dataset.cases[0]).images, values)


def test_a_tilted_gantry_keeps_its_shear(tmp_path, written, voxels):
    """Slices of a tilted CT step aside; an affine along the normal would misplace the last of them by centimetres."""

    def tilt(dataset, index):
        dataset.ImagePositionPatient = [0, 0.8 * index, 3.0 * index]

    written.write_series(tmp_path, voxels(), orientation=(1, 0, 0, 0, 1, 0), edit=tilt)
    geometry = read_dataset(tmp_path).cases[0].images[0].open().geometry
    np.testing.assert_allclose(np.asarray(geometry.affine) @ [0, 0, 4, 1], [0, -3.2, 12, 1], atol=1e-6)


def test_sources_can_be_pickled_and_compared(tmp_path, written, voxels):
    """Work is given to other processes, and what was done is known again, by the source."""
    import pickle

    written.write_series(tmp_path, voxels())
    first, again = (read_dataset(tmp_path).cases[0] for _ in range(2))
    assert first == again and hash(first) == hash(again)
    assert pickle.loads(pickle.dumps(first)) == first
