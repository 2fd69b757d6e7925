import json
import shutil

import keras
import numpy as np
import pytest

from synthmed.errors import UserError
from synthmed.files import folder_lock
from synthmed.generation.bundle import load_bundle
from synthmed.training.options import TrainOptions
from synthmed.training.plan import execute, plan_training
from synthmed.training.run import Run, find_latest_run, next_run_paths

pytestmark = pytest.mark.usefixtures("eager")

SMALL = {"batch": 4, "channel_base": 256, "channel_max": 16, "precision": "float32", "seed": 3}


def options(variant="base", **more):
    return TrainOptions(variant=variant, **(SMALL | more))


def train(path, store, variant="base", resume=False, masks_from=None, progress=None, **more):
    begun = Run.open(path) if resume and (path / "run.json").is_file() else None
    plan = plan_training(path, options(variant, **more), store, masks_from=masks_from, existing_run=begun)
    return execute(plan, resume=resume, progress=progress)


def last_arrays(path):
    return Run.open(path).last_arrays()[1]


def test_stopped_and_resumed_training_gives_the_weights_of_undisturbed_training(store, tmp_path):
    """A user would lose exact repetition: weights, average, optimisers, path mean and data order all count."""
    train(tmp_path / "whole", store, kimg=0.04)
    train(tmp_path / "cut", store, kimg=0.02)
    train(tmp_path / "cut", store, kimg=0.04, resume=True)
    whole, cut = last_arrays(tmp_path / "whole"), last_arrays(tmp_path / "cut")
    assert whole.keys() == cut.keys()
    assert [name for name in whole if not np.array_equal(whole[name], cut[name])] == []
    starts = Run.open(tmp_path / "cut").content.starts
    assert [(start.backend, start.step) for start in starts] == [(keras.backend.backend(), step) for step in (0, 5)]


def test_cond_trains_its_mask_generator_first_and_draws_pairs_by_itself(store, tmp_path):
    """A user would have images without masks."""
    assert train(tmp_path / "run", store, "cond", kimg=0.012)
    bundle = load_bundle(tmp_path / "run")
    drawn = bundle.sample(np.array([1, 2], np.int64), np.ones(2, np.float32))
    assert drawn["image"].shape == (2, 32, 32, 2)
    assert set(np.unique(drawn["mask"])) <= set(range(len(store.classes)))
    assert sorted(bundle.info.training_patients) == store.training_hashes


def test_progress_of_cond_holds_its_mask_generator(store, tmp_path):
    """The time left would be told of the mask generator alone, and then far too long."""
    told = []
    plan = plan_training(tmp_path / "run", options("cond", kimg=0.012), store)
    execute(plan, progress=lambda *words: told.append(words))
    shares = [done / total for done, total, _ in told if total]
    assert shares == sorted(shares) and shares[-1] == 1
    assert max(done / total for done, total, note in told if note.startswith("mask generator")) == 0.5


def test_cond_takes_over_a_mask_generator_and_stands_by_itself(store, tmp_path):
    """A user would have to train the same mask generator again, or lose a run with another run's folder."""
    train(tmp_path / "masks", store, "mask", kimg=0.012)
    train(tmp_path / "run", store, "cond", kimg=0.012, masks_from=tmp_path / "masks")
    seeds, psi = np.array([1, 2], np.int64), np.ones(2, np.float32)
    alone = load_bundle(tmp_path / "masks").sample(seeds, psi)["mask"]
    np.testing.assert_array_equal(load_bundle(tmp_path / "run").sample(seeds, psi)["mask"], alone)
    assert train(tmp_path / "run", store, "cond", resume=True, kimg=0.016)


def test_run_folder_tells_what_happened(store, tmp_path):
    """A user would have weights without a history."""
    train(tmp_path / "run", store, kimg=0.012)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["kimg"] == pytest.approx(0.012)
    assert {"loss_generator", "loss_discriminator", "r1_penalty", "path_length", "seconds"} <= lines[-1].keys()
    assert (tmp_path / "run" / "reals.png").is_file()
    assert list((tmp_path / "run").glob("fakes-*.png"))
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    run = Run.open(tmp_path / "run")
    assert run.options.z_dim is not None
    assert run.data.training_patients == store.training_hashes


def test_resuming_a_finished_run_does_nothing(store, tmp_path):
    """A user would overtrain by pressing return twice."""
    train(tmp_path / "run", store, kimg=0.008)
    before = last_arrays(tmp_path / "run")
    assert train(tmp_path / "run", store, kimg=0.008, resume=True)
    after = last_arrays(tmp_path / "run")
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_damaged_checkpoint_falls_back_to_the_one_before(store, tmp_path):
    """A user would lose the whole run to one bad file."""
    train(tmp_path / "run", store, kimg=0.008)
    train(tmp_path / "run", store, kimg=0.012, resume=True)
    old, new = Run.open(tmp_path / "run").checkpoints()
    (new.path / "arrays.npz").write_bytes(b"damaged")
    checkpoint, _, problems = Run.open(tmp_path / "run").last_arrays()
    assert checkpoint.path == old.path
    assert str(new.path) in problems[0]


def test_mistakes_with_run_folders_are_told_in_one_line(store, tmp_path):
    """A user would overwrite a run or resume another one."""
    train(tmp_path / "run", store, kimg=0.008)
    with pytest.raises(UserError, match="--resume"):
        train(tmp_path / "run", store, kimg=0.008)
    with pytest.raises(UserError, match="batch = 4, not 8"):
        train(tmp_path / "run", store, kimg=0.02, resume=True, batch=8)
    with pytest.raises(UserError, match="--variant cond"):
        train(tmp_path / "other", store, kimg=0.008, masks_from=tmp_path / "run")
    with pytest.raises(UserError, match="no mask generator"):
        train(tmp_path / "other", store, "cond", kimg=0.008, masks_from=tmp_path / "run")
    with pytest.raises(UserError, match="no run"):
        Run.open(tmp_path / "nowhere")
    assert not (tmp_path / "other").exists()


def test_two_processes_cannot_train_one_run(store, tmp_path, elsewhere):
    """A user would mix two trainings in one folder; the second one writes nothing, not even who starts."""
    train(tmp_path / "run", store, kimg=0.008)
    before = (tmp_path / "run" / "run.json").read_bytes()
    with elsewhere(lambda: folder_lock(tmp_path / "run")), pytest.raises(UserError, match="another process"):
        train(tmp_path / "run", store, kimg=0.02, resume=True)
    assert (tmp_path / "run" / "run.json").read_bytes() == before


def test_a_run_that_is_removed_while_it_is_trained_is_an_error(store, tmp_path):
    """Hours of work would be called trained of which nothing is left."""
    run = tmp_path / "run"

    def remove(done: int, total: int, note: str) -> None:
        if done:
            shutil.rmtree(run, ignore_errors=True)

    with pytest.raises(UserError, match="run was removed or moved while it was trained"):
        train(run, store, kimg=0.024, progress=remove)


def test_newest_run_is_found_and_numbers_go_up(store, tmp_path):
    """A user who types `synthmed generate` would draw from an old generator."""
    runs = tmp_path / "runs"
    assert next(next_run_paths(runs, "base")) == runs / "00000-base"
    train(runs / "00000-base", store, kimg=0.008)
    train(runs / "00007-mask", store, "mask", kimg=0.008)
    assert find_latest_run(tmp_path) == runs / "00007-mask"
    assert find_latest_run(tmp_path, variant="base") == runs / "00000-base"
    assert next(next_run_paths(runs, "cond")) == runs / "00008-cond"
    with folder_lock(runs / "00008-cond"):
        assert next(next_run_paths(runs, "cond")) == runs / "00009-cond"


def test_an_engine_that_does_many_steps_at_a_time_stops_where_something_is_due(store, tmp_path, monkeypatch):
    """A user of an accelerator would miss grids, distances and lines of the log, or train beyond the budget."""
    from synthmed.training import trainer
    from synthmed.training.tensorflow_backend import TensorFlowEngine

    monkeypatch.setattr(trainer, "LOG_STEPS", 5)
    counts, grids, plain = [], [], TensorFlowEngine.steps
    monkeypatch.setattr(trainer.Trainer, "_fake_grid", lambda self, journal: grids.append(self.progress.step))
    monkeypatch.setattr(TensorFlowEngine, "ahead", 4)
    monkeypatch.setattr(TensorFlowEngine, "steps", lambda *given: counts.append(len(given[2])) or plain(*given))
    # A grid every 6 steps, a distance every 7, 15 steps in all.
    train(tmp_path / "run", store, kimg=0.06, snapshot_kimg=0.024, distance_kimg=0.028, distance_slices=16)
    assert counts == [4, 1, 1, 1, 3, 2, 2, 1]
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [5, 6, 7, 10, 12, 14, 15]
    assert [line["step"] for line in lines if "distance" in line] == [7, 14, 15]
    assert grids == [6, 12, 15]
    assert Run.open(tmp_path / "run").last_arrays()[0].state["step"] == 15


class _Poisoned:
    """Makes an engine's step report a runaway loss, and its weights bad, at given calls."""

    def __init__(self, monkeypatch, bad):
        from synthmed.training.tensorflow_backend import TensorFlowEngine

        self.steps = []
        plain = TensorFlowEngine.steps

        def steps(engine, number, batches):
            (report,) = plain(engine, number, batches)
            self.steps.append((number, float(engine.optimizers["generator"].learning_rate.numpy())))
            return [report | {"loss_generator": np.nan} if bad(number, len(self.steps)) else report]

        monkeypatch.setattr(TensorFlowEngine, "steps", steps)


def test_a_diverged_training_goes_back_and_on_at_half_the_rate(store, tmp_path, monkeypatch):
    """A user would come back to a dead run in the morning."""
    train(tmp_path / "run", store, kimg=0.008)
    poisoned = _Poisoned(monkeypatch, lambda number, call: call == 2)
    assert train(tmp_path / "run", store, kimg=0.016, resume=True)
    numbers, rates = zip(*poisoned.steps, strict=True)
    assert numbers == (2, 3, 2, 3)
    assert rates[2] == pytest.approx(rates[0] / 2)
    assert all(np.isfinite(array).all() for array in last_arrays(tmp_path / "run").values())
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["rollbacks"] for line in lines if "rollbacks" in line] == [1]


def test_a_training_that_keeps_diverging_ends_with_a_diagnosis(store, tmp_path, monkeypatch):
    """A user would pay for an endless loop."""
    poisoned = _Poisoned(monkeypatch, lambda number, call: number == 1)
    with pytest.raises(UserError, match="3 ways back.*loss_generator ran away"):
        train(tmp_path / "run", store, kimg=0.012)
    assert [number for number, _ in poisoned.steps] == [0, 1, 2] * 4
    assert not Run.open(tmp_path / "run").checkpoints()
    with pytest.raises(UserError, match="3 ways back"):
        train(tmp_path / "run", store, kimg=0.012, resume=True)
    assert len(poisoned.steps) == 15


def test_a_learning_rate_given_on_resuming_is_used(store, tmp_path, monkeypatch):
    """A user who follows the advice of a diagnosis would change nothing."""
    train(tmp_path / "run", store, kimg=0.008)
    poisoned = _Poisoned(monkeypatch, lambda number, call: False)
    train(tmp_path / "run", store, kimg=0.012, resume=True, learning_rate=0.0005)
    assert poisoned.steps[0][1] == pytest.approx(0.0005 * 4 / 5)
