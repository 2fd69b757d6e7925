"""Deaths of a process at each change that it makes to a folder, and what a run folder comes to."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

WRITING = os.O_WRONLY | os.O_RDWR
EVENTS = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate")
# Fields of a line of a log, or of a state, that no two trainings share.
TIMES = ("seconds", "images_per_second", "memory_gib")


class Changes:
    """Counts what this process is about to change below a folder: files opened for writing, renames, removals.

    Python tells of each by an audit event, whoever makes it.

    Args:
        folder: The folder.
        deadly: Number of the change, from 1, before which `die` is called; 0 for none.
        die: Ends the process, or raises.
        torn: What is being written then is cut in half, as a death within the write would leave it.
        copies: Where a copy of the folder as it is before each change is kept, by the change's number: what the death
            of the process at that moment would leave. What is being written is cut in half in every second one.

    Attributes:
        seen: What was counted, as "event name-of-the-file".
    """

    def __init__(
        self,
        folder: Path,
        *,
        deadly: int = 0,
        die: Callable[[], None] | None = None,
        torn: bool = False,
        copies: Path | None = None,
    ):
        self.folder = folder.absolute()
        self.deadly, self.die, self.torn, self.copies = deadly, die, torn, copies
        self.seen: list[str] = []
        self.active = True
        self._written: Path | None = None
        # A hook stays until the process ends; `active` silences it.
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple) -> None:
        if (
            not self.active
            or not (event in EVENTS or event == "open")
            or not isinstance(arguments[0], str | os.PathLike)
        ):
            return
        path = Path(os.path.abspath(os.fspath(arguments[0])))
        if self.folder not in path.parents or (event == "open" and not _writes(arguments)):
            return
        self.seen.append(f"{event} {_short(path)}")
        appended = path if event == "open" and str(arguments[1]).startswith("a") else None
        if self.copies is not None:
            copy = self.copies / str(len(self.seen))
            shutil.copytree(self.folder, copy)
            if len(self.seen) % 2 == 0:
                self._tear(copy, appended)
        if len(self.seen) == self.deadly and self.die:
            self.active = False
            if self.torn:
                self._tear(self.folder, appended)
            self.die()
        self._written = path if event == "open" else self._written

    def _tear(self, folder: Path, appended: Path | None) -> None:
        """Cut in half what is being written to the folder, or to its copy."""
        if appended is not None:
            with open(folder / appended.relative_to(self.folder), "a", encoding="utf-8") as file:
                file.write('{"kimg": 0.0')
        elif self._written is not None and ".partial-" in str(self._written):
            file = folder / self._written.relative_to(self.folder)
            if file.is_file():
                os.truncate(file, file.stat().st_size // 2)


def _writes(arguments: tuple) -> bool:
    mode, flags = arguments[1], arguments[2]
    return any(letter in mode for letter in "wax+") if isinstance(mode, str) else bool(flags & WRITING)


def _short(path: Path) -> str:
    """Return a file's name with its folder's, without what is different each time."""
    parts = [part.split(".partial-")[0] + ".partial" if ".partial-" in part else part for part in path.parts[-2:]]
    return "/".join(parts)


def outcome(run: Path) -> dict[str, Any]:
    """Return by name all that a run comes to, without times: weights, best weights, log, pictures, ways back."""
    found: dict[str, Any] = {}
    for file in sorted(run.rglob("*")):
        name = str(file.relative_to(run))
        # Half-written files of a dead process have names of their own and are nobody's results.
        if not file.is_file() or "tensorboard" in file.parts or any(".partial-" in part for part in file.parts):
            continue
        if _replaced(file):
            continue
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                found |= {f"{name}/{key}": (arrays[key].shape, arrays[key].tobytes()) for key in arrays.files}
        elif file.name == "state.json":
            found[name] = _untimed(json.loads(file.read_text(encoding="utf-8")), "logged", "hash")
        elif file.name == "log.jsonl":
            found[name] = [_untimed(json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]
        elif file.suffix == ".png":
            found[name] = file.read_bytes()
        elif file.name == "recovery.json":
            found[name] = json.loads(file.read_text(encoding="utf-8"))
    return found


def _replaced(file: Path) -> bool:
    """Tell whether a file is of a checkpoint that is not the last: how many there are follows from the clock."""
    folder = file.parent.parent
    return folder.name == "checkpoints" and file.parent != max(folder.glob("step-*"))


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Return the names of what is not the same, or missing in one."""
    return sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))


def _untimed(values: dict[str, Any], *more: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in (*TIMES, *more)}
