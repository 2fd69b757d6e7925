"""Which Keras backend is used, told before Keras is imported."""

import json
import subprocess
import sys

import pytest

from synthmed import backend
from synthmed.errors import UserError


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Return a function that makes this look like a machine with some packages and a choice of backend."""

    def make(*packages: str, chosen: str = "", configured: str = ""):
        monkeypatch.setitem(sys.modules, "keras", None)
        monkeypatch.setenv("KERAS_BACKEND", chosen)
        monkeypatch.setenv("KERAS_HOME", str(tmp_path))
        if configured:
            (tmp_path / "keras.json").write_text(json.dumps({"backend": configured}))
        monkeypatch.setattr(backend, "installed", lambda package: package in packages)

    return make


@pytest.mark.parametrize(
    ("packages", "chosen", "configured", "name"),
    [
        (["tensorflow"], "", "", "tensorflow"),
        (["tensorflow", "jax"], "jax", "tensorflow", "jax"),
        (["jax"], "", "jax", "jax"),
    ],
)
def test_the_backend_is_the_one_that_keras_would_load(machine, packages, chosen, configured, name):
    """A user's KERAS_BACKEND or keras.json would be ignored by half of the code."""
    machine(*packages, chosen=chosen, configured=configured)
    assert backend.backend_name() == name
    backend.check_backend()


@pytest.mark.parametrize(
    ("packages", "chosen", "words"),
    [
        (["tensorflow"], "torch", "'torch' is not supported: set KERAS_BACKEND to tensorflow or jax"),
        (["tensorflow"], "jax", "JAX is not installed: pip install"),
        (["jax"], "", "set the environment variable KERAS_BACKEND=jax"),
        ([], "", "neither TensorFlow nor JAX is installed"),
    ],
)
def test_a_backend_that_cannot_be_used_is_refused_with_the_mend(machine, packages, chosen, words):
    """A user would see Keras' ModuleNotFoundError and install gigabytes that are not needed."""
    machine(*packages, chosen=chosen)
    with pytest.raises(UserError, match=words):
        backend.check_backend()


def test_what_needs_tensorflow_says_so(machine):
    """A user on a machine with JAX alone would not know what to do with the run."""
    machine("jax", chosen="jax")
    with pytest.raises(UserError, match="synthmed export needs TensorFlow.*pip install tensorflow, or copy the run"):
        backend.need_tensorflow("synthmed export", "copy the run")
    machine("jax", "tensorflow", chosen="jax")
    with pytest.raises(UserError, match="not on jax: run it with KERAS_BACKEND=tensorflow"):
        backend.need_tensorflow("synthmed export")
    backend.need_tensorflow("synthmed serve", keras=False)


def test_the_name_is_that_of_a_keras_that_is_loaded():
    """A backend chosen in a program, not in the environment, would be taken for another one."""
    code = (
        "import os, keras; from synthmed.backend import backend_name; os.environ['KERAS_BACKEND'] = 'torch';"
        "print(backend_name() == keras.backend.backend())"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split()[-1] == "True"
