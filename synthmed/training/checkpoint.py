"""Checkpoints: NumPy arrays by path and a JSON state, written whole or not at all, the last few kept."""

import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from synthmed.errors import UserError
from synthmed.files import atomic_folder, read_json, write_json
from synthmed.memory import read_npz

ARRAYS, STATE = "arrays.npz", "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint on disk.

    Attributes:
        path: Its folder.
        state: Plain values: step, images shown, seconds of training.
    """

    path: Path
    state: dict[str, Any]

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all arrays by path.

        Raises:
            UserError: If the file is damaged.
        """
        try:
            return read_npz(self.path / ARRAYS)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
            raise UserError(f"{self.path / ARRAYS} is damaged ({error}): remove {self.path} and resume") from None


def save_checkpoint(folder: Path, arrays: Mapping[str, np.ndarray], state: dict[str, Any], *, keep: int) -> Path:
    """Write a checkpoint named by its step below `folder`, then remove all but the last `keep`.

    Args:
        folder: The run's checkpoint folder.
        arrays: All arrays by path.
        state: Plain values, among them `step`.
        keep: How many checkpoints stay.
    """
    path = checkpoint_path(folder, state["step"])
    if path.exists():
        # The same step of the same run holds the same numbers.
        return path
    with atomic_folder(path) as temporary:
        np.savez(temporary / ARRAYS, **arrays)  # type: ignore[arg-type]
        write_json(temporary / STATE, state)
    for old in _paths(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return path


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return where the checkpoint of a step lies."""
    return folder / f"step-{step:09d}"


def list_checkpoints(folder: Path) -> list[Checkpoint]:
    """Return the checkpoints below a folder, oldest first."""
    return [Checkpoint(path, read_json(path / STATE)) for path in _paths(folder) if (path / STATE).is_file()]


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process left under temporary names."""
    for path in folder.glob(".step-*.partial-*"):
        shutil.rmtree(path, ignore_errors=True)


def _paths(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if path.is_dir())
