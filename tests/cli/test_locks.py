"""Two commands at one folder: the second one is told so at the start, and nothing is lost."""

import json
import subprocess
import sys

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
