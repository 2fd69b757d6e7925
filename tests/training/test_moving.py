"""A run moves between backends."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from synthmed.training.run import Run

ROOT = Path(__file__).parents[2]
JAX_PYTHON = os.environ.get("SYNTHMED_JAX_PYTHON", sys.executable)
BATCH = 4
SCRIPT = """
import sys
from pathlib import Path
import keras
from synthmed.data.store import Store
from synthmed.training.options import TrainOptions
from synthmed.training.plan import execute, plan_training
from synthmed.training.run import Run

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    # Two steps of a tiny network take less time than their compilation.
    tf.config.run_functions_eagerly(True)
out, store, kimg = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
existing_run = Run.open(out) if (out / "run.json").is_file() else None
options = TrainOptions(
    variant="base", batch=4, kimg=kimg, precision="float32", channel_base=32, channel_max=16, mapping_layers=1,
    distance_slices=16, path_every=2, r1_every=2, checkpoint_seconds=1e6, keep_checkpoints=9, augment="ada",
    augment_kimg=0.05, augment_target=-0.9, augment_operations=("mirror", "cutout"),
)
execute(plan_training(out, options, Store.open(store), existing_run=existing_run), resume=True)
"""


def train(backend: str, out: Path, store, *, steps: int) -> dict[str, np.ndarray]:
    """Train a run under a backend until it has done so many steps, and return its last checkpoint."""
    environment = os.environ | {
        "KERAS_BACKEND": backend,
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
    }
    python = {"tensorflow": sys.executable, "jax": JAX_PYTHON}[backend]
    command = [python, "-c", SCRIPT, str(out), str(store.path), str(steps * BATCH / 1000)]
    outcome = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr[-4000:]
    checkpoint, arrays, problems = Run.open(out).last_arrays()
    assert problems == [] and checkpoint.state["step"] == steps
    return arrays


@pytest.fixture(autouse=True)
def compiled(tmp_path_factory, monkeypatch):
    """Processes that train alike find each other's programs; without JAX there is nothing to test."""
    if subprocess.run([JAX_PYTHON, "-c", "import jax"], capture_output=True).returncode:
        pytest.skip("needs JAX: set SYNTHMED_JAX_PYTHON")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "compiled"))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_run_resumed_under_jax_ends_bit_for_bit_where_an_uninterrupted_one_does(store, tmp_path):
    """A user would lose exact repetition: weights, average, optimisers, path mean and data order all count."""
    whole = train("jax", tmp_path / "whole", store, steps=4)
    train("jax", tmp_path / "cut", store, steps=2)
    cut = train("jax", tmp_path / "cut", store, steps=4)
    assert whole.keys() == cut.keys()
    assert [name for name in whole if whole[name].tobytes() != cut[name].tobytes()] == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_run_goes_on_under_the_other_backend_and_back(store, tmp_path):
    """A user with a GPU machine for one night could not take what the laptop had begun there, or bring it back."""
    out = tmp_path / "run"
    parts = [
        train(backend, out, store, steps=steps) for backend, steps in (("tensorflow", 2), ("jax", 4), ("tensorflow", 6))
    ]
    # Each step updates both networks, every second step once more.
    for number, arrays in enumerate(parts, start=1):
        for owner in ("generator", "discriminator"):
            assert arrays[f"{owner}_optimizer/adam/iteration"] == 3 * number
        assert all(np.isfinite(array).all() for array in arrays.values())
    for before, after in zip(parts, parts[1:], strict=False):
        assert before.keys() == after.keys()
        for name, array in before.items():
            assert (array.dtype, array.shape) == (after[name].dtype, after[name].shape), name
            if name.endswith("velocity"):
                # Of what an optimiser knew, so much is left after three updates; a start from nothing has none of it.
                assert np.all(after[name] >= 0.99**3 * (1 - 1e-5) * array), name
            elif name.split("/")[0] in ("generator", "average", "discriminator"):
                # No update is larger than ten times the rate; another start is off by what it was drawn with.
                assert np.abs(after[name] - array).max() <= 3 * 10 * 0.002, name
    moved = [name for name in parts[0] if not np.array_equal(parts[0][name], parts[1][name])]
    assert {name.split("/")[0] for name in moved} >= {"generator", "average", "discriminator", "path_mean"}
