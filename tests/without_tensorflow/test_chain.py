"""From a data set to a served generator, with JAX alone until the last step."""

import json
import re

import numpy as np
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

QUICK = ["--batch", "4", "--precision", "float32", "--set", "channel_base=64", "--set", "channel_max=16"]
QUICK += ["--set", "mapping_layers=2", "--set", "snapshot_kimg=100", "--set", "distance_slices=16"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, jax_synthmed):
    """Return a folder in which a machine without TensorFlow has prepared the phantom and trained a run."""
    folder = tmp_path_factory.mktemp("chain")
    for line in (
        ["phantom", "set", "--cases", "6", "--size", "32"],
        ["prepare", "set", "--out", "store", "--size", "32x32", "--split", "0.5,0.25,0.25"],
        ["train", "--variant", "base", "--data", "store", "--out", "run", "--kimg", "0.008", *QUICK],
    ):
        done = jax_synthmed(*line, cwd=folder)
        assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_a_run_is_trained_resumed_and_drawn_from_without_tensorflow(folder, jax_synthmed):
    """A user whose GPU machine has JAX alone could not use it."""
    done = jax_synthmed("train", "--variant", "base", "--resume", "--out", "run", "--kimg", "0.016", cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    done = jax_synthmed("generate", "--n", "4", "--model", "run", "--format", "npz", "--out", "drawn", cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    images = [np.load(path)["image"] for path in (folder / "drawn").glob("*.npz")]
    assert len(images) == 4 and all(np.isfinite(image).all() for image in images)
    assert json.loads((folder / "run" / "log.jsonl").read_text().splitlines()[-1])["kimg"] == pytest.approx(0.016)
    starts = json.loads((folder / "run" / "run.json").read_text())["starts"]
    assert [(start["backend"], start["step"]) for start in starts] == [("jax", 0), ("jax", 2)]


def test_a_dry_run_estimates_without_tensorflow(folder, jax_synthmed):
    """A user would learn only from a failed job how much memory it wants."""
    done = jax_synthmed("train", "--variant", "cond", "--data", "store", "--dry-run", "--json", *QUICK, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [stage["options"]["variant"] for stage in json.loads(done.stdout)] == ["mask", "cond"]


@pytest.mark.long
def test_a_run_trained_under_jax_is_exported_where_tensorflow_is(folder):
    """A user could not serve what a GPU machine with JAX trained."""
    import tensorflow as tf

    from synthmed.generation.bundle import load_bundle
    from synthmed.generation.generator import load_generator
    from synthmed.serving.export import export_bundle

    version = export_bundle(load_bundle(folder / "run"), to=folder / "models", name="from-jax")
    signatures = tf.saved_model.load(str(version)).signatures
    assert {"serving_default", "sample", "mapping", "synthesis", "geometry"} <= set(signatures)
    seeds = np.arange(4)
    ours, theirs = (load_generator(path).sample_seeds(seeds, 1.0) for path in (folder / "run", version))
    np.testing.assert_array_equal(theirs.labels, ours.labels)
    assert np.abs(theirs.images - ours.images).max() < 1e-4 * np.abs(ours.images).max()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("export run", "synthmed export needs TensorFlow.* pip install tensorflow, or copy the run folder"),
        ("segment train --data store", "synthmed segment train needs TensorFlow"),
        ("generate --n 1 --model MODELS/hippocampus", "needs TensorFlow.*or name the run that it was exported from"),
    ],
)
def test_what_needs_tensorflow_says_so_in_one_line(line, words, folder, jax_synthmed):
    """A user would see a traceback of Keras, or install what this machine cannot have."""
    import synthmed.saved_models

    done = jax_synthmed(*line.replace("MODELS", synthmed.saved_models.__path__[0]).split(), cwd=folder)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.stderr[-3000:]
    assert re.search(words, done.stderr)


@pytest.mark.parametrize(
    ("backend", "words"),
    [("torch", "'torch' is not supported"), ("", "set the environment variable KERAS_BACKEND=jax")],
)
def test_another_backend_is_refused_in_one_line(backend, words, folder, jax_synthmed, tmp_path):
    """A user who forgets KERAS_BACKEND, or sets it wrong, would be told that tensorflow is missing."""
    line = ["train", "--variant", "base", "--data", "store", "--out", "other"]
    done = jax_synthmed(*line, cwd=folder, KERAS_BACKEND=backend, KERAS_HOME=str(tmp_path))
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert words in done.stderr
    assert not (folder / "other").exists()


def test_the_doctor_tells_backend_device_and_what_is_missing(folder, jax_synthmed):
    """A user could not see whether JAX found the GPU."""
    report = json.loads(jax_synthmed("doctor", "--json", cwd=folder).stdout)
    assert report["backend"] == "jax" and report["devices"] == ["cpu:0"]
    assert report["packages"]["tensorflow"] is None and report["packages"]["jax"]
    assert "without TensorFlow" in report["notes"][0]
