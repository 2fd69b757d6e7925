"""Training: exact continuation, learning at all, nested patients, refusals."""

import shutil

import keras
import numpy as np
import pytest

from synthmed.data.synthetic import SyntheticSet
from synthmed.errors import UserError
from synthmed.files import folder_lock, read_json, write_json
from synthmed.models.unet import UNet
from synthmed.segmentation.augment import LIKE_OTHERS, mirrored, symmetry
from synthmed.segmentation.engine import frequency_weights
from synthmed.segmentation.options import check_options
from synthmed.segmentation.predict import SlicePredictor, predict, validate
from synthmed.segmentation.run import SegmentationRun
from synthmed.segmentation.train import TrainingLoop, train, training_cases, unseen_cases

TINY = {"steps": 7, "batch": 4, "width": 4, "levels": 2, "log_every": 3, "precision": "float32", "validate_every": 5}


def weights(run, which="last"):
    """Return weights of a run as one vector."""
    return np.concatenate([array.ravel() for array in run.load(which).get_weights()])


def validate_as(monkeypatch, scores):
    """Let validations give the scores of a table by step instead of looking at any patient."""
    from synthmed.segmentation import train as loop

    real = TrainingLoop._validate

    def made_up(self):
        monkeypatch.setattr(loop, "validate", lambda *_: {"dice": scores.get(self.step, 0.0)})
        real(self)

    monkeypatch.setattr(TrainingLoop, "_validate", made_up)


def without_time(run):
    """Return the log without what differs from day to day."""
    return [{name: value for name, value in line.items() if name != "seconds"} for line in run.read_log()]


def test_an_interrupted_training_ends_where_an_undisturbed_one_does(
    store, tmp_path, write_synthetic, monkeypatch, eager
):
    """A user would get another network, and another score, because the machine was restarted."""
    synthetic = SyntheticSet.open(write_synthetic())
    scores = {2: 0.2, 4: 0.5, 6: 0.4, 8: 0.3}
    validate_as(monkeypatch, scores)
    changes = {"ratio": 1.0, "precision": "bfloat16", "checkpoint_seconds": 0, "validate_every": 2, "patience": 2}
    options = check_options({**TINY, **changes, "steps": 20, "levels": 4, "context": 1, "class_weights": "frequency"})
    whole = train(store, tmp_path / "whole", options, synthetic=synthetic)

    real_step = TrainingLoop._do_step

    def killed(loop, batch):
        if loop.step == 7:
            raise KeyboardInterrupt
        real_step(loop, batch)

    monkeypatch.setattr(TrainingLoop, "_do_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train(store, tmp_path / "cut", options, synthetic=synthetic)
    monkeypatch.setattr(TrainingLoop, "_do_step", real_step)
    assert not SegmentationRun.open(tmp_path / "cut").finished
    cut = train(store, tmp_path / "cut", options, synthetic=synthetic, resume=True)
    for which in ("last", "best"):
        np.testing.assert_array_equal(weights(cut, which), weights(whole, which))
    assert without_time(cut) == without_time(whole)
    assert [line["step"] for line in without_time(cut)] == [2, 3, 4, 6, 6, 8, 8, 8]
    assert "stopped" in without_time(cut)[-1]


def test_a_run_folder_is_not_overwritten_or_mixed_up(store, tmp_path):
    """A user would lose a trained network, wait for it again, or go on with one of other settings."""
    options = check_options({**TINY, "steps": 1})
    run = train(store, tmp_path / "run", options, resume=True)
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    assert train(store, tmp_path / "run", options, resume=True).finished
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == before
    with pytest.raises(UserError, match="--resume"):
        train(store, tmp_path / "run", options)
    with pytest.raises(UserError, match="seed, batch|batch, seed|seed"):
        train(store, tmp_path / "run", check_options({**TINY, "steps": 1, "seed": 3}), resume=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match="no U-Net run"):
        train(store, tmp_path / "other", options, resume=True)


def test_two_processes_cannot_train_one_run_and_a_removed_one_is_an_error(store, tmp_path, eager, elsewhere):
    """Two trainings would be mixed in one folder, or one be called finished of which nothing is left."""
    run, options = tmp_path / "run", check_options({**TINY, "log_every": 99})
    with elsewhere(lambda: folder_lock(run)), pytest.raises(UserError, match="another process"):
        train(store, run, options, resume=True)
    assert not run.exists()

    def remove(done: int, total: int, note: str) -> None:
        if done == 6:
            shutil.rmtree(run)

    with pytest.raises(UserError, match="run was removed or moved while it was trained"):
        train(store, run, options, progress=remove)


def test_a_finished_run_reads_no_synthetic_slice_again(store, tmp_path, write_synthetic, monkeypatch, eager):
    """A user who goes on with a comparison would wait for minutes while slices are read that nothing needs."""
    options = check_options({**TINY, "steps": 1, "ratio": 1.0})
    folder = write_synthetic()
    train(store, tmp_path / "run", options, synthetic=SyntheticSet.open(folder))
    monkeypatch.setattr(SyntheticSet, "images", None)
    assert train(store, tmp_path / "run", options, synthetic=SyntheticSet.open(folder), resume=True).finished
    other = SyntheticSet.open(write_synthetic("other", classes=["background", "a"]))
    with pytest.raises(UserError, match="has the classes"):
        train(store, tmp_path / "run", options, synthetic=other, resume=True)


def test_a_set_that_cannot_be_read_leaves_no_run_behind(store, tmp_path, write_synthetic):
    """A user would have to remove a half-made folder before trying again."""
    folder = write_synthetic()
    (folder / "case_3.npz").write_bytes(b"spoilt")
    with pytest.raises(UserError, match="case_3"):
        train(store, tmp_path / "run", check_options({**TINY, "ratio": 1.0}), synthetic=SyntheticSet.open(folder))
    assert not (tmp_path / "run").exists()


def test_a_few_steps_learn_the_phantom(store, tmp_path):
    """A user would get noise if gradient, optimiser and average did not work together."""
    options = check_options({"steps": 40, "batch": 12, "width": 8, "learning_rate": 0.01, "average": 0.8})
    run = train(store, tmp_path / "run", options)
    losses = [line["loss"] for line in run.read_log() if "loss" in line]
    scores = [line["validation"]["classes"] for line in run.read_log() if "validation" in line]
    assert losses[-1] < 0.7 * losses[0]
    # Lesions are a few pixels and take longer.
    assert max(scores[-1].values()) > 0.6
    assert (run.path / "best.keras").is_file()


def test_patients_are_nested_and_recorded(store, tmp_path, write_synthetic):
    """A user's learning curve would jump because each size had other patients; a leak could not be told later.

    Nor could it be seen that generators saw more patients than the U-Net did.
    """
    draws = [{case.hash for case in training_cases(store, count)} for count in (1, 2, 3, None)]
    assert [len(draw) for draw in draws] == [1, 2, 3, 4]
    assert draws[0] < draws[1] < draws[2] < draws[3] == set(store.training_hashes)
    with pytest.raises(UserError, match="--train-patients 5"):
        training_cases(store, 5)
    options = check_options({**TINY, "steps": 1, "train_patients": 2, "ratio": 1.0})
    run = train(store, tmp_path / "run", options, synthetic=SyntheticSet.open(write_synthetic()))
    record = SegmentationRun.open(run.path).record
    assert set(record.training_patients) == draws[1]
    assert set(record.validation_patients) == set(store.hashes("val"))
    assert record.synthetic.slices == 5
    assert unseen_cases(run) == 2


@pytest.mark.parametrize(
    ("scores", "patience", "last", "best"),
    [
        ([0.1, 0.3, 0.2, 0.3, 0.2], 3, 5, 2),
        ([0.1, 0.3, 0.2, 0.4, 0.2, 0.2], 2, 6, 4),
        ([None, None, 0.5], 2, 2, None),
        ([0.1, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1], None, 8, 2),
    ],
)
def test_training_stops_after_validations_without_gain(
    store, tmp_path, monkeypatch, eager, scores, patience, last, best
):
    """A user would wait for steps that gain nothing, be stopped too early, or lose the best weights."""
    from synthmed.segmentation.engine import SegmentationEngine

    monkeypatch.setattr(SegmentationEngine, "step", lambda *_: {"loss": 1.0})
    validate_as(monkeypatch, dict(enumerate(scores, start=1)))
    kept = []
    save = SegmentationRun.save

    def remember(run, network, which):
        kept.append((which, run.read_log()[-1]["step"]))
        save(run, network, which)

    monkeypatch.setattr(SegmentationRun, "save", remember)
    options = check_options({**TINY, "steps": 8, "validate_every": 1, "patience": patience})
    run = train(store, tmp_path / "run", options)
    assert run.finished
    assert kept[-1] == ("last", last)
    assert (kept[-2] if len(kept) > 1 else (None, None))[1] == best
    assert run.record.options.keep == ("best" if patience else "last")
    # Without any Dice there is no best network; the last one must still predict.
    assert run.chosen == ("best" if patience and best else "last")
    assert run.load().built
    if best is None:
        with pytest.raises(UserError, match="no best.keras, since no validation"):
            run.load("best")


def test_a_slice_that_is_offered_often_is_one_slice_to_the_width(store, tmp_path, monkeypatch, eager):
    """A user's few slices would be given a network for many, because rare ones are repeated."""
    counted = []
    monkeypatch.setattr("synthmed.models.unet.width_for", lambda size, slices: counted.append(slices) or 4)
    options = check_options({**TINY, "steps": 1, "width": None})
    numbers = store.training_indices(store.cases("train"))
    monkeypatch.setattr(store, "training_indices", lambda *_, **__: np.concatenate([numbers, numbers]))
    train(store, tmp_path / "run", options)
    assert counted == [len(np.unique(numbers))]


def test_mirroring_is_found_out_by_the_training_patients_and_recorded(store, tmp_path, eager):
    """A user could not tell from a run whether its slices were mirrored, nor predict with mirrored ones."""
    options = check_options({**TINY, "steps": 1})
    run = train(store, tmp_path / "run", options)
    found = symmetry(store, store.cases("train"))
    flips = run.record.options.augmentation
    assert (flips.flip_rows, flips.flip_columns) == (found.rows <= LIKE_OTHERS, found.columns <= LIKE_OTHERS)
    train(store, tmp_path / "run", options, resume=True)
    one = train(store, tmp_path / "one", options.model_copy(update={"train_patients": 1}))
    assert mirrored(one.record.options.augmentation) == "none"


def test_class_weights_come_from_the_training_patients_alone(store, tmp_path, eager):
    """A user's validation and test patients would take part in the training."""
    options = check_options({**TINY, "steps": 1, "train_patients": 2, "class_weights": "frequency"})
    run = train(store, tmp_path / "run", options)
    numbers = store.training_indices(training_cases(store, 2))
    labels = store.labels(numbers)
    pixels = np.array([(labels == index).sum() for index in range(len(store.classes))])
    assert set(run.record.training_patients) < set(store.training_hashes)
    assert SegmentationRun.open(run.path).record.class_weights == frequency_weights(pixels)
    assert len(set(run.record.class_weights)) > 1


def test_a_network_with_neighbours_predicts_as_it_was_validated(store, tmp_path, eager):
    """A user could not apply a network that was trained on neighbouring slices, or would see another Dice."""
    run = train(store, tmp_path / "run", check_options({**TINY, "steps": 1, "context": 1}))
    written = predict(run, store.path, tmp_path / "predicted", split="val", precision="float32")
    assert [path.is_file() for path in written] == [True]
    logged = [line["validation"] for line in run.read_log() if "validation" in line]
    assert validate(SlicePredictor(run.load()), store, "val")["dice"] == pytest.approx(logged[-1]["dice"], abs=1e-6)


def test_an_older_run_still_predicts(store, tmp_path, eager):
    """A user would have to train again after an update."""
    run = train(store, tmp_path / "run", check_options({**TINY, "steps": 1, "decoder_convolutions": 1}))
    record = read_json(run.path / "segmentation.json")
    for name in ("decoder_convolutions", "deep_supervision", "class_weights", "context", "patience"):
        del record["options"][name]
    del record["class_weights"]
    write_json(run.path / "segmentation.json", record)
    saved = keras.saving.load_model(run.path / "last.keras", compile=False)
    config = saved.get_config()
    del config["context"]
    older = UNet.from_config(config)
    older.build((None, *store.size, len(store.channels)))
    older.set_weights(saved.get_weights())
    older.save(run.path / "last.keras")
    np.testing.assert_array_equal(weights(SegmentationRun.open(run.path)), weights(run))
    assert SegmentationRun.open(run.path).load().decoder_convolutions == 1


def test_what_needs_validation_patients_is_refused_without_them(store, tmp_path, monkeypatch):
    """A user would believe that training stops by itself, and it never would."""
    cases = store.cases
    monkeypatch.setattr(store, "cases", lambda split=None: [] if split == "val" else cases(split))
    with pytest.raises(UserError, match="no validation patients, which --patience needs"):
        train(store, tmp_path / "run", check_options({**TINY, "patience": 3}))
    with pytest.raises(UserError, match="no validation patients, which --keep best needs"):
        train(store, tmp_path / "run", check_options({**TINY, "keep": "best"}))


def test_a_loss_that_is_not_finite_stops_the_training(store, tmp_path, monkeypatch):
    """A user would wait for hours for a network of NaN."""
    from synthmed.segmentation.engine import SegmentationEngine

    monkeypatch.setattr(SegmentationEngine, "step", lambda *_: {"loss": float("nan")})
    with pytest.raises(UserError, match="not finite at step 1"):
        train(store, tmp_path / "run", check_options(TINY))


@pytest.mark.parametrize(("name", "value"), [("steps", 0), ("ratio", -1), ("batch", "x"), ("seed", 2**31)])
def test_options_out_of_range_are_refused_by_name(name, value):
    """A user would see an error from deep inside the training."""
    with pytest.raises(UserError, match=f"--{name}"):
        check_options({name: value})
