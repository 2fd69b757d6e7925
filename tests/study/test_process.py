"""A task in a process of its own: how its end is told."""

import os
import sys
import time

import pytest

from synthmed.study import process
from synthmed.study.folder import StudyFolder
from synthmed.study.grid import Task
from synthmed.study.process import environment, in_process

TASK = Task("store", "abc", {"kind": "store", "threads": 3})


@pytest.fixture
def instead(monkeypatch, tmp_path):
    """Return a function that lets a few lines of Python run in the place of a task."""
    monkeypatch.setattr(process, "LOOK_SECONDS", 0.05)

    def use(code: str) -> StudyFolder:
        script = tmp_path / "instead"
        script.write_text(f"#!{sys.executable}\n{code}")
        script.chmod(0o755)
        monkeypatch.setattr(process.sys, "executable", str(script))
        return StudyFolder(tmp_path / "study")

    (tmp_path / "study" / "locks").mkdir(parents=True)
    return use


def test_a_process_that_is_killed_is_tried_again_and_then_told(instead, tmp_path):
    """What the system kills for want of memory would be a mystery, or be lost at the first time."""
    folder = instead(f"import os\nopen({str(tmp_path / 'tries')!r}, 'a').write('x')\nos.kill(os.getpid(), 9)")
    with folder.locked() as token:
        outcome = in_process(folder, TASK, token)
    assert outcome.status == "failed" and "killed by SIGKILL" in outcome.cause and "memory" in outcome.cause
    assert (tmp_path / "tries").read_text() == "x" * process.TRIES


def test_a_process_that_says_nothing_names_its_log(instead):
    """A crash inside a library would leave nothing to look at."""
    folder = instead("import sys\nprint('the reason', file=sys.stderr)\nsys.exit(3)")
    with folder.locked() as token:
        outcome = in_process(folder, TASK, token)
    log = folder.path / "logs" / "abc.log"
    assert outcome.status == "failed" and f"ended with code 3: see {log}" in outcome.cause
    assert "the reason" in log.read_text()


def test_a_process_that_nobody_wants_any_more_is_ended(instead):
    """After Ctrl-C on a cluster its workers would train on, and hold the tasks against the next try."""
    folder = instead("import time\ntime.sleep(600)")
    start = time.monotonic()
    outcome = in_process(folder, TASK, "a token that no study has")
    assert outcome.status == "stopped" and time.monotonic() - start < 60


def test_threads_are_fixed_whatever_the_machine_has():
    """Scores would depend on the machine, and on what runs beside a trial."""
    found = environment(3)
    assert {found[name] for name in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS")} == {"3"}
    assert found["PATH"] == os.environ["PATH"]
