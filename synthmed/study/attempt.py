"""One attempt at a task, and how it ended in a few words."""

import errno
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from synthmed.errors import UserError
from synthmed.files import Busy, write_json
from synthmed.progress import Progress
from synthmed.study.folder import RUNNING, StudyFolder
from synthmed.study.grid import Task
from synthmed.study.locks import alone

Status = Literal["finished", "failed", "stopped", "full", "busy"]
Maker = Callable[[StudyFolder, Task, Progress], None]
TELL_SECONDS = 1.0
_FULL = (errno.ENOSPC, errno.EDQUOT)
# Libraries with their own writers put the system's words into exceptions of their own.
_FULL_WORDS = ("no space left on device", "disk quota exceeded")


class Stopped(Exception):
    """The process was asked to end; what is done so far is kept."""


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended.

    Attributes:
        status: "busy" is another process at the same task, "stopped" an attempt that was asked to end, "full" a disk.
        cause: Why it is not finished, in one line.
    """

    status: Status
    cause: str = ""


def attempt(folder: StudyFolder, task: Task, make: Maker) -> Outcome:
    """Make a task unless it is there, with nobody else at it, and return how that ended; nothing is raised.

    Args:
        folder: Of the study.
        task: What to make.
        make: Makes it.
    """
    try:
        with alone(folder.lock_file(task.digest)):
            if not folder.finished(task.kind, task.digest):
                folder.work(task.digest).mkdir(parents=True, exist_ok=True)
                make(folder, task, _told(folder, task))
        return Outcome("finished")
    except Busy as error:
        return Outcome("busy", str(error))
    except (Stopped, KeyboardInterrupt, SystemExit):
        return Outcome("stopped", "it was asked to stop")
    except BaseException as error:
        return outcome_of(error)


def outcome_of(error: BaseException) -> Outcome:
    """Return how an attempt ended that raised this."""
    text = " ".join(str(error).split())
    if getattr(error, "errno", None) in _FULL or any(words in text.lower() for words in _FULL_WORDS):
        return Outcome("full", text[:300])
    if isinstance(error, UserError):
        return Outcome("failed", text)
    if isinstance(error, MemoryError):
        return Outcome("failed", "not enough memory: fewer workers, or smaller batches")
    return Outcome("failed", f"{type(error).__name__}: {text[:300]}")


def begin(folder: StudyFolder, task: Task) -> None:
    """Say that a task has been begun."""
    write_json(progress_file(folder, task), {"done": 0, "total": 0, "note": "starting"})


def progress_file(folder: StudyFolder, task: Task) -> Path:
    """Return where an attempt says how far it is; only tasks at work have such a file."""
    return folder.path / RUNNING / f"{task.digest}.json"


def _told(folder: StudyFolder, task: Task) -> Progress:
    last = 0.0

    def report(done: int, total: int, note: str) -> None:
        nonlocal last
        if time.monotonic() - last >= TELL_SECONDS:
            last = time.monotonic()
            write_json(progress_file(folder, task), {"done": done, "total": total, "note": note})

    return report
