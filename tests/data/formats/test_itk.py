"""Tests of synthmed.data.formats.itk."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from synthmed.data.formats import ItkSource, source_of
from synthmed.errors import UserError

ENDINGS = (".nrrd", ".nhdr", ".mha", ".mhd")


def _image(array, *, vector=False, spacing=(0.8, 1.2, 3.0), origin=(-5.0, 7.5, 20.0), turn=(0, 0, 0)):
    image = sitk.GetImageFromArray(array, isVector=vector)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(Rotation.from_euler("xyz", turn).as_matrix().ravel())
    return image


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_voxels_and_place_are_those_of_the_same_nifti(tmp_path, data):
    """Volumes would be mirrored, or lie elsewhere than the same volume as NIfTI."""
    dtype = data.draw(st.sampled_from(["uint8", "int16", "uint16", "int32", "float32"]))
    shape = data.draw(st.tuples(*[st.integers(1, 6)] * 3))
    angles = data.draw(st.tuples(*[st.floats(-3, 3)] * 3))
    image = _image(np.random.default_rng(0).integers(0, 100, shape).astype(dtype), turn=angles)
    path = tmp_path / f"a{data.draw(st.sampled_from(ENDINGS))}"
    sitk.WriteImage(image, str(path), useCompression=data.draw(st.booleans()))
    sitk.WriteImage(image, str(tmp_path / "a.nii.gz"))
    reference = nib.load(tmp_path / "a.nii.gz")
    volume = source_of(path).open()
    np.testing.assert_allclose(volume.geometry.affine, reference.affine, atol=1e-4)
    np.testing.assert_allclose(volume.geometry.zooms, (0.8, 1.2, 3.0), rtol=1e-5)
    voxels = volume.voxels()
    np.testing.assert_array_equal(voxels[..., 0], np.asarray(reference.dataobj).reshape(shape[::-1]))
    assert voxels.dtype == np.dtype(dtype) and volume.geometry.dtype == dtype
    assert volume.geometry.shape == shape[::-1] and volume.channels == 1 and volume.geometry.xyzt_units[0] == "mm"


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_components_and_a_fourth_axis_are_channels(tmp_path, ending):
    """Channels would be taken for slices or time."""
    array = np.random.default_rng(0).random((3, 4, 5, 2)).astype(np.float32)
    sitk.WriteImage(_image(array, vector=True), str(tmp_path / f"v{ending}"))
    fourth = sitk.GetImageFromArray(np.moveaxis(array, -1, 0), isVector=False)
    sitk.WriteImage(fourth, str(tmp_path / f"f{ending}"))
    for name in "vf":
        volume = ItkSource(tmp_path / f"{name}{ending}").open()
        assert volume.channels == 2 and volume.geometry.shape == (5, 4, 3)
        np.testing.assert_array_equal(volume.voxels(), array.transpose(2, 1, 0, 3))


def test_a_flat_image_has_one_slice(tmp_path):
    """A 2D image would be no volume."""
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / "a.mha"))
    volume = ItkSource(tmp_path / "a.mha").open()
    assert volume.geometry.shape == (4, 3, 1)
    np.testing.assert_array_equal(volume.voxels()[:, :, 0, 0], array.T)


def test_both_files_of_a_detached_header_are_named(tmp_path):
    """A store would not notice that the data file behind a header changed."""
    sitk.WriteImage(_image(np.zeros((2, 3, 4), np.uint8)), str(tmp_path / "a.mhd"))
    assert {path.name for path in ItkSource(tmp_path / "a.mhd").files.values()} == {"a.mhd", "a.raw"}


def _spoil(tmp_path, ending, old, new):
    sitk.WriteImage(_image(np.zeros((2, 3, 4), np.int16)), str(tmp_path / f"a{ending}"))
    path = tmp_path / f"a{ending}"
    raw = path.read_bytes()
    assert old in raw
    path.write_bytes(raw.replace(old, new))
    return path


@pytest.mark.parametrize(
    ("ending", "old", "new", "message"),
    [
        (".mha", b"DimSize = 4 3 2", b"DimSize = 40000 30000 20000", "shorter than its header"),
        (".mha", b"DimSize = 4 3 2", b"DimSize = 4 3", "how many voxels"),
        (".mha", b"NDims = 3", b"NDims = 300", "how many voxels"),
        (".mha", b"CompressedData = False", b"CompressedData = True\nCompressedDataSize = 99999999999", "shorter"),
        (".nrrd", b"sizes: 4 3 2", b"sizes: 40000 30000 20000", "shorter than its header"),
        (".nrrd", b"NRRD0004", b"NRRX0004", "not that of a NRRD"),
        (".mhd", b"ElementDataFile = a.raw", b"ElementDataFile = ../b.raw", "in another folder"),
        (".mhd", b"ElementDataFile = a.raw", b"ElementDataFile = /etc/passwd", "in another folder"),
        (".mhd", b"ElementDataFile = a.raw", b"ElementDataFile = b.raw", "which does not exist"),
        (".mhd", b"ElementDataFile = a.raw", b"ElementDataFile = LIST", "several data files"),
        (".nhdr", b"data file: a.raw", b"data file: ../b.raw", "in another folder"),
    ],
)
def test_headers_that_lie_are_refused(tmp_path, ending, old, new, message):
    """A damaged header would take all memory, crash the process, or lead to files outside the data set."""
    path = _spoil(tmp_path, ending, old, new)
    with pytest.raises(UserError, match=message) as error:
        ItkSource(path).open()
    assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_a_missing_file_is_conditional(tmp_path):
    """SimpleITK's own message spans four lines."""
    with pytest.raises(UserError, match="does not exist"):
        ItkSource(tmp_path / "a.nrrd").open()
    assert ItkSource(tmp_path / "a.nrrd").files == {f"{tmp_path.name}/a.nrrd": tmp_path / "a.nrrd"}


@pytest.mark.parametrize("ending", [".MHA", ".Mhd"])
def test_an_ending_in_capitals_is_to_be_renamed(tmp_path, ending):
    """A sound file would be told as damaged, and be copied again for nothing."""
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((3, 4, 5), np.int16)), str(tmp_path / f"a{ending.lower()}"))
    path = (tmp_path / f"a{ending.lower()}").rename(tmp_path / f"b{ending}")
    with pytest.raises(UserError, match=f"rename it to {ending.lower()}"):
        source_of(path).open()
