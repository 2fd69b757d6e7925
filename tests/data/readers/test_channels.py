"""Channels of images to predict on, or to stand beside a store: the names say which is which, in every layout."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from synthmed.data.readers import load_case, read_images
from synthmed.data.readers.base import Wanted
from synthmed.data.readers.images import image_cases
from synthmed.errors import UserError

T1, T2 = 100, 200


def _write(path: Path, *values: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Channels as a fourth axis, as the Decathlon stores them.
    volumes = [sitk.GetImageFromArray(np.full((3, 4, 5), value, np.int16)) for value in values]
    sitk.WriteImage(volumes[0] if len(volumes) == 1 else sitk.JoinSeries(volumes), str(path))


def _nnunet(folder: Path) -> Path:
    for number, value in enumerate((T2, T1)):
        _write(folder / "imagesTr" / f"a_{number:04d}.nii.gz", value)
        _write(folder / "imagesTs" / f"b_{number:04d}.nii.gz", value)
    content = {"channel_names": {"0": "T2", "1": "T1"}, "labels": {"background": 0, "x": 1}, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def _nnunet_test_images(folder: Path) -> Path:
    return _nnunet(folder) / "imagesTs"


def _decathlon(folder: Path) -> Path:
    _write(folder / "imagesTr" / "a.nii.gz", T2, T1)
    content = {
        "modality": {"0": "T2", "1": "T1"},
        "labels": {"0": "background", "1": "x"},
        "training": [{"image": "imagesTr/a.nii.gz"}],
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def _suffixes(folder: Path) -> Path:
    for case in ("a", "b"):
        _write(folder / f"{case}_t2.nii.gz", T2)
        _write(folder / f"{case}_t1.nii.gz", T1)
    return folder


@pytest.mark.parametrize("names", [("T1", "T2"), ("T2", "T1")])
@pytest.mark.parametrize("layout", [_nnunet, _nnunet_test_images, _decathlon, _suffixes])
def test_channels_are_taken_by_their_names(tmp_path, layout, names):
    """A network would be shown T1 where it was trained on T2, and its label maps be wrong without a word."""
    images = read_images(layout(tmp_path / "set"), names)
    assert not images.notes and images.cases
    for case in images.cases:
        voxels = load_case(case).images
        assert [float(value) for value in voxels[0, 0, 0]] == [{"T1": T1, "T2": T2}[name] for name in names]


@pytest.mark.parametrize("layout", [_nnunet, _nnunet_test_images, _decathlon, _suffixes])
def test_other_names_are_taken_in_their_order_and_said(tmp_path, layout):
    """A user would not learn what was taken for what."""
    folder = layout(tmp_path / "set")
    images = read_images(folder, ("before", "after"))
    assert len(images.notes) == 1 and " as before, " in images.notes[0] and " as after" in images.notes[0]
    with pytest.raises(UserError, match="the model .*before, after, late") as caught:
        read_images(folder, ("before", "after", "late"))
    assert "\n" not in str(caught.value)


def test_files_that_are_only_counted_need_no_note(tmp_path):
    """A user of nnU-Net's names, whose order is their meaning, would be warned at every prediction."""
    _write(tmp_path / "set" / "a_0000.nii.gz", T1)
    _write(tmp_path / "set" / "a_0001.nii.gz", T2)
    images = image_cases(tmp_path / "set", Wanted(("T1", "T2")))
    assert not images.notes
    np.testing.assert_array_equal(load_case(images.cases[0]).images[0, 0, 0], [T1, T2])


def test_a_file_with_too_few_channels_to_reorder_is_conditional(tmp_path):
    """A traceback of an index would be all that the user gets."""
    folder = _decathlon(tmp_path / "set")
    _write(folder / "imagesTr" / "a.nii.gz", T2)
    with pytest.raises(UserError, match="a.nii.gz has 1 channel, 2 are needed"):
        load_case(read_images(folder, ("T1", "T2")).cases[0])
    folder = _suffixes(tmp_path / "other")
    (folder / "b_t1.nii.gz").unlink()
    for case in ("a", "b"):
        _write(folder / f"{case}_seg.nii.gz", 1)
    with pytest.raises(UserError, match="b has 1 channel file, the model needs 2"):
        read_images(folder, ("T1", "T2"))
