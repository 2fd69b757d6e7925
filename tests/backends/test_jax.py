"""Layers and networks under JAX, in the environment that SYNTHMED_JAX_PYTHON names, or in this one if it has JAX."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = os.environ.get("SYNTHMED_JAX_PYTHON", sys.executable)
ENVIRONMENT = os.environ | {
    "KERAS_BACKEND": "jax",
    "JAX_PLATFORMS": "cpu",
    # JAX compiles each operation for each shape: here the compilation is most of the time.
    "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
}


def run(*arguments: str, **more: str) -> subprocess.CompletedProcess:
    return subprocess.run([PYTHON, *arguments], cwd=ROOT, env=ENVIRONMENT | more, capture_output=True, text=True)


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(run("-c", "import jax").returncode != 0, reason="needs JAX: set SYNTHMED_JAX_PYTHON"),
]


# Minutes of compilation: asked for with -m long.
@pytest.mark.long
@pytest.mark.timeout(3600)
def test_layers_and_models_pass_their_tests_under_jax():
    """A user of JAX would have no generators: layers and networks promise to be written for any Keras backend."""
    outcome = run("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "tests/layers", "tests/models")
    assert outcome.returncode == 0, outcome.stdout[-4000:]
    assert " passed" in outcome.stdout and " failed" not in outcome.stdout


def test_the_backend_is_jax_and_tensorflow_is_not_loaded():
    """A user would wait for TensorFlow, or need it, although nothing asks for it."""
    code = "import sys, keras, synthmed.layers, synthmed.models.generators, synthmed.models.discriminator"
    outcome = run("-c", f"{code}; print(keras.backend.backend(), 'tensorflow' in sys.modules)")
    assert outcome.stdout.split() == ["jax", "False"], outcome.stderr[-2000:]


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_training_passes_its_tests_under_jax(tmp_path):
    """A user of an accelerator would train something else, or lose what another start of the run had done."""
    outcome = run(
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "tests/training/test_jax_engine.py"),
        XLA_FLAGS=f"{ENVIRONMENT['XLA_FLAGS']} --xla_force_host_platform_device_count=2",
        # Engines that are made alike find each other's programs.
        JAX_COMPILATION_CACHE_DIR=str(tmp_path),
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
    )
    assert outcome.returncode == 0, outcome.stdout[-4000:]
    assert " passed" in outcome.stdout and " skipped" not in outcome.stdout
