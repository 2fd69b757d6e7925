"""Two commands at one folder: the second one is told so at the start, and nothing is lost."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest

# Name: the output that it locks, and the command. What it reads is there only as far as it is read before the lock.
COMMANDS = {
    "demo": ("out", ["demo", "--out", "out"]),
    "phantom": ("out", ["phantom", "out"]),
    "data get": ("out", ["data", "get", "msd-hippocampus", "--out", "out", "--url", "http://127.0.0.1:9/x.tar"]),
    "prepare": ("out", ["prepare", "phantom", "--out", "out"]),
    "prepare --plan-only": ("out.yaml", ["prepare", "phantom", "--plan-only", "out.yaml"]),
    "train": ("out", ["train", "--variant", "cond", "--data", "store", "--out", "out"]),
    "train --resume": ("out", ["train", "--variant", "cond", "--data", "store", "--out", "out", "--resume"]),
    "generate": ("out", ["generate", "--n", "4", "--out", "out"]),
    "segment train": ("out", ["segment", "train", "--data", "store", "--out", "out"]),
    "segment train --resume": ("out", ["segment", "train", "--data", "store", "--out", "out", "--resume"]),
    "segment predict": ("out", ["segment", "predict", "--model", "unet", "store", "--out", "out"]),
    "segment compare": ("out", ["segment", "compare", "--data", "store", "--arms", "real", "--out", "out"]),
    "evaluate": ("out", ["evaluate", "--real", "store", "--synthetic", "set", "--out", "out"]),
    "study run": ("out", ["study", "run", "quick", "--out", "out"]),
    "study report": ("report", ["study", "report", "study", "--out", "report"]),
    "query": ("out", ["query", "--n", "4", "--out", "out"]),
}

LOSER = """
import json, os, sys
from synthmed.files import folder_lock
from synthmed.cli import main as m
import threading
told = {}
for name, (out, command) in json.loads(sys.argv[1]).items():
    entered, leave = threading.Event(), threading.Event()
    def hold():
        with folder_lock(out):
            entered.set()
            leave.wait()
    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait()
    try:
        m.main(command)
    except SystemExit as end:
        print(name, "|", end.code, "|", "tensorflow" in sys.modules, flush=True)
    leave.set()
    thread.join()
"""


def test_whoever_comes_second_is_told_before_anything_takes_long(tmp_path):
    """Two commands would write into one folder, or one of them would work for hours and lose it all at the end."""
    done = subprocess.run(
        [sys.executable, "-c", LOSER, json.dumps(COMMANDS)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    rows = [line.split(" | ") for line in done.stdout.splitlines() if " | " in line]
    assert [row[0] for row in rows] == list(COMMANDS)
    for name, code, tensorflow in rows:
        assert (code, tensorflow) == ("2", "False"), (name, done.stderr)
    errors = [line for line in done.stderr.splitlines() if line.startswith("synthmed: error")]
    assert len(errors) == len(COMMANDS)
    assert [line for line in errors if "wait for it or stop it" not in line] == []
    # The lock of the file system is all that was there.
    assert list(tmp_path.iterdir()) == []


SMALL = ["--batch", "4", "--set", "channel_base=256", "--set", "channel_max=16", "--kimg", "0.008"]
RACES = {
    # Command, and whether each of two at once takes an output of its own.
    "phantom": (["phantom", "out/set", "--cases", "3", "--size", "16"], False),
    "prepare": (["prepare", "dataset", "--out", "out/store"], False),
    "generate": (["generate", "--n", "4", "--model", "run", "--out", "out/set"], False),
    "generate without --out": (["generate", "--n", "4", "--model", "run"], True),
    "train": (["train", "--variant", "mask", "--data", "store", "--out", "out/run", *SMALL], False),
    "train without --out": (["train", "--variant", "mask", "--data", "store", *SMALL], True),
    "segment train": (["segment", "train", "--data", "store", "--steps", "2", "--width", "8", "--out", "out/u"], False),
    "segment predict": (["segment", "predict", "--model", "unet", "store", "--out", "out/labels"], False),
    "evaluate": (["evaluate", "--real", "store", "--synthetic", "set", "--out", "out/report"], False),
    "export": (["export", "run", "--to", "out/models", "--name", "tiny", "--audit-n", "8"], True),
}
ROUNDS = int(os.environ.get("SYNTHMED_RACE_ROUNDS", "2"))


def hidden(folder):
    """Return what should not stay: temporaries and locks."""
    return [path.name for path in folder.rglob(".*") if ".partial-" in path.name or path.name.endswith(".lock")]


def starting(command, place):
    return subprocess.Popen(
        [sys.executable, "-m", "synthmed.cli.main", *command], cwd=place, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture
def free_place(place):
    """Return the place, and remove what a test makes there."""
    before = set(os.listdir(place))
    yield place
    for name in set(os.listdir(place)) - before:
        shutil.rmtree(place / name)


@pytest.mark.long
@pytest.mark.parametrize("name", RACES)
def test_two_at_once(free_place, name):
    """Both would be told that they are done, and the folder would hold a mixture, or the work of one of them alone."""
    command, both = RACES[name]
    for _ in range(ROUNDS):
        shutil.rmtree(free_place / "out", ignore_errors=True)
        processes = [starting(command, free_place) for _ in range(2)]
        errors = [process.communicate()[1] for process in processes]
        codes = sorted(process.returncode for process in processes)
        # A store that is there already is a success.
        assert codes == ([0, 0] if both else [0, 2]) or (name == "prepare" and codes == [0, 0]), errors
        if codes[1]:
            loser = errors[[process.returncode for process in processes].index(2)].splitlines()[-1]
            assert "another process" in loser or "exists already" in loser, loser
        assert hidden(free_place) == []
    if name == "export":
        assert sorted(os.listdir(free_place / "out" / "models" / "tiny")) == ["1", "2", "MODEL_CARD.md"]


@pytest.mark.long
@pytest.mark.parametrize("name", RACES)
def test_killed_and_run_again(free_place, name):
    """Each kill would leave a hidden half of a result, until the disk is full; or the folder would stay locked."""
    command, _ = RACES[name]
    resumed = [*command, "--resume"] if "train" in command and "--out" in command else command
    for number in range(ROUNDS):
        shutil.rmtree(free_place / "out", ignore_errors=True)
        process = starting(command, free_place)
        while process.poll() is None and not hidden(free_place):
            time.sleep(0.05)
        # At the lock, and later and later after it.
        time.sleep(number * 2.0)
        process.kill()
        process.communicate()
        ended_before = process.returncode == 0
        again = starting(resumed, free_place)
        error = again.communicate()[1]
        assert again.returncode == 0 or (ended_before and "exists already" in error), error
        assert hidden(free_place) == []
