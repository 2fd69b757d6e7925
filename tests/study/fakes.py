"""Studies whose tasks take milliseconds: what a trial gives follows from its hash."""

import os
import sys
import time
from pathlib import Path

import pytest

from synthmed.files import write_json
from synthmed.study.config import parse_configuration
from synthmed.study.folder import DONE, TRIAL, publish
from synthmed.study.work import attempt

pytest.importorskip("distributed", reason="needs the extra `study`")
cloudpickle = pytest.importorskip("cloudpickle")
# Workers cannot import this file.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

TEXT = """
name: fake
data:
  - {name: phantom, phantom: {cases: 8, size: 16, channels: 1}, split: [0.75, 0, 0.25]}
patients: [2, 4]
draws: 2
seeds: 2
models:
  - {name: real, variant: real}
  - name: base
    variant: base
    added_patients: [2, 4]
"""


def configuration(text=TEXT):
    return parse_configuration(text, "fake.yaml")


def faking(*, seconds=0.0, fail=None):
    """Return what does tasks: writes down who did what, fails where `fail` names the words, and takes some time."""

    def make(folder, task, report):
        with open(folder.path / "done.txt", "a") as file:
            file.write(f"{os.getpid()} {task.kind} {task.digest}\n")
        report(1, 2, "half")
        time.sleep(seconds)
        for words, error in (fail or {}).items():
            if words in task.words:
                raise error
        work = folder.work(task.digest)
        if task.kind == "trial":
            dice = int(task.digest, 16) % 1000 / 1000
            row = {"case": "a", "label": 1, "name": "core", "dice": dice, "hd95": None, "predicted": 1, "reference": 1}
            hours = {"generator": 0.0, "training": 0.0, "scoring": 0.0}
            write_json(work / TRIAL, {**task.how["cell"], "scores": [row], "hours": hours, "status": "finished"})
        write_json(work / DONE, {"kind": task.kind})
        publish(work, folder.of(task.kind, task.digest))

    return lambda folder, task, token: attempt(folder, task, make)


def done(out: Path) -> list[list[str]]:
    """Return process, kind and hash of each task that was begun, in order."""
    path = out / "done.txt"
    return [line.split() for line in path.read_text().splitlines()] if path.is_file() else []


def table(out: Path):
    """Return what a report is made of: each trial without the time that it took."""
    from synthmed.files import read_json

    trials = [read_json(path) for path in sorted(out.glob(f"trials/*/{TRIAL}"))]
    return [{name: value for name, value in trial.items() if name != "hours"} for trial in trials]
