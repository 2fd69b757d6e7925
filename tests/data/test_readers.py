"""Tests of synthmed.data.readers."""

import gzip
import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synthmed.data.formats import NiftiSource, NiftiVolume
from synthmed.data.readers import CaseFiles, load_case, read_dataset, read_images
from synthmed.data.readers.base import natural_key
from synthmed.errors import UserError


def _describe(folder, **changes):
    path = folder / "dataset.json"
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def test_nnunet_raw_is_read(nnunet_set):
    """The layout that most segmentation people have would not be read."""
    dataset = read_dataset(nnunet_set(values=(4, 2), channels=3))
    assert dataset.layout == "nnU-Net raw" and dataset.licence == "CC0-1.0"
    assert dataset.classes == ("background", "lesion", "organ") and dataset.label_values == (0, 2, 4)
    assert dataset.channels == ("channel 0", "channel 1", "channel 2")
    assert [case.case for case in dataset.cases] == ["case_0", "case_1", "case_2", "case_3"]
    case = load_case(dataset.cases[1])
    assert case.images.shape == (30, 34, 6, 3) and case.images.dtype == np.float32
    for channel, path in enumerate(dataset.cases[1].images):
        np.testing.assert_array_equal(case.images[..., channel], nib.load(path.path).get_fdata(dtype=np.float32))
    assert set(np.unique(case.labels)) == {0, 2, 4}


@pytest.mark.parametrize("channels", [1, 2])
def test_decathlon_is_read_with_channels_last(decathlon_set, channels):
    """Channels of a Decathlon set would be taken for time or slices."""
    dataset = read_dataset(decathlon_set(channels=channels))
    assert dataset.name == "Task" and dataset.licence == "CC-BY-SA 4.0"
    # In natural order: 2 before 10.
    assert [case.case for case in dataset.cases] == ["task_1", "task_2", "task_10"]
    case = load_case(dataset.cases[0])
    stored = nib.load(dataset.cases[0].images[0].path).get_fdata(dtype=np.float32)
    np.testing.assert_array_equal(case.images, stored.reshape(30, 34, 6, channels))


def test_files_of_macos_are_passed_over(nnunet_set):
    """The Decathlon's archives hold `._` files that are no images."""
    folder = nnunet_set()
    (folder / "imagesTr" / "._case_0_0000.nii.gz").write_bytes(b"finder")
    assert len(read_dataset(folder).cases) == 4


def test_header_is_kept(tmp_path):
    """Spacing, codes and units would be lost on the way to the output."""
    affine = np.array([[0, -0.8, 0, 5], [0, 0, 1.2, -3], [2.0, 0, 0, 7], [0, 0, 0, 1]])
    image = nib.Nifti1Image(np.ones((4, 5, 6), np.uint8), affine)
    image.set_sform(affine, 4)
    image.set_qform(affine, 3)
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, tmp_path / "a.nii")
    geometry = NiftiVolume(tmp_path / "a.nii").geometry
    np.testing.assert_allclose(geometry.affine, affine, atol=1e-6)
    assert (geometry.sform_code, geometry.qform_code) == (4, 3)
    assert geometry.zooms == pytest.approx((2.0, 0.8, 1.2)) and geometry.xyzt_units == ("mm", "sec")
    assert geometry.shape == (4, 5, 6) and geometry.dtype == "uint8"


def test_slope_and_intercept_are_applied(tmp_path):
    """CT would be off by the intercept."""
    image = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4))
    image.header.set_slope_inter(2.0, -1024.0)
    nib.save(image, tmp_path / "ct_0000.nii.gz")
    loaded = load_case(CaseFiles(case="ct", patient="ct", images=(NiftiSource(tmp_path / "ct_0000.nii.gz"),)))
    stored = nib.load(tmp_path / "ct_0000.nii.gz")
    np.testing.assert_allclose(loaded.images[..., 0], stored.get_fdata(), rtol=1e-6)
    assert loaded.images.min() < -1000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": None}, "labels"),
        ({"labels": {"background": 0, "organ": [1, 2]}}, "regions_class_order"),
        ({"labels": {"background": 0, "organ": [1, 2]}, "regions_class_order": [3]}, "no part of it"),
        ({"labels": {"background": 0, "a": [1, 2], "b": 2}, "regions_class_order": [2, 2]}, "one value"),
        ({"labels": {"background": 0, "organ": ["1"]}, "regions_class_order": [1]}, "whole numbers"),
        ({"labels": {"organ": [1, 2]}, "regions_class_order": [1]}, "background"),
        ({"labels": {"background": 0, "organ": 2, "ignore": 1}}, "highest"),
        ({"labels": {"background": 0, "organ": 1, "ignore": [2, 3]}}, "highest"),
        ({"labels": {"organ": 1}}, "background"),
        ({"labels": {"background": 0, "organ": "one"}}, "whole number"),
        ({"labels": {"background": 0, "organ": 1, "lesion": 1}}, "same name or value"),
        ({"labels": {"background": 0, **{f"c{value}": value for value in range(1, 300)}}}, "256"),
        ({"channel_names": {"1": "T1"}}, "by number"),
        ({"channel_names": []}, "by number"),
        ({"channel_names": None}, "no layout"),
        ({"file_ending": ".gif"}, "file_ending"),
    ],
)
def test_a_wrong_nnunet_description_is_refused(nnunet_set, changes, message):
    """A mistake in dataset.json would turn into wrong classes or a traceback."""
    folder = nnunet_set()
    _describe(folder, **changes)
    with pytest.raises(UserError, match=message) as error:
        read_dataset(folder)
    assert "\n" not in str(error.value) and str(folder) in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ["background"]}, "labels"),
        ({"labels": {"zero": "background"}}, "whole number"),
        ({"training": None}, "training"),
        ({"training": ["a.nii.gz"]}, "training"),
        ({"training": [{"image": "../elsewhere.nii.gz", "label": "x"}]}, "outside"),
        ({"training": [{"image": "a.png", "label": "x"}]}, "NIfTI"),
        ({"training": [{"image": "a.nii.gz"}, {"image": "b/a.nii.gz"}]}, "twice"),
        ({"training": []}, "no case"),
    ],
)
def test_a_wrong_decathlon_description_is_refused(decathlon_set, changes, message):
    """A mistake in dataset.json would turn into wrong cases or a traceback."""
    folder = decathlon_set()
    _describe(folder, **changes)
    with pytest.raises(UserError, match=message):
        read_dataset(folder)


def test_what_is_no_data_set_is_refused(tmp_path, nnunet_set):
    """A wrong path would end in a traceback."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "dataset.json").write_text("{")
    emptied = nnunet_set()
    shutil.rmtree(emptied / "imagesTr")
    for path, message in [
        (tmp_path / "nowhere", "does not exist"),
        (tmp_path / "file", "is a file"),
        (tmp_path / "empty", "is empty"),
        (tmp_path / "broken", "not valid JSON"),
        (emptied, "no case"),
    ]:
        with pytest.raises(UserError, match=message):
            read_dataset(path)


def test_images_without_labels_are_read_for_prediction(nnunet_set, decathlon_set, tmp_path):
    """`segment predict` would not take a folder of scans."""
    folder = nnunet_set()
    assert [case.case for case in read_images(folder / "imagesTr", ("T1", "T2")).cases] == [
        "case_0",
        "case_1",
        "case_2",
        "case_3",
    ]
    assert [case.case for case in read_images(folder, ("T1", "T2")).cases] == ["case_0", "case_1", "case_2", "case_3"]
    assert load_case(read_images(decathlon_set() / "imagesTr", ("T1", "T2")).cases[0]).images.shape == (30, 34, 6, 2)
    (folder / "imagesTr" / "case_3_0001.nii.gz").unlink()
    with pytest.raises(UserError, match="case_3 has 1 channel"):
        read_images(folder / "imagesTr", ("T1", "T2"))
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError, match="holds no image"):
        read_images(tmp_path / "nothing", ("T1", "T2"))


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_are_told_in_one_line(nnunet_set, tmp_path, data):
    """A damaged download would end in a traceback, a hang or all memory being used up."""
    path = tmp_path / "fuzz.nii"
    raw = bytearray(nib.Nifti1Image(np.arange(120, dtype=np.int16).reshape(4, 5, 6), np.eye(4)).to_bytes())
    for position, value in data.draw(st.lists(st.tuples(st.integers(0, 351), st.integers(0, 255)), max_size=12)):
        raw[position] = value
    raw = raw[: data.draw(st.integers(0, len(raw)))]
    if data.draw(st.booleans()):
        path = tmp_path / "fuzz.nii.gz"
        path.write_bytes(gzip.compress(bytes(raw)))
    else:
        path.write_bytes(bytes(raw))
    try:
        case = load_case(CaseFiles(case="fuzz", patient="fuzz", images=(NiftiSource(path),)))
    except UserError as error:
        assert "\n" not in str(error) and str(path) in str(error)
    else:
        assert case.images.ndim == 4 and case.images.nbytes < 2**20


def test_names_sort_as_people_count():
    """Slice 10 would come before slice 2."""
    names = ["a_10", "a_2", "a_1", "b", "a_2_b", "10", "9"]
    assert sorted(names, key=natural_key) == ["9", "10", "a_1", "a_2", "a_2_b", "a_10", "b"]


@pytest.mark.parametrize("name", ["5²", "²", "case_٣"])
def test_any_digit_may_stand_in_a_name(name):
    """A traceback would be all that the user gets for a raised 2 in a file's name."""
    assert sorted([name, "1"], key=natural_key)


def test_a_path_with_a_null_character_is_conditional(decathlon_set):
    """A traceback would be all that the user of a damaged description gets."""
    folder = decathlon_set()
    description = json.loads((folder / "dataset.json").read_text())
    description["training"][0]["image"] = "imagesTr/a\u0000.nii.gz"
    (folder / "dataset.json").write_text(json.dumps(description))
    with pytest.raises(UserError, match="is no file's name"):
        read_dataset(folder)


def test_endings_in_capitals_are_read(decathlon_set, nnunet_set):
    """A compressed file from an old archive would be told as damaged."""
    folder = decathlon_set(channels=1)
    for file in [*folder.glob("imagesTr/*"), *folder.glob("labelsTr/*")]:
        nib.save(nib.Nifti1Image(np.zeros((32, 32, 32), np.int16), np.eye(4)), file)
        file.rename(file.with_name(file.name.replace(".nii.gz", ".NII.GZ")))
    text = (folder / "dataset.json").read_text()
    (folder / "dataset.json").write_text(text.replace(".nii.gz", ".NII.GZ"))
    dataset = read_dataset(folder)
    assert [case.case for case in dataset.cases] == ["task_1", "task_2", "task_10"]
    assert load_case(dataset.cases[0]).images.shape == (32, 32, 32, 1)
