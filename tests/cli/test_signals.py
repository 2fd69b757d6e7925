"""Ctrl-C, SIGTERM and a terminal that goes: answered at once, ended with the right code, nothing half-written left.

The stand-in for TensorFlow's compiler is a key derivation of hours: it, too, is one call into compiled code, in which
no handler of Python's runs.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

SECONDS = 20.0
"""For an answer, on a machine that does much else."""
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
SIGNALS = sorted(CODES)

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has other signals")

STUB = """
import hashlib, subprocess, sys, time
from pathlib import Path
import click
from synthmed.cli import main as m, signals
from synthmed.errors import UserError
from synthmed.files import atomic_folder
from synthmed.stopping import answering, stop_on_signal
compile = lambda: hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
def ready(): print("ready", flush=True)
@click.command()
def command():
{body}
m.LazyGroup.get_command = lambda *_: command
m.main(["doctor"])
"""


class Running:
    """A process whose lines on standard error are read as they come."""

    def __init__(self, *command: str, cwd: Path, **options):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, *command], cwd=cwd, **pipes, **options)
        self.lines: list[str] = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        for line in self.process.stderr:
            self.lines.append(line)

    def wait_for(self, what, seconds: float = SECONDS) -> None:
        """Wait until a text is in the lines, or a function says so."""
        happened = what if callable(what) else lambda: any(what in line for line in self.lines)
        end = time.monotonic() + seconds
        while not happened():
            assert self.process.poll() is None, (what, self.lines)
            assert time.monotonic() < end, (what, self.lines)
            time.sleep(0.02)

    def takes_signals(self) -> bool:
        """Tell whether the process has handlers of its own (Linux)."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("SigCgt"):
                return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)
        return False

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, seconds: float = SECONDS) -> int:
        """Wait for the end and return the exit code."""
        code = self.process.wait(seconds)
        self.reader.join(seconds)
        assert not any("Traceback" in line for line in self.lines), self.lines
        return code


@pytest.fixture
def stub(tmp_path):
    """Return a function that starts a command with a body, and waits until it says that it is ready."""
    started: list[Running] = []

    def start(body: str, **options) -> Running:
        indented = "".join(f"    {line}\n" for line in body.splitlines())
        running = Running("-c", STUB.format(body=indented), cwd=tmp_path, **options)
        started.append(running)
        assert running.process.stdout.readline() == "ready\n", running.lines
        # Into the compiled code, where that comes next.
        time.sleep(0.5)
        return running

    yield start
    for running in started:
        running.process.kill()
        running.process.wait()


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_a_command_with_its_code_and_one_line(stub, tmp_path, number):
    """A batch system would take a job that it stopped for one that failed, or half a set for a whole one."""
    running = stub(
        "with atomic_folder('deep/out') as folder:\n    (folder / 'half').touch()\n    ready()\n    time.sleep(99)"
    )
    running.send(number)
    assert running.end() == CODES[number]
    last = running.lines[-1]
    assert last.startswith("synthmed: error: ") and len([line for line in running.lines if line.strip()]) <= 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", SIGNALS)
def test_compiled_code_does_not_keep_a_signal_from_its_answer(stub, tmp_path, number):
    """For a minute of compiling nothing would be said; then people send SIGKILL."""
    running = stub("with atomic_folder('out') as folder:\n    ready()\n    compile()")
    running.send(number)
    running.wait_for("ending")
    running.send(number)
    assert running.end() == CODES[number]
    # What no code of ours could remove goes with the next run.
    assert [path.name for path in tmp_path.glob(".out.partial-*")] and not (tmp_path / "out").exists()
    again = stub("with atomic_folder('out') as folder:\n    pass\nready()")
    assert again.end() == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_command_that_cannot_end_in_order_is_ended(stub):
    """Somebody who presses Ctrl-C once would wait for a compiler; a batch system would wait for its own SIGKILL."""
    running = stub("signals.PATIENCE_SECONDS = 0.5\nready()\ncompile()")
    running.send(signal.SIGINT)
    assert running.end() == 130


@pytest.mark.parametrize("number", SIGNALS)
def test_a_training_stops_after_its_step_and_says_so_at_once(stub, number):
    """Ctrl-C would seem to do nothing, until a second one loses what was not saved."""
    body = """with stop_on_signal() as stop:
    ready()
    while not stop:
        time.sleep(0.1)
    time.sleep(1)
raise UserError("stopped; runs/x is saved: go on with --resume")"""
    running = stub(body)
    running.send(number)
    running.wait_for("stopping after this step")
    assert running.process.poll() is None
    assert running.end() == CODES[number]
    assert running.lines[-1] == "synthmed: error: stopped; runs/x is saved: go on with --resume\n"


def test_work_that_takes_its_time_to_end_has_an_answer_of_its_own_and_is_not_hurried(stub):
    """A study would be cut off while its trainings write their checkpoints."""
    body = """signals.PATIENCE_SECONDS = 0.2
with answering("trainings end first"):
    ready()
    try:
        time.sleep(99)
    finally:
        time.sleep(2)
        Path("saved").touch()"""
    running = stub(body)
    running.send(signal.SIGTERM)
    running.wait_for("trainings end first")
    assert running.end() == 143


def test_a_command_that_is_done_all_the_same_is_done(stub):
    """A training that was asked to stop at its very last step would be called stopped."""
    running = stub("with stop_on_signal() as stop:\n    ready()\n    while not stop:\n        time.sleep(0.1)")
    running.send(signal.SIGTERM)
    assert running.end() == 0


def test_nohup_is_heeded(stub):
    """A training started with nohup would end with the terminal."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        running = stub("ready()\ntime.sleep(1)")
    finally:
        signal.signal(signal.SIGHUP, before)
    running.send(signal.SIGHUP)
    assert running.end() == 0


def test_whoever_asks_again_at_the_very_end_is_heeded_without_a_word(stub):
    """Libraries that tidy up when the interpreter ends would show where they were."""
    running = stub("import atexit\natexit.register(time.sleep, 600)\nready()\ntime.sleep(99)")
    running.send(signal.SIGINT)
    running.wait_for("interrupted")
    time.sleep(0.5)
    running.send(signal.SIGINT)
    assert running.end() == 130


def test_what_a_command_has_started_ends_with_it(stub, tmp_path):
    """Workers of a study would train on for hours, invisible."""
    body = """started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
Path("pid").write_text(str(started.pid))
ready()
compile()"""
    running = stub(body)
    child = int((tmp_path / "pid").read_text())
    for _ in range(3):
        running.send(signal.SIGINT)
        time.sleep(0.1)
    assert running.end() == 130
    end = time.monotonic() + SECONDS
    while psutil.pid_exists(child) and time.monotonic() < end:
        with contextlib.suppress(psutil.Error):
            if psutil.Process(child).status() == psutil.STATUS_ZOMBIE:
                break
        time.sleep(0.1)
    else:
        assert not psutil.pid_exists(child)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["early", "phantom: "])
def test_a_real_command_leaves_nothing(tmp_path, number, moment):
    """The table of all commands takes minutes (`-m long`); one of them is looked at each time."""
    command = ["-m", "synthmed.cli.main", "phantom", "set", "--cases", "4000", "--size", "16"]
    running = Running(*command, cwd=tmp_path)
    try:
        running.wait_for(running.takes_signals if moment == "early" else moment, 60)
        running.send(number)
        assert running.end() == CODES[number]
    finally:
        running.process.kill()
    assert list(tmp_path.iterdir()) == []


COMMANDS = {
    # Name of the output, command, and what standard error says in the middle of the work.
    "demo": ("out", ["demo", "--out", "out"], "demo: "),
    "phantom": ("out", ["phantom", "out", "--cases", "4000", "--size", "16"], "phantom: "),
    "inspect": (None, ["inspect", "dataset"], None),
    "prepare": ("out", ["prepare", "dataset", "--out", "out"], None),
    "train": ("out", ["train", "--variant", "mask", "--data", "store", "--out", "out", "--kimg", "9"], "compiling"),
    "generate": ("out", ["generate", "--n", "5000", "--model", "run", "--out", "out"], "compiling"),
    "segment train": ("out", ["segment", "train", "--data", "store", "--out", "out", "--steps", "9999"], "compiling"),
    "segment predict": ("out", ["segment", "predict", "--model", "unet", "store", "--out", "out"], "loading"),
    "segment score": (None, ["segment", "score", "dataset/labelsTr", "dataset"], None),
    "segment compare": (
        "out",
        ["segment", "compare", "--data", "store", "--synthetic", "set", "--out", "out"],
        "compiling",
    ),
    "evaluate": ("out", ["evaluate", "--real", "store", "--synthetic", "set", "--out", "out"], "evaluate: "),
    "study run": ("out", ["study", "run", "quick", "--out", "out"], "study: "),
    "export": ("out", ["export", "run", "--to", "out", "--name", "tiny", "--audit-n", "500"], "audit: "),
    "serve": (None, ["serve", "--models", "models", "--rest-port", "0", "--grpc-port", "0"], "ready"),
    "doctor": (None, ["doctor"], None),
}
GROWING = {"demo", "train", "segment train", "segment compare", "study run"}
"""Commands whose folder holds what is whole so far, and is gone on with."""


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["early", "middle"])
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command(place, name, moment, number):
    """Ctrl-C would be answered by one command and not by another: code, answer, leftovers, traceback, children."""
    out, command, middle = COMMANDS[name]
    before = set(os.listdir(place))
    running = Running("-m", "synthmed.cli.main", *command, cwd=place)
    try:
        running.wait_for(running.takes_signals if moment == "early" or middle is None else middle, 300)
        children = psutil.Process(running.process.pid).children(recursive=True)
        sent, said = time.monotonic(), len(running.lines)
        running.send(number)
        running.wait_for(lambda: len(running.lines) > said or running.process.poll() is not None)
        assert time.monotonic() - sent < SECONDS
        code = running.end(300)
        # A server that ends in order has done its work.
        assert code == (0 if name == "serve" and moment == "middle" else CODES[number]), running.lines
        gone, alive = psutil.wait_procs(children, timeout=90)
        assert not alive
        left = {path for path in set(os.listdir(place)) - before if path != out or name not in GROWING}
        assert left <= ({".out.preparing"} if name == "prepare" else set()), left
        assert not list(place.rglob(".*partial-*"))
    finally:
        running.process.kill()
        subprocess.run(["rm", "-rf", "out", ".out.preparing"], cwd=place, check=True)
