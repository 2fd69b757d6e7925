"""One process at a time at a task, and results that appear whole."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from synthmed.files import Busy, file_lock, sync

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
