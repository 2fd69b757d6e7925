"""What this machine and this environment offer: versions, devices, number formats, threads, memory."""

import shutil
from importlib import metadata, resources
from pathlib import Path
from platform import platform, python_version

from pydantic import BaseModel

from synthmed import __version__, extras, hardware
from synthmed.backend import BACKENDS, JAX_COMMANDS, backend_name, check_backend, installed
from synthmed.errors import UserError
from synthmed.memory import memory

PACKAGES = ("tensorflow", "jax", "keras", "numpy", "scipy", "nibabel", "SimpleITK", "pydantic", "matplotlib", "Jinja2")

# Processor flags by the number format whose matrix products they make fast.
_FORMAT_FLAGS = {
    "float32": frozenset({"avx2", "avx512f", "asimd"}),
    "bfloat16": hardware.BFLOAT16_FLAGS,
    "float16": frozenset({"avx512_fp16", "amx_fp16", "asimdhp"}),
}


class Report(BaseModel):
    """What `synthmed doctor` tells. Sizes are in bytes; None where the machine does not say.

    `notes` are no problems, but tell what does not work here.
    """

    synthmed: str
    python: str
    platform: str
    processor: str
    packages: dict[str, str | None]
    backend: str
    devices: list[str]
    number_formats: dict[str, list[str]]
    threads: int
    memory: int | None
    memory_available: int | None
    disk_free: int
    extras_missing: dict[str, list[str]]
    generators: list[str]
    notes: list[str] = []
    problems: list[str]


def examine(folder: Path | str = ".") -> Report:
    """Look at the machine and the environment; `folder` tells which disk is meant.

    Imports the Keras backend, which takes seconds.
    """
    versions = {name: _version(name) for name in PACKAGES}
    backend, devices, problems = _devices()
    if _version("tensorflow-addons"):
        problems.append("tensorflow-addons is installed, but no TensorFlow since 2.16 can import it: pip uninstall it")
    generators = shipped_generators()
    if not generators:
        problems.append("no generator ships with this installation: `generate` needs a run or --model")
    total, available = memory()
    return Report(
        synthmed=__version__,
        python=python_version(),
        platform=platform(),
        processor=hardware.processor_name(),
        packages=versions,
        backend=backend,
        devices=devices,
        number_formats=_number_formats(),
        threads=hardware.core_count(),
        memory=total,
        memory_available=available,
        disk_free=shutil.disk_usage(folder).free,
        extras_missing={name: gone for name in extras.EXTRAS if (gone := extras.missing(name))},
        generators=generators,
        notes=_notes(backend),
        problems=problems,
    )


def shipped_generators() -> list[str]:
    """Return the names of the generators that are installed with the package."""
    try:
        folder = resources.files("synthmed.saved_models")
    except ModuleNotFoundError:
        return []
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and _has_version(entry))


def _has_version(folder: resources.abc.Traversable) -> bool:
    return any(entry.name.isdecimal() for entry in folder.iterdir())


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _devices() -> tuple[str, list[str], list[str]]:
    """Return the backend's name, its devices, and what is wrong with it."""
    try:
        check_backend()
    except UserError as error:
        return backend_name(), [], [str(error)]
    try:
        import keras
    except Exception as error:
        return "none", [], [f"Keras cannot be imported ({error}): install synthmed anew in a fresh environment"]
    return keras.backend.backend(), list(keras.distribution.list_devices()), []


def _notes(backend: str) -> list[str]:
    if backend not in BACKENDS:
        return []
    if not installed("tensorflow"):
        return [f"without TensorFlow work {JAX_COMMANDS}; most else needs it"]
    if backend == "jax":
        return ["KERAS_BACKEND is jax: demo, segment, study and export want KERAS_BACKEND=tensorflow"]
    return []


def _number_formats() -> dict[str, list[str]]:
    """Return {format: instruction sets of the processor that compute in it}; empty lists where it has none."""
    flags = hardware.processor_flags()
    return {name: sorted(wanted & flags) for name, wanted in _FORMAT_FLAGS.items()}
