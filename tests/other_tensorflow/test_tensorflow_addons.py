"""The example for tensorflow-addons, in an environment of its own; see run.sh, which makes it."""

import os
import re
import subprocess
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "tensorflow_addons"
PYTHON = os.environ.get("SYNTHMED_ADDONS_PYTHON")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not PYTHON, reason="needs tensorflow-addons: tests/other_tensorflow/run.sh"),
]


def run(*arguments: object) -> subprocess.CompletedProcess:
    """Run the example under TensorFlow 2.15, which must not see the packages of this environment."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [str(PYTHON), str(EXAMPLE / "pipeline.py"), *map(str, arguments)]
    return subprocess.run(command, env=environment | {"TF_CPP_MIN_LOG_LEVEL": "3"}, capture_output=True, text=True)


def test_the_example_learns_from_the_generator_that_ships():
    """Who still has a pipeline of tensorflow-addons could not use our generators, whatever the example says."""
    from synthmed.generation.generator import newest_version, shipped_models

    outcome = run(newest_version(next(shipped_models().glob("hippocampus"))), "--n", 256, "--epochs", 10)
    assert outcome.returncode == 0, outcome.stderr[-3000:]
    scores = [float(score) for score in re.findall(r"class \d+: Dice ([\d.]+)", outcome.stdout)]
    # An untrained network scores below 0.1 here; one that paints all as one class below 0.2.
    assert len(scores) == 2 and min(scores) > 0.4, outcome.stdout


def test_a_generator_of_masks_alone_is_conditional(tiny_bundle, tmp_path):
    """A KeyError would be all that the user gets."""
    from synthmed.serving.export import export_bundle

    outcome = run(export_bundle(tiny_bundle("mask"), to=tmp_path))
    assert outcome.returncode == 1 and "label maps alone" in outcome.stderr.splitlines()[-1]
