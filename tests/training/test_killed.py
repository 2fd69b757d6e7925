"""Training that dies before any of its changes to the disk, with a stand-in for the networks, and damaged files."""

import importlib.util
import itertools
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from synthmed import files
from synthmed.errors import UserError
from synthmed.training import plan as planning
from synthmed.training import trainer
from synthmed.training.engine import Engine
from synthmed.training.feed import Feed
from synthmed.training.options import TrainOptions
from synthmed.training.plan import execute, plan_training
from synthmed.training.run import Run

spec = importlib.util.spec_from_file_location("kills", Path(__file__).parents[2] / "benchmarks" / "kills.py")
kills = importlib.util.module_from_spec(spec)
sys.modules["kills"] = kills
spec.loader.exec_module(kills)

# Distances fall due after steps 4, 8, 12 and 13, grids after 6, 12 and 13, lines of the log after 5 and 10, too.
STEPS, BATCH = 13, 4
OPTIONS = {
    "batch": BATCH,
    "kimg": STEPS * BATCH / 1000,
    "distance_kimg": 0.016,
    "snapshot_kimg": 0.024,
    "distance_slices": 16,
    "augment": "none",
    "precision": "float32",
    # By a clock that moves on by a second whenever it is asked.
    "checkpoint_seconds": 3,
}


class Killed(BaseException):
    """The process dies."""


class Number:
    """A variable."""

    def __init__(self, value):
        self.value = np.float64(value)

    def assign(self, value):
        self.value = np.float64(value)


class TinyEngine:
    """An engine whose network is one number: how far its images are from the real ones."""

    ahead = 1
    bad_steps: set[int] = set()

    def __init__(self, networks, options, devices):
        self.variables = {"generator/far": Number(1.0), "average/far": Number(1.0)}
        self.rate, self.scale = options.learning_rate, 1.0

    def state(self):
        return self.variables

    def arrays(self):
        return {name: np.array(one.value) for name, one in self.variables.items()}

    def scale_learning_rate(self, scale):
        self.scale = scale

    def feed(self, batches):
        return iter(batches)

    def steps(self, number, batches):
        far = self.variables["generator/far"]
        # Nearer until step 8, then farther, by a way that depends on the data and on all steps before.
        change = (0.8 if number < 8 else 1.3) + self.scale * float(batches[0]["label"].mean()) / 100
        far.assign(far.value * change)
        self.variables["average/far"].assign(0.5 * (self.variables["average/far"].value + far.value))
        bad = number in self.bad_steps and self.scale == 1.0
        return [{"loss_generator": np.float32(np.nan if bad else far.value), "scale": np.float32(self.scale)}]

    def draw(self, seeds, told):
        noise = np.random.default_rng(int(seeds[0])).standard_normal((*told["label"].shape, 2))
        images = np.float32(np.clip(noise * self.variables["average/far"].value, -1, 1))
        return {"image": images, "mask": told["label"]}


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """Train one number in place of networks; nothing waits for the disk, and time is counted."""
    clock = itertools.count()
    monkeypatch.setattr(trainer, "make_networks", lambda *_, **__: None)
    monkeypatch.setattr(trainer, "make_engine", TinyEngine)
    monkeypatch.setattr(trainer, "LOG_STEPS", 5)
    monkeypatch.setattr(trainer.time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(trainer.Journal, "_opened", lambda self: None)
    monkeypatch.setattr(files, "sync", lambda path: None)
    monkeypatch.setattr(TinyEngine, "bad_steps", set())
    monkeypatch.setattr(Feed, "batches", lambda self, step: map(self.reader(), itertools.count(step)))


def train(path, store, variant="base", *, said=None, masks_from=None, **more):
    begun = Run.open(path) if (path / "run.json").is_file() else None
    options = TrainOptions(variant=variant, **(OPTIONS | more))
    plan = plan_training(path, options, store, masks_from=masks_from, begun=begun)
    return execute(plan, resume=True, say=(said if said is not None else []).append)


def died(changes, work):
    """Do some work and return whether it died."""

    def die():
        raise Killed

    changes.die = die
    try:
        work()
    except Killed:
        return True
    finally:
        changes.active = False
    return False


def survives(tmp_path, work, *, every=1):
    """Do work undisturbed, then dying before each change (or each n-th) and once more; all has to be the same."""
    undisturbed = kills.Changes(tmp_path / "whole")
    work(tmp_path / "whole")
    undisturbed.active = False
    expected = kills.outcome(tmp_path / "whole")
    count = len(undisturbed.seen)
    for number in range(1, count + 1, every):
        path = tmp_path / "cut"
        shutil.rmtree(path, ignore_errors=True)
        changes = kills.Changes(path, deadly=number, torn=number % 2 == 0)
        assert died(changes, lambda path=path: work(path))
        work(path)
        assert kills.differences(expected, kills.outcome(path)) == [], f"died before {changes.seen[-1]} ({number})"
        assert not list(path.rglob(".step-*")), "half a checkpoint was left"
    return expected, undisturbed.seen


@pytest.mark.parametrize("variant", ["base", "cond"])
def test_a_death_before_any_change_to_the_disk_changes_nothing_in_the_end(variant, store, tmp_path):
    """A user would lose the best weights of a night to a power cut, or lines and pictures of it, for good."""
    expected, seen = survives(tmp_path, lambda path: train(path, store, variant), every=1 if variant == "base" else 3)
    assert [name for name in expected if name.startswith("best/step-000000008/arrays.npz/average")]
    lines = expected["log.jsonl"]
    assert [line["step"] for line in lines] == [4, 5, 6, 8, 10, 12, 13]
    assert [line["step"] for line in lines if "distance" in line] == [4, 8, 12, 13]
    assert len(seen) > 60
    if variant == "cond":
        assert [line["step"] for line in expected["mask-generator/log.jsonl"]] == [line["step"] for line in lines]
