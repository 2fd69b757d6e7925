"""Held-out patients are refused everywhere, also by a Python that is asked to leave checks out."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("optimise", ["", "1"])
def test_a_leak_is_refused_whatever_python_is_asked_to_leave_out(tmp_path, optimise):
    """A user's scores would be too good under PYTHONOPTIMIZE=1, which removes every `assert`, without a word."""
    script = Path(__file__).with_name("leaks.py")
    environment = {**os.environ, "PYTHONOPTIMIZE": optimise}
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["optimised"] == len(optimise) and len(answer["met"]) >= 19
    refused = {name for name, error in answer["met"].items() if {"UserError", "RuntimeError"} & set(error)}
    assert {name: error for name, error in answer["met"].items() if name not in refused} == {}
