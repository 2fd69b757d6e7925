"""TensorFlow's chatter stays off the terminal, and nothing else does."""

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_command_that_imports_tensorflow_says_nothing_on_standard_error():
    """Ten lines of a library's chatter before every answer hide the one line that matters."""
    done = subprocess.run(
        [sys.executable, "-m", "synthmed.cli.main", "doctor"], capture_output=True, text=True, check=True
    )
    # What is being done is said where it takes longer than a second.
    assert done.stderr in ("", "loading TensorFlow\n")
    assert "tensorflow" in done.stdout


def test_what_is_no_log_line_passes():
    """A warning that another library prints during the import must reach its reader."""
    code = """
import os
from synthmed import quiet
with quiet._without_chatter():
    os.write(2, b"I0000 00:00:17 5448 port.cc:153] oneDNN custom operations are on.\\n")
    os.write(2, b"your GPU is on fire\\n")
os.write(2, b"I0000 00:00:17 later\\n")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "your GPU is on fire\nI0000 00:00:17 later\n"


def test_log_level_zero_silences_nothing():
    """Somebody who hunts a fault sets TF_CPP_MIN_LOG_LEVEL=0 and must get every line."""
    code = "import sys; from synthmed import quiet; n = len(sys.meta_path); quiet.quieten_tensorflow();"
    code += "print(len(sys.meta_path) - n)"
    for level, hooks in (("0", "0\n"), ("2", "1\n")):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"TF_CPP_MIN_LOG_LEVEL": level},
        )
        assert done.stdout == hooks
