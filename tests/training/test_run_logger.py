"""TensorBoard's files, written without TensorFlow."""

import builtins

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from synthmed.training import plan, run_logger
from synthmed.training.run_logger import RunLogger

VALUES = {"kimg": 0.25, "step": 7, "loss_generator": np.float32(1.5)}
PICTURE = np.random.default_rng(0).integers(0, 256, (5, 9, 3)).astype(np.uint8)


def content(folder):
    """Return {tag: [(step, plugin, value)]} as TensorBoard reads it."""
    found = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    plugins = {tag: found.SummaryMetadata(tag).plugin_data.plugin_name for tag in found.Tags()["tensors"]}
    return {
        tag: [(one.step, plugin, make_ndarray(one.tensor_proto).tolist()) for one in found.Tensors(tag)]
        for tag, plugin in plugins.items()
    }


def test_tensorboard_reads_the_same_as_from_tensorflow(tmp_path):
    """A user's curves would have other names or values than before, or not show at all."""
    import tensorflow as tf

    mine = run_logger.EventFile(tmp_path / "mine")
    theirs = tf.summary.create_file_writer(str(tmp_path / "theirs"))
    for step in (3, 2000):
        mine.scalars(VALUES, step=step)
        mine.image("fakes", PICTURE, step=step)
        with theirs.as_default(step=step):
            for name, value in VALUES.items():
                tf.summary.scalar(name, value)
            tf.summary.image("fakes", PICTURE[None])
    mine.close()
    theirs.close()
    ours, reference = content(tmp_path / "mine"), content(tmp_path / "theirs")
    pictures = [found.pop("fakes") for found in (ours, reference)]
    assert ours == reference
    for (step, plugin, mine), (step_of_theirs, plugin_of_theirs, theirs) in zip(*pictures, strict=True):
        assert (
            (step, plugin, mine[:2]) == (step_of_theirs, plugin_of_theirs, theirs[:2]) == (step, "images", [b"9", b"5"])
        )
        # Two writers may pack a PNG differently.
        for encoded in (mine[2], theirs[2]):
            np.testing.assert_array_equal(tf.io.decode_png(encoded), PICTURE)


def test_each_start_has_a_file_of_its_own_and_tensorboard_joins_them(tmp_path):
    """A user who resumes a run would lose the curve of its first part."""
    for images_seen in (100, 200):
        log = RunLogger(tmp_path, images_seen=images_seen)
        log.line({"kimg": images_seen / 1000}, images_seen=images_seen)
        log.close()
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2
    assert [step for step, _, _ in content(tmp_path / "tensorboard")["kimg"]] == [100, 200]


def test_without_tensorboard_a_run_goes_on_and_says_so_once(tmp_path, monkeypatch):
    """A user on a machine with JAX alone would need a package that draws curves before anything is trained."""

    def refuse(name, *arguments, **keywords):
        assert not name.startswith("tensorboard")
        return real(name, *arguments, **keywords)

    real = builtins.__import__
    monkeypatch.setattr(run_logger, "installed", lambda package: package != "tensorboard")
    monkeypatch.setattr(builtins, "__import__", refuse)
    log = run_logger.RunLogger(tmp_path, images_seen=0)
    log.line({"kimg": 0.1}, images_seen=100)
    log.grid("reals", np.zeros((1, 4, 4, 1), np.float32), np.zeros((1, 4, 4), np.uint8), images_seen=0)
    log.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.jsonl", "reals.png"]

    said = []
    monkeypatch.setattr(plan, "check_share", lambda *_: None)
    monkeypatch.setattr(plan, "_execute", lambda *_, **__: True)
    options = type("Options", (), {"strategy": "one", "variant": "cond"})
    plan.execute(
        plan.TrainingPlan(tmp_path, options, None),
        progress=lambda done, total, note: said.append(note),
    )
    assert said == [run_logger.MISSING]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_written(tmp_path, value):
    """A user would lose the log of a run at the moment when it diverges."""
    log = RunLogger(tmp_path, images_seen=0)
    log.line({"loss": value}, images_seen=1)
    log.close()
    assert np.array_equal(content(tmp_path / "tensorboard")["loss"][0][2], value, equal_nan=True)
