"""Prediction: geometry, label values and names of the source, whatever the source is."""

import json
import shutil

import nibabel
import numpy as np
import pytest

from synthmed.data.prepare import prepare
from synthmed.data.readers import load_case, read_dataset
from synthmed.data.slicing import prepare_case, restore_labels
from synthmed.errors import UserError
from synthmed.segmentation import predict as predicting
from synthmed.segmentation.augment import Augmentation, with_mirror
from synthmed.segmentation.options import check_options
from synthmed.segmentation.postprocess import largest_components
from synthmed.segmentation.predict import SlicePredictor, averaged_labels, predict, source_probabilities, validate
from synthmed.segmentation.run import SegmentationRun
from synthmed.segmentation.score import score_folders
from synthmed.segmentation.train import train


@pytest.fixture(scope="module")
def run(store, tmp_path_factory):
    """Return a run that has learnt a little."""
    mirrored = Augmentation(flip_rows=True, flip_columns=True)
    options = check_options(
        {"steps": 25, "batch": 8, "width": 8, "levels": 3, "learning_rate": 0.01, "average": 0.8}
        | {"augmentation": mirrored}
    )
    return train(store, tmp_path_factory.mktemp("run") / "unet", options)


def test_store_and_its_source_give_the_same_labels_in_the_same_place(run, store, phantom, tmp_path):
    """A user's predictions would not lie on their images."""
    from_store = predict(run, store.path, tmp_path / "a", precision="float32")
    predict(run, phantom, tmp_path / "b", precision="float32")
    assert [path.name for path in from_store] == [f"{case.case}.nii.gz" for case in store.cases("test")]
    for path in from_store:
        mine, other = nibabel.load(path), nibabel.load(tmp_path / "b" / path.name)
        source = nibabel.load(phantom / "labelsTr" / path.name)
        np.testing.assert_array_equal(np.asarray(mine.dataobj), np.asarray(other.dataobj))
        assert mine.shape == source.shape
        np.testing.assert_allclose(mine.affine, source.affine)
        assert mine.get_data_dtype() == np.uint8
        for code in ("qform_code", "sform_code"):
            assert mine.header[code] == source.header[code]


def test_scores_agree_with_the_validation_of_the_training(run, store, phantom, tmp_path):
    """A user would see one Dice while training and another one afterwards: here source and store share one grid."""
    predict(run, store.path, tmp_path / "a", split="val", precision="float32")
    scores = score_folders(tmp_path / "a", phantom)
    expected = validate(SlicePredictor(run.load()), store, "val")
    assert scores.overall.dice == pytest.approx(expected["dice"], abs=1e-6)
    assert [mean.name for mean in scores.classes] == list(store.classes[1:])


def test_probabilities_return_to_source_like_labels_do(store, phantom):
    """A user's certain prediction would be moved or turned on its way back; with a coarser store most of all."""
    files = read_dataset(phantom).cases[0]
    case = load_case(files)
    for size, spacing, least in (((32, 32), store.spacing, 1.0), ((16, 16), tuple(2 * s for s in store.spacing), 0.8)):
        plan = store.plan.model_copy(update={"size": size, "spacing": spacing})
        prepared = prepare_case(case, plan)
        record = store.cases()[0].model_copy(update={"placement": prepared.placement, "slices": len(prepared.images)})
        certain = np.eye(len(store.classes), dtype=np.float32)[prepared.labels]
        restored = averaged_labels([source_probabilities(certain, prepared.placement)])
        assert restored.shape == case.labels.shape
        agreement = (restored == restore_labels(record, prepared.labels)).mean()
        assert agreement >= (1.0 if least == 1.0 else 0.9)
        foreground = case.labels > 0
        dice = 2 * (foreground & (restored > 0)).sum() / (foreground.sum() + (restored > 0).sum())
        assert dice >= least


def test_flips_and_largest_pieces_reach_the_files(run, store, tmp_path):
    """A user's options would be taken and do nothing."""
    case = store.cases("test")[0]
    images = store.images(np.arange(case.first, case.first + case.slices))
    network = SlicePredictor(run.load())
    mirrored = [np.flip(network(np.flip(images, axes)), axes) for axes in ((), (1,), (2,), (1, 2))]
    expected = averaged_labels([source_probabilities(sum(mirrored) / 4, case.placement)])
    (path,) = predict(run, store.path, tmp_path / "flipped", precision="float32", flips="both")
    found = np.asarray(nibabel.load(path).dataobj)
    assert (found == np.asarray(run.record.plan.label_values)[expected]).mean() > 0.999
    (path,) = predict(run, store.path, tmp_path / "plain", precision="float32")
    (cleaned,) = predict(run, store.path, tmp_path / "cleaned", precision="float32", largest_component=True)
    plain, cleaned = (np.asarray(nibabel.load(one).dataobj) for one in (path, cleaned))
    np.testing.assert_array_equal(cleaned, largest_components(plain))


def test_flips_that_a_network_never_saw_are_refused(run, store, tmp_path):
    """A user's Dice of 0.87 becomes 0.05 without a word, since the network has no answer for mirrored slices."""
    options = run.record.options.model_copy(update={"augmentation": with_mirror("columns")})
    other = SegmentationRun(run.path, run.record.model_copy(update={"options": options}))
    with pytest.raises(UserError, match="never saw slices mirrored along rows"):
        predict(other, store.path, tmp_path / "flipped", flips="both")
    assert predict(other, store.path, tmp_path / "columns", flips="columns")


def test_a_case_does_not_depend_on_its_company(run, store):
    """A user would get other labels for a patient because another one was predicted with it."""
    images = store.images(store.indices("val"))
    predictor = SlicePredictor(run.load(), batch=8)
    np.testing.assert_array_equal(predictor(images)[:3], predictor(images[:3]))


def test_folders_of_images_and_label_values(run, phantom, tmp_path):
    """A user without a data set description, or with label values such as 100 and 200, could not predict."""
    shutil.copytree(phantom / "imagesTr", tmp_path / "images")
    values = tuple(10 * value for value in run.record.plan.label_values)
    plan = run.record.plan.model_copy(update={"label_values": values})
    other = SegmentationRun(run.path, run.record.model_copy(update={"plan": plan}))
    written = predict(other, tmp_path / "images", tmp_path / "out")
    assert len(written) == len(read_dataset(phantom).cases)
    found = set(np.unique(np.asarray(nibabel.load(written[0]).dataobj)))
    assert found <= set(values)
    assert len(found) > 1


def test_what_does_not_fit_is_refused_and_leaves_nothing(run, store, phantom, tmp_path):
    """A user would find half a folder of predictions, or predictions of something else."""
    for source in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(UserError):
            predict(run, source, tmp_path / "out")
    with pytest.raises(UserError, match="channels"):
        predict(run, phantom / "imagesTr" / "phantom_000_0000.nii.gz", tmp_path / "out")
    images = tmp_path / "images"
    shutil.copytree(phantom / "imagesTr", images)
    last = sorted(images.iterdir())[-1]
    last.write_bytes(last.read_bytes()[:200])
    with pytest.raises(UserError, match=last.name):
        predict(run, images, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("precious")
    with pytest.raises(UserError, match="exists"):
        predict(run, store.path, tmp_path / "out")
    moved = SegmentationRun(
        run.path, run.record.model_copy(update={"plan": run.record.plan.model_copy(update={"spacing": (9.0, 9.0)})})
    )
    with pytest.raises(UserError, match="spacing"):
        predict(moved, store.path, tmp_path / "new")


def test_a_run_without_weights_or_with_damage_is_refused(run, tmp_path):
    """A user would see a traceback of Keras."""
    with pytest.raises(UserError, match="no U-Net run"):
        SegmentationRun.open(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    (copy / "last.keras").write_bytes(b"PK\x03\x04")
    with pytest.raises(UserError, match="damaged"):
        SegmentationRun.open(copy).load()
    (copy / "last.keras").unlink()
    with pytest.raises(UserError, match="--resume"):
        SegmentationRun.open(copy).load()
    (copy / "segmentation.json").write_text(json.dumps({"kind": "synthmed-segmentation"}))
    with pytest.raises(UserError, match=r"segmentation\.json"):
        SegmentationRun.open(copy)


def test_several_networks_are_averaged_where_the_source_lies(run, phantom, tmp_path, monkeypatch):
    """A user with one network for each direction of slices would get labels of the first, or mixed up in space."""
    across = prepare(read_dataset(phantom), tmp_path / "across", axis="sagittal", size=(32, 32))
    other = SegmentationRun(tmp_path / "other", run.record.model_copy(update={"plan": across.plan}))
    case = load_case(read_dataset(phantom).cases[0])
    names = [files.case for files in read_dataset(phantom).cases]
    (tmp_path / "split.json").write_text(json.dumps({"train": names[1:], "test": names[:1]}))
    truth = {
        one.path: prepare_case(case, one.record.plan).labels for one in (run, other)
    }  # What a perfect network of each direction would say.

    def predictor(one, **_):
        certain = np.eye(len(one.record.classes), dtype=np.float32)[truth[one.path]]
        return lambda _images: certain * (0.6 if one is run else 1.0)

    monkeypatch.setattr(predicting, "load_predictor", predictor)
    (path,) = predict([run, other], phantom, tmp_path / "out", split_file=tmp_path / "split.json")
    found = np.asarray(nibabel.load(path).dataobj)
    np.testing.assert_array_equal(found, np.asarray(run.record.plan.label_values)[case.labels])


def test_networks_that_do_not_belong_together_are_refused(run, phantom, tmp_path):
    """A user would get the classes of one data set under the names of another."""
    other = SegmentationRun(tmp_path / "other", run.record.model_copy(update={"classes": ("background", "x", "y")}))
    with pytest.raises(UserError, match="other classes"):
        predict([run, other], phantom, tmp_path / "out")
    assert not (tmp_path / "out").exists()
