"""Training: exact continuation, learning at all, nested patients, refusals."""

import numpy as np
import pytest

from synthmed.data.synthetic import SyntheticSet
from synthmed.errors import UserError
from synthmed.segmentation.loop import TrainingLoop
from synthmed.segmentation.options import check_options
from synthmed.segmentation.run import SegmentationRun
from synthmed.segmentation.train import train, training_cases, unseen_patients

TINY = {"steps": 7, "batch": 4, "width": 4, "levels": 2, "log_every": 3, "precision": "float32", "validate_every": 5}


def weights(run):
    """Return the kept weights of a run as one vector."""
    return np.concatenate([array.ravel() for array in run.load("last").get_weights()])


def without_time(run):
    """Return the log without what differs from day to day."""
    return [{name: value for name, value in line.items() if name != "seconds"} for line in run.read_log()]


def test_an_interrupted_training_ends_where_an_undisturbed_one_does(store, tmp_path, write_synthetic, monkeypatch):
    """A user would get another network, and another score, because the machine was restarted."""
    synthetic = SyntheticSet.open(write_synthetic())
    options = check_options({**TINY, "ratio": 1.0, "precision": "bfloat16", "checkpoint_seconds": 0})
    whole = train(store, tmp_path / "whole", options, synthetic=synthetic)

    real_step = TrainingLoop._do_step

    def killed(loop, batch):
        if loop.step == 4:
            raise KeyboardInterrupt
        real_step(loop, batch)

    monkeypatch.setattr(TrainingLoop, "_do_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train(store, tmp_path / "cut", options, synthetic=synthetic)
    monkeypatch.undo()
    assert not SegmentationRun.open(tmp_path / "cut").finished
    cut = train(store, tmp_path / "cut", options, synthetic=synthetic, resume=True)
    np.testing.assert_array_equal(weights(cut), weights(whole))
    assert without_time(cut) == without_time(whole)
    assert [line["step"] for line in without_time(cut)] == [3, 5, 6, 7, 7]


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
    assert unseen_patients(run) == 2


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
