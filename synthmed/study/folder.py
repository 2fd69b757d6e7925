"""The folder of a study: where each task's outcome lies, and who works on it."""

import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

from synthmed import __version__
from synthmed.errors import UserError
from synthmed.files import INNER_LOCK, Busy, file_lock, folder_lock, read_json, sha256_json, sync, write_json

STUDY, PROGRESS, RUNNING = "study.json", "progress.json", "running"
FORMAT, FORMAT_VERSION = "synthmed-study", 1
Kind = Literal["store", "generator", "slices", "judge", "trial"]
FOLDERS: dict[Kind, str] = {
    "store": "stores",
    "generator": "generators",
    "slices": "slices",
    "judge": "judges",
    "trial": "trials",
}
DONE, TRIAL, FAILED = "task.json", "trial.json", "failed.json"
_HOLDER = "running.json"


class StudyFolder:
    """Where a study keeps what it makes.

    Attributes:
        path: The folder.
        phantoms: Where its phantoms are drawn.
    """

    def __init__(self, path: Path):
        self.path = path.resolve()
        self.phantoms = self.path / "phantoms"

    def of(self, kind: Kind, digest: str) -> Path:
        """Return where a finished task lies."""
        return self.path / FOLDERS[kind] / digest

    def work(self, digest: str) -> Path:
        """Return where a task works that is not finished."""
        return self.path / "work" / digest

    def lock_file(self, digest: str) -> Path:
        """Return the file by which one process at a time works on a task."""
        return self.path / "locks" / digest

    def finished(self, kind: Kind, digest: str) -> bool:
        """Tell whether a task is finished: the file is written with all else in place."""
        return (self.of(kind, digest) / (TRIAL if kind == "trial" else DONE)).is_file()

    def check(self) -> dict[str, Any] | None:
        """Return what `study.json` says, or None where there is no study yet.

        Raises:
            UserError: If the folder holds something else, or a study of a version that this one does not go on with.
        """
        if self.path.is_file():
            raise UserError(f"{self.path} is a file: choose another --out")
        file = self.path / STUDY
        if not file.is_file():
            others = [one.name for one in self.path.iterdir()] if self.path.is_dir() else []
            # What a study leaves that was stopped before it had written its configuration.
            if set(others) - {INNER_LOCK, _HOLDER, RUNNING, "data", "phantoms"}:
                raise UserError(f"{self.path} holds something else than a study: choose another --out")
            return None
        value = read_json(file)
        version = value.get("format_version") if isinstance(value, dict) else None
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise UserError(f"{file} is not what a study writes: choose another --out")
        if version != FORMAT_VERSION:
            made_by = value.get("synthmed", "another version")
            raise UserError(
                f"{self.path} is a study of synthmed {made_by} (format {version}, this one writes {FORMAT_VERSION}): "
                "go on with that version, or choose another --out"
            )
        return value

    def write(self, configuration: dict[str, Any], trials: dict[str, Any], tasks: dict[str, Any]) -> None:
        """Write `study.json` unless it says the same already.

        Args:
            configuration: As it was resolved.
            trials: By hash every trial that belongs to it, finished or not: combination, model and seed.
            tasks: By hash the kind and hash of what each task needs.
        """
        value = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "synthmed": __version__,
            "hash": sha256_json(configuration),
            "configuration": configuration,
            "trials": trials,
            "tasks": tasks,
        }
        file = self.path / STUDY
        if not file.is_file() or read_json(file) != json.loads(json.dumps(value)):
            write_json(file, value)

    def wanted_by(self, token: str) -> bool:
        """Tell whether the process that was given this token by `locked` still works on the study."""
        try:
            return bool(json.loads((self.path / _HOLDER).read_text(encoding="utf-8"))["token"] == token)
        except FileNotFoundError:
            return False
        except (OSError, ValueError, KeyError, TypeError):
            # A network drive that stumbles is no reason to stop.
            return True

    def dismiss(self) -> None:
        """Let nobody's token hold any longer."""
        (self.path / _HOLDER).unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[str]:
        """Hold the study against a second process, which is told who works on it; a dead one's lock is taken over.

        Yields:
            A token that is this process's alone.

        Raises:
            UserError: If another process holds it.
        """
        holder = self.path / _HOLDER
        with folder_lock(self.path, f"{self.path} is being worked on{_named(holder)}: wait for it or stop it"):
            token = uuid.uuid4().hex
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            write_json(holder, {"pid": os.getpid(), "host": socket.gethostname(), "since": since, "token": token})
            try:
                yield token
            finally:
                self.dismiss()


def _named(holder: Path) -> str:
    try:
        value = json.loads(holder.read_text(encoding="utf-8"))
        return f" by process {value['pid']} on {value['host']} since {value['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


WAIT_SECONDS = 60.0
"""For the process of a worker that was killed to notice it and end."""


@contextmanager
def alone(lock: Path, *, wait: float = WAIT_SECONDS) -> Iterator[None]:
    """Hold a task against other processes.

    Raises:
        Busy: If another one holds it for longer than `wait` seconds.
    """
    end = time.monotonic() + wait
    told = f"another process holds {lock}: wait for it or stop it"
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(file_lock(lock, told))
                break
            except Busy:
                if time.monotonic() > end:
                    raise
            time.sleep(0.2)
        yield


def publish(work: Path, target: Path) -> None:
    """Move a work folder to where finished tasks lie; what says of an earlier try that it failed goes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    os.rename(work, target)
    sync(target.parent)
