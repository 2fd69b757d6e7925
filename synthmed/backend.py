"""Which library Keras runs on here, told without importing Keras: where that library is missing, its import fails."""

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from synthmed.errors import UserError

BACKENDS = ("tensorflow", "jax")
"""Keras backends that networks are trained and drawn from with."""

JAX_COMMANDS = "phantom, data, inspect, prepare, train, generate (from a run), evaluate, query and doctor"
"""What works without TensorFlow, for messages."""


def backend_name() -> str:
    """Return the Keras backend that is loaded, or else the one that Keras would load."""
    keras: Any = sys.modules.get("keras")
    if hasattr(keras, "config"):
        return str(keras.config.backend())
    return os.environ.get("KERAS_BACKEND") or _configured() or "tensorflow"


def check_backend() -> None:
    """Refuse a backend that synthmed does not run on, or that is not installed.

    Raises:
        UserError: If so.
    """
    name = backend_name()
    if name not in BACKENDS:
        raise UserError(f"the Keras backend {name!r} is not supported: set KERAS_BACKEND to {' or '.join(BACKENDS)}")
    if installed(name):
        return
    if name == "jax":
        raise UserError("KERAS_BACKEND is jax, but JAX is not installed: pip install 'synthmed[jax]'")
    if installed("jax"):
        raise UserError(
            "TensorFlow is not installed, but JAX is: set the environment variable KERAS_BACKEND=jax "
            f"(with it work {JAX_COMMANDS})"
        )
    raise UserError(
        "neither TensorFlow nor JAX is installed: pip install tensorflow, or pip install jax and set KERAS_BACKEND=jax"
    )


def need_tensorflow(what: str, mend: str = "", *, keras: bool = True) -> None:
    """Refuse something that only TensorFlow does where it is missing, or where Keras does not run on it.

    Args:
        what: Subject of the sentence, such as "synthmed export".
        mend: What to do on a machine without TensorFlow, beside installing it.
        keras: Whether Keras takes part.

    Raises:
        UserError: If so.
    """
    name = backend_name()
    if not installed("tensorflow"):
        instead = f", or {mend}" if mend else ""
        raise UserError(f"{what} needs TensorFlow, which is not installed here: pip install tensorflow{instead}")
    if keras and name != "tensorflow":
        raise UserError(f"{what} needs Keras on TensorFlow, not on {name}: run it with KERAS_BACKEND=tensorflow")


def installed(package: str) -> bool:
    """Tell whether a package can be imported, without importing it."""
    return find_spec(package) is not None


def _configured() -> str | None:
    """Return the backend of Keras' own configuration file."""
    home = os.environ.get("KERAS_HOME")
    path = (Path(home) if home else Path.home() / ".keras") / "keras.json"
    try:
        value = json.loads(path.read_text(encoding="utf-8")).get("backend")
    except (OSError, ValueError, AttributeError, RuntimeError):
        return None
    return str(value) if value else None
