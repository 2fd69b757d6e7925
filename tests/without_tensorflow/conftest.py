"""A machine with JAX and without TensorFlow: the environment whose Python SYNTHMED_JAX_PYTHON names."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def jax_python(tmp_path_factory):
    """Return a function that runs that Python, in a folder, on this checkout; skipped without such an environment."""
    given = os.environ.get("SYNTHMED_JAX_PYTHON")
    if not given:
        pytest.skip("needs an environment with JAX and without TensorFlow: set SYNTHMED_JAX_PYTHON")
    python = os.path.abspath(given)
    # The package as it would be installed, whatever is installed in that environment.
    package = tmp_path_factory.mktemp("site") / "synthmed"
    package.mkdir()
    for part in (ROOT / "synthmed").iterdir():
        (package / part.name).symlink_to(part)
    (package / "cli").symlink_to(ROOT / "cli")
    (package / "saved_models").symlink_to(ROOT / "saved_models")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_")} | {
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(package.parent),
        # A run that is resumed need not compile again, and the user's own cache stays as it is.
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compiled")),
        # JAX compiles each operation for each shape: here the compilation is most of the time.
        "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
    }

    def run(*arguments, cwd: Path, **more: str) -> subprocess.CompletedProcess:
        command = [python, *map(str, arguments)]
        return subprocess.run(command, cwd=cwd, env=environment | more, capture_output=True, text=True)

    found = run("-c", "import jax, keras, importlib.util as u; print(u.find_spec('tensorflow'))", cwd=package)
    if found.returncode or found.stdout.split()[-1:] != ["None"]:
        pytest.skip(f"{python} has no JAX, or has TensorFlow")
    return run


@pytest.fixture(scope="session")
def jax_synthmed(jax_python):
    """Return a function that runs a command of synthmed there."""
    return lambda *words, cwd, **more: jax_python("-m", "synthmed.cli.main", *words, cwd=cwd, **more)
