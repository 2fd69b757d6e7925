"""A task in a process of its own, so that what it takes of memory and devices ends with it."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

from synthmed.errors import present
from synthmed.files import write_json
from synthmed.study.folder import StudyFolder
from synthmed.study.grid import Task
from synthmed.study.work import Outcome, attempt


def dask_setup(worker: object) -> None:
    """Leave Ctrl-C to the study, which ends its workers in order; else each of them would show a traceback."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


TRIES = 3
"""How often a process may be killed from outside before its task counts as failed."""
LOOK_SECONDS = 0.5
GRACE_SECONDS = 60.0


def in_process(folder: StudyFolder, task: Task, token: str) -> Outcome:
    """Do a task in a process of its own and return how that ended.

    Args:
        folder: Of the study.
        task: What to make.
        token: Of the study that wants it; when another one, or none, works on the folder, the process is ended.
    """
    outcome = Outcome("failed", "it never ran")
    for _ in range(TRIES):
        outcome, killed = _once(folder, task, token)
        if not killed:
            break
    return outcome


def _once(folder: StudyFolder, task: Task, token: str) -> tuple[Outcome, bool]:
    """Return how one process ended, and whether a signal killed it."""
    logs = folder.path / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{task.digest}.log"
    answer = folder.path / "locks" / f"{task.digest}.outcome.json"
    answer.unlink(missing_ok=True)
    with open(log, "ab") as written:
        process = subprocess.Popen(
            [sys.executable, "-m", "synthmed.study.process", str(folder.path), str(answer)],
            stdin=subprocess.PIPE,
            stdout=written,
            stderr=written,
            env=environment(int(task.identity.get("threads", 1))),
            # Ctrl-C is for the study, which then ends its tasks in order.
            start_new_session=True,
        )
        stdin = present(process.stdin, "it is a pipe")
        try:
            stdin.write(json.dumps(asdict(task)).encode())
            stdin.close()
        except BrokenPipeError:
            pass
        asked = False
        while process.poll() is None:
            time.sleep(LOOK_SECONDS)
            if not asked and not folder.wanted_by(token):
                asked = True
                process.terminate()
    try:
        return Outcome(**json.loads(answer.read_text(encoding="utf-8"))), False
    except (OSError, ValueError, TypeError):
        pass
    finally:
        answer.unlink(missing_ok=True)
    if asked:
        return Outcome("stopped", "it was asked to stop"), False
    code = process.returncode
    if code < 0:
        name = signal.Signals(-code).name
        hint = "the system kills what takes too much memory: fewer workers; " if -code == signal.SIGKILL else ""
        return Outcome("failed", f"its process was killed by {name} ({hint}see {log})"), True
    return Outcome("failed", f"its process ended with code {code}: see {log}"), False


def environment(threads: int) -> dict[str, str]:
    """Return the environment of a process whose results follow from `threads`, whatever else the machine does."""
    fixed = ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return {
        **os.environ,
        **{name: str(threads) for name in fixed},
        # One alone would let what feeds the training wait for what it feeds.
        "TF_NUM_INTEROP_THREADS": str(max(2, threads)),
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3"),
        "MPLBACKEND": "Agg",
        "PYTHONUNBUFFERED": "1",
    }


def main(out: str, answer: str) -> None:
    """Do the task that standard input describes and write how it ended."""
    parent = os.getppid()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    signal.signal(signal.SIGTERM, _terminate)
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)
    value = json.load(sys.stdin)
    task = Task(**{**value, "needs": tuple((kind, digest) for kind, digest in value["needs"])})
    from synthmed.study.work import make

    outcome = attempt(StudyFolder(Path(out)), task, make)
    write_json(answer, asdict(outcome))


def _terminate(signum: int, frame: object) -> None:
    raise SystemExit(128 + signum)


def _end_with(parent: int) -> None:
    """End this process when its parent is gone: first with time for a checkpoint, then at once."""
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
