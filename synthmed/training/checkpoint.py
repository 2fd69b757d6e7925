"""Checkpoints: NumPy arrays by path and a JSON state, written whole or not at all, the last few kept.

A checkpoint carries hashes of both of its files, so that whatever happens to a byte of them is noticed.
"""

import re
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from synthmed.errors import UserError
from synthmed.files import atomic_folder, read_json, sha256_file, sha256_json, write_json
from synthmed.memory import read_npz

ARRAYS, STATE = "arrays.npz", "state.json"
# Entries of state.json that are about its own content and that of arrays.npz; checkpoints of before have none.
STATE_HASH, ARRAYS_HASH = "hash", "arrays_hash"


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint on disk.

    Attributes:
        path: Its folder.
        state: Plain values: step, thousand real images, seconds of training.
        hash: SHA-256 of its arrays' file; None in checkpoints of earlier versions.
    """

    path: Path
    state: dict[str, Any]
    hash: str | None = None

    @classmethod
    def open(cls, path: Path) -> "Checkpoint":
        """Read a checkpoint's state.

        Raises:
            UserError: If it is missing or damaged.
        """
        file = path / STATE
        try:
            state = read_json(file)
        except (UserError, OSError) as error:
            raise _damaged(file, error) from None
        if not isinstance(state, dict) or state.get("step") != step_of(path):
            raise _damaged(file, f"it does not say step {step_of(path)}")
        written, arrays = state.pop(STATE_HASH, None), state.get(ARRAYS_HASH)
        if written is not None and written != sha256_json(state):
            raise _damaged(file, "its values are not those that were written")
        state.pop(ARRAYS_HASH, None)
        return cls(path, state, arrays)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all arrays by path.

        Raises:
            UserError: If the file is damaged.
        """
        file = self.path / ARRAYS
        try:
            if self.hash is not None and sha256_file(file) != self.hash:
                raise ValueError("its bytes are not those that were written")
            return read_npz(file)
        except Exception as error:
            # One wrong byte in a zip file without a hash is a BadZipFile, ValueError, EOFError, NotImplementedError,
            # RuntimeError, MemoryError or something else, depending on where it is.
            raise _damaged(file, error) from None


@dataclass(frozen=True)
class Found:
    """The newest checkpoint that can be read.

    Attributes:
        checkpoint: It.
        arrays: Its arrays by path.
        damaged: A line for each newer one that cannot be read, by its folder.
    """

    checkpoint: Checkpoint
    arrays: dict[str, np.ndarray]
    damaged: dict[Path, str]

    def lines(self) -> list[str]:
        """Return what a user should read who goes on from here: nothing where the newest one is whole."""
        if not self.damaged:
            return []
        return [*self.damaged.values(), f"going on from step {self.checkpoint.state['step']}, the newest that is whole"]

    def remove_damaged(self) -> None:
        """Remove the newer ones: their steps are done again, and what stays would push out whole ones in time."""
        for path in self.damaged:
            remove_checkpoint(path)


def save_checkpoint(folder: Path, arrays: Mapping[str, np.ndarray], state: dict[str, Any], *, keep: int) -> Path:
    """Write a checkpoint named by its step below `folder`, then remove all but the last `keep`.

    One of the same step is replaced: it is damaged, or of work that was lost.

    Args:
        folder: The run's checkpoint folder.
        arrays: All arrays by path.
        state: Plain values, among them `step`.
        keep: How many checkpoints stay.
    """
    path = checkpoint_path(folder, state["step"])
    remove_checkpoint(path)
    with atomic_folder(path) as temporary:
        np.savez(temporary / ARRAYS, **arrays)  # type: ignore[arg-type]
        state = state | {ARRAYS_HASH: sha256_file(temporary / ARRAYS)}
        write_json(temporary / STATE, state | {STATE_HASH: sha256_json(state)})
    for old in checkpoint_paths(folder)[:-keep]:
        remove_checkpoint(old)
    return path


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint, if it is there, at one moment: one that is half removed would look damaged."""
    if path.exists():
        aside = path.with_name(f".{path.name}.partial-{uuid.uuid4().hex}")
        path.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return where the checkpoint of a step lies."""
    return folder / f"step-{step:09d}"


def checkpoint_paths(folder: Path) -> list[Path]:
    """Return the folders of all checkpoints below a folder, damaged ones among them, oldest first."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir() and re.fullmatch(r"step-\d{9,}", path.name))


def step_of(path: Path) -> int:
    """Return the step of a checkpoint's folder."""
    return int(path.name.removeprefix("step-"))


def list_checkpoints(folder: Path) -> list[Checkpoint]:
    """Return the checkpoints below a folder whose state can be read, oldest first."""
    found = []
    for path in checkpoint_paths(folder):
        try:
            found.append(Checkpoint.open(path))
        except UserError:
            # `find_newest` says so to whoever goes on from here.
            continue
    return found


def find_newest(folder: Path) -> Found | None:
    """Return the newest checkpoint below a folder that can be read; None where there is none at all.

    Raises:
        UserError: If there are some and none can be read.
    """
    damaged: dict[Path, str] = {}
    for path in reversed(checkpoint_paths(folder)):
        try:
            checkpoint = Checkpoint.open(path)
            return Found(checkpoint, checkpoint.arrays(), damaged)
        except UserError as error:
            damaged[path] = str(error)
    if damaged:
        newest = next(iter(damaged.values()))
        raise UserError(f"{newest}; no other checkpoint can be read: remove {folder} to begin anew")
    return None


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process left under temporary names."""
    for path in folder.glob(".step-*.partial-*"):
        shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(".step-*.lock"):
        path.unlink(missing_ok=True)


def _damaged(file: Path, why: object) -> UserError:
    return UserError(f"{file} is damaged ({' '.join(str(why).split())[:120]})")
