"""Prediction in every format that is read, of cropped cases and of sets with regions and unknown places.

A threshold stands in for the network: where labels belong can then be read from the source's own intensities.
"""

import importlib.util
import json
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from synthmed.data.prepare import prepare
from synthmed.data.readers import load_case, read_dataset, read_images
from synthmed.data.schema import Scaling
from synthmed.segmentation import predict as predicting
from synthmed.segmentation.options import check_options
from synthmed.segmentation.predict import predict
from synthmed.segmentation.run import RunRecord, SegmentationRun
from synthmed.segmentation.score import score_folders

_PATH = Path(__file__).parents[1] / "conformance" / "formats.py"
_SPEC = importlib.util.spec_from_file_location("formats_to_predict", _PATH)
formats = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = formats
_SPEC.loader.exec_module(formats)

LIMIT = 150.5


def run_of(plan, channels, classes, path):
    """Return a run that has a record and no network."""
    record = RunRecord(
        options=check_options({}),
        policy="float32",
        store="store",
        dataset="phantom",
        licence="CC0",
        channels=channels,
        classes=classes,
        plan=plan,
        store_hash="",
        training_patients=(),
        validation_patients=(),
        batch_parts=(32, 0),
    )
    return SegmentationRun(path, record)


@pytest.fixture
def threshold(monkeypatch):
    """Put a threshold at 0 of the first channel in the place of the network."""

    def found(images):
        inside = images[..., 0] > 0
        return np.stack([~inside, inside], axis=-1).astype(np.float32)

    monkeypatch.setattr(predicting, "load_predictor", lambda *_, **__: found)


@pytest.fixture(scope="module")
def phantom_of_formats(tmp_path_factory):
    """Return cases, their set and a plan in which the first channel is 0 at `LIMIT`."""
    folder = tmp_path_factory.mktemp("formats")
    cases = formats.phantom_cases(folder / "set", cases=2)
    plan = prepare(read_dataset(folder / "set"), folder / "store", size=(32, 32), split=(1.0, 0.0, 0.0)).plan
    window = Scaling(method="window", low=0.0, high=2 * LIMIT)
    return cases, folder, plan.model_copy(update={"intensities": (window,) * 2, "label_values": (0, 7)})


@pytest.mark.parametrize("crop", [False, True])
@pytest.mark.parametrize("name", ["nnunet", *(name for name, one in formats.FORMATS.items() if not one.pictures)])
def test_labels_lie_on_the_volume_in_every_format(phantom_of_formats, threshold, tmp_path, name, crop):
    """A user's label map would be mirrored, turned or shifted beside the NRRD or DICOM that it was predicted from."""
    cases, folder, plan = phantom_of_formats
    source = folder / "set"
    if name != "nnunet":
        if formats.FORMATS[name].needs:
            pytest.importorskip(formats.FORMATS[name].needs)
        source = tmp_path / "set"
        formats.FORMATS[name].write(source, cases)
    run = run_of(plan.model_copy(update={"crop": crop}), formats.CHANNELS, ("background", "bright"), tmp_path)
    written = predict(run, source, tmp_path / "out")
    assert len(written) == len(cases)
    found = [nibabel.as_closest_canonical(nibabel.load(path)) for path in written]
    for case in cases:
        affine = np.array(case.geometry.affine)
        bright = nibabel.Nifti1Image(7 * (case.images[..., 0] > LIMIT).astype(np.uint8), affine)
        bright = nibabel.as_closest_canonical(bright)
        assert 0 < (bright.get_fdata() > 0).mean() < 1
        # Pseudonyms put the cases of DICOM into another order.
        same = [one for one in found if np.array_equal(one.get_fdata(), bright.get_fdata())]
        assert len(same) == 1
        np.testing.assert_allclose(same[0].affine, bright.affine, atol=1e-4)


@pytest.mark.parametrize("name", [name for name, one in formats.FORMATS.items() if one.pictures])
def test_labels_lie_on_the_pictures(phantom_of_formats, threshold, tmp_path, name):
    """A user with pictures would get a label map whose rows are columns."""
    cases, _, plan = phantom_of_formats
    formats.FORMATS[name].write(tmp_path / "set", cases)
    source = tmp_path / "set" / "images" if (tmp_path / "set" / "images").is_dir() else tmp_path / "set"
    channels = ("red", "green", "blue") if name == "jpeg-photographs" else ("T1",)
    # Pictures have pixels of size 1: nothing is resampled, so that every pixel can be compared.
    changes = {"channels": len(channels), "intensities": plan.intensities[:1] * len(channels), "spacing": (1.0, 1.0)}
    plan = plan.model_copy(update=changes)
    run = run_of(plan, channels, ("background", "bright"), tmp_path)
    written = predict(run, source, tmp_path / "out")
    files = {one.case: one for one in read_images(source, channels).cases}
    assert {path.name.removesuffix(".nii.gz") for path in written} == set(files)
    for path in written:
        expected = load_case(files[path.name.removesuffix(".nii.gz")]).images[..., 0] > LIMIT
        np.testing.assert_array_equal(np.asarray(nibabel.load(path).dataobj) > 0, expected)


def test_regions_and_unknown_places(tmp_path, monkeypatch):
    """A user's regions would be written as one class, or the prediction be judged where nobody knows the truth."""
    labels = np.zeros((16, 16, 3), np.uint8)
    labels[4:12, 4:12] = 1
    labels[6:9, 6:9] = 2
    labels[12:, 12:] = 9
    for part in ("imagesTr", "labelsTr"):
        (tmp_path / "set" / part).mkdir(parents=True)
    for case in ("a", "b"):
        image = 100 * labels.astype(np.int16)
        image[labels == 9] = 100
        image[0, 0, 0] = ord(case) - ord("a")
        nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), tmp_path / "set" / "imagesTr" / f"{case}_0000.nii.gz")
        nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), tmp_path / "set" / "labelsTr" / f"{case}.nii.gz")
    description = {
        "channel_names": {"0": "T1"},
        "labels": {"background": 0, "whole": [1, 2], "core": 2, "ignore": 9},
        "regions_class_order": [1, 2],
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }
    (tmp_path / "set" / "dataset.json").write_text(json.dumps(description))
    store = prepare(read_dataset(tmp_path / "set"), tmp_path / "store", size=(32, 32), split=(0.5, 0.0, 0.5))
    window = Scaling(method="window", low=0.0, high=200.0)
    run = run_of(store.plan.model_copy(update={"intensities": (window,)}), store.channels, store.classes, tmp_path)
    index = {value: number for number, value in enumerate(store.plan.label_values)}
    order = np.array([index[0], index[1], index[2]])
    monkeypatch.setattr(
        predicting,
        "load_predictor",
        lambda *_, **__: lambda images: np.eye(3, dtype=np.float32)[order[np.rint(images[..., 0] + 1).astype(int)]],
    )
    for path in predict(run, tmp_path / "set", tmp_path / "out"):
        assert set(np.unique(np.asarray(nibabel.load(path).dataobj))) == {0, 1, 2}
    scores = score_folders(tmp_path / "out", tmp_path / "set")
    assert [(mean.name, mean.dice, mean.hd95) for mean in scores.classes] == [("whole", 1, 0), ("core", 1, 0)]
