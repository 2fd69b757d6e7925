"""Training that is killed, again and again and in the middle of a checkpoint, ends where undisturbed training ends."""

import random
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from synthmed.training.run import Run

STEPS, BATCH = 13, 4
OPTIONS = {
    "variant": "base",
    "batch": BATCH,
    "kimg": STEPS * BATCH / 1000,
    "precision": "float32",
    "channel_base": 64,
    "channel_max": 16,
    "mapping_layers": 2,
    # Regularisers fall due often, and a checkpoint is written after every step but a process's first.
    "path_every": 2,
    "r1_every": 3,
    "checkpoint_seconds": 1e-6,
    "seed": 5,
    # The strength of the augmentation moves from the first step on.
    "augment": "ada",
    "augment_kimg": 0.05,
}
# The checkpoint of this number, counted from 1 a process, is cut off half-way by the process's own death.
DEADLY_CHECKPOINT = 3

SCRIPT = textwrap.dedent(
    f"""
    import os, signal, sys
    from pathlib import Path
    import numpy as np
    import tensorflow as tf
    from synthmed.data.store import Store
    from synthmed.training.options import TrainOptions
    from synthmed.training.plan import execute, plan_training
    from synthmed.training.run import Run

    # Two steps of a tiny network take less time than their compilation.
    tf.config.run_functions_eagerly(True)
    out, store, deadly = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    whole_savez, written = np.savez, 0

    def savez(path, **arrays):
        global written
        written += 1
        whole_savez(path, **arrays)
        if written == deadly:
            os.truncate(path, os.path.getsize(path) // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    np.savez = savez
    existing_run = Run.open(out) if (out / "run.json").is_file() else None
    execute(plan_training(out, TrainOptions(**{OPTIONS!r}), Store.open(store), existing_run=existing_run), resume=True)
    """
)


def start(out, store, deadly=0):
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(out), str(store.path), str(deadly)])


def last_step(out) -> int:
    return max((int(path.parent.name[5:]) for path in out.glob("checkpoints/step-*/state.json")), default=0)


def kill_at_a_random_moment(out, store) -> float:
    """Resume a run, let it write a checkpoint or more, kill it and return how long after the first one that was."""
    before, delay = last_step(out), random.uniform(0, 1.0)
    process = start(out, store)
    while last_step(out) <= before and process.poll() is None:
        time.sleep(0.01)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it was killed"
    return delay


@pytest.mark.slow
def test_training_killed_at_any_moment_ends_bit_for_bit_where_undisturbed_training_ends(store, tmp_path):
    """A user would lose a night's work to a power cut, or get other weights than the options and the seed give."""
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    undisturbed = start(whole, store)
    process = start(cut, store, DEADLY_CHECKPOINT)
    assert process.wait() == -signal.SIGKILL
    halves = list(cut.glob("checkpoints/.step-*.partial-*/arrays.npz"))
    assert len(halves) == 1, "the process did not die while it wrote a checkpoint"
    assert last_step(cut) == int(halves[0].parent.name.split(".")[1][5:]) - 1
    delays = [kill_at_a_random_moment(cut, store) for _ in range(2)]
    assert start(cut, store).wait() == 0
    assert undisturbed.wait() == 0
    assert not list(cut.glob("checkpoints/.step-*")), "half a checkpoint was left"

    (expected, arrays, _), (found, resumed, problems) = Run.open(whole).last_arrays(), Run.open(cut).last_arrays()
    assert problems == []
    assert expected.state["step"] == found.state["step"] == STEPS
    assert arrays.keys() == resumed.keys()
    owners = {name.split("/")[0] for name in arrays}
    assert {"generator", "average", "discriminator", "generator_optimizer", "discriminator_optimizer"} <= owners
    assert arrays["path_mean"] != 0
    assert arrays["augment_probability"] != 0
    different = [name for name in arrays if arrays[name].tobytes() != resumed[name].tobytes()]
    assert different == [], f"killed {delays} s after a checkpoint"
    assert all(np.isfinite(value).all() for value in arrays.values())
