"""Training that dies before any of its changes to the disk, with a stand-in for the networks, and damaged files."""

import importlib.util
import itertools
import json
import shutil
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from synthmed import files
from synthmed.errors import UserError
from synthmed.training import best, trainer
from synthmed.training.batches import GeneratorBatches
from synthmed.training.checkpoint import save_checkpoint
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

    def __init__(self, method, devices):
        self.variables = {"generator/far": Number(1.0), "average/far": Number(1.0)}
        self.rate, self.scale = method.options.learning_rate, 1.0

    def state(self):
        return self.variables

    def arrays(self):
        return {name: np.array(one.value) for name, one in self.variables.items()}

    def scale_learning_rate(self, scale):
        self.scale = scale

    def prefetch(self, batches):
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
    monkeypatch.setattr(trainer.Adversarial, "build", lambda options, **_: SimpleNamespace(options=options))
    monkeypatch.setattr(trainer, "make_engine", TinyEngine)
    monkeypatch.setattr(trainer, "LOG_STEPS", 5)
    monkeypatch.setattr(trainer.time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(trainer.RunLogger, "_opened", lambda self: None)
    monkeypatch.setattr(files, "sync", lambda path: None)
    # A distance that costs nothing.
    monkeypatch.setattr(best, "slice_distance", lambda one, other: {"mean": float(np.abs(one - other).mean())})
    monkeypatch.setattr(TinyEngine, "bad_steps", set())
    monkeypatch.setattr(GeneratorBatches, "batches", lambda self, step: map(self.reader(), itertools.count(step)))


def train(path, store, variant="base", *, said=None, masks_from=None, **more):
    existing_run = Run.open(path) if (path / "run.json").is_file() else None
    options = TrainOptions(variant=variant, **(OPTIONS | more))
    plan = plan_training(path, options, store, masks_from=masks_from, existing_run=existing_run)
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


def survives(tmp_path, work, *, every=1, again=None):
    """Do work undisturbed; then let it die before each n-th change and do it once more: all has to be the same."""
    undisturbed = kills.Changes(tmp_path / "whole")
    work(tmp_path / "whole")
    undisturbed.active = False
    expected = kills.outcome(tmp_path / "whole")
    for place, number in enumerate(range(1, len(undisturbed.seen) + 1, every)):
        path = tmp_path / "cut"
        shutil.rmtree(path, ignore_errors=True)
        changes = kills.Changes(path, deadly=number, torn=place % 2 == 0)
        assert died(changes, lambda path=path: work(path))
        (again or work)(path)
        assert kills.differences(expected, kills.outcome(path)) == [], f"died before {changes.seen[-1]} ({number})"
        assert not list(path.rglob(".step-*")), "half a checkpoint was left"
    return expected, undisturbed.seen


def check_sweep(store, tmp_path, variant, every):
    expected, seen = survives(tmp_path, lambda path: train(path, store, variant), every=every)
    assert [name for name in expected if name.startswith("best/step-000000008/arrays.npz/average")]
    lines = expected["log.jsonl"]
    assert [line["step"] for line in lines] == [4, 5, 6, 8, 10, 12, 13]
    assert [line["step"] for line in lines if "distance" in line] == [4, 8, 12, 13]
    assert len(seen) > 100
    if variant == "cond":
        assert [line["step"] for line in expected["mask-generator/log.jsonl"]] == [line["step"] for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "every"), [("base", 3), ("cond", 11)])
def test_a_death_before_a_change_to_the_disk_changes_nothing_in_the_end(variant, every, store, tmp_path):
    """A user would lose the best weights of a night to a power cut, or lines and pictures of it, for good."""
    check_sweep(store, tmp_path, variant, every)


@pytest.mark.long
@pytest.mark.parametrize("variant", ["base", "cond"])
def test_a_death_before_any_change_at_all_changes_nothing_in_the_end(variant, store, tmp_path):
    """As above, with none of the moments left out."""
    check_sweep(store, tmp_path, variant, 1)


@pytest.mark.slow
def test_a_death_around_a_way_back_changes_nothing_in_the_end(store, tmp_path, monkeypatch):
    """A user's diverged training would go on at the full rate, or its log would not say what happened."""
    monkeypatch.setattr(TinyEngine, "bad_steps", {9})
    # Where a training goes back to follows from its checkpoints: here from those that are due by the step alone.
    expected, _ = survives(tmp_path, lambda path: train(path, store, checkpoint_seconds=1e6), every=2)
    assert expected["recovery.json"]["rollbacks"] == 1
    lines = expected["log.jsonl"]
    assert [line["step"] for line in lines] == [4, 5, 6, 8, 8, 10, 12, 13]
    assert [line["scale"] for line in lines if "scale" in line] == [1, 1, 1, 1, 0.5, 0.5, 0.5]
    assert lines[4]["rollbacks"] == 1 and lines[4]["learning_rate"] == pytest.approx(0.001)


@pytest.mark.slow
def test_a_run_that_takes_over_masks_never_trains_others_after_a_death(store, tmp_path):
    """A user who types the resume command of the manual would get a mask generator that they did not choose."""
    train(tmp_path / "masks", store, "mask")
    # What a first try with another mask generator left.
    train(tmp_path / "others", store, "mask", seed=1)

    def work(path):
        if path.name == "cut":
            shutil.copytree(tmp_path / "others", path / "mask-generator")
        train(path, store, "cond", masks_from=tmp_path / "masks")

    def again(path):
        there = (path / "run.json").is_file()
        train(path, store, "cond", masks_from=None if there else tmp_path / "masks")

    expected, _ = survives(tmp_path, work, every=5, again=again)
    taken = Run.open(tmp_path / "whole" / "mask-generator").chosen_arrays()[1]
    chosen = Run.open(tmp_path / "masks").chosen_arrays()[1]
    assert taken == chosen and "mask-generator/log.jsonl" not in expected


def test_a_damaged_copy_of_a_mask_generator_can_be_copied_again(store, tmp_path):
    """A user would have to train the images anew, or be told to resume what cannot be."""
    train(tmp_path / "masks", store, "mask")
    train(tmp_path / "run", store, "cond", masks_from=tmp_path / "masks")
    masks = Run.open(tmp_path / "run" / "mask-generator")
    DAMAGES["half"](masks.checkpoints()[0].path)
    with pytest.raises(UserError, match=f"remove {masks.path}.*--masks-from"):
        masks.chosen_arrays()
    shutil.rmtree(masks.path)
    train(tmp_path / "run", store, "cond", masks_from=tmp_path / "masks")
    assert masks.chosen_arrays()[1] == Run.open(tmp_path / "masks").chosen_arrays()[1]
    with pytest.raises(UserError, match="mask generator|masks-from"):
        train(tmp_path / "own", store, "cond")
        train(tmp_path / "own", store, "cond", masks_from=tmp_path / "masks")


@pytest.mark.parametrize("seconds", [1, 2, 1e6])
def test_checkpoints_by_the_clock_change_no_line_picture_or_weight(seconds, store, tmp_path):
    """A user on a slower machine would get another log, and other means in it, from the same options."""
    train(tmp_path / "one", store)
    train(tmp_path / "two", store, checkpoint_seconds=seconds)
    one, two = (kills.outcome(tmp_path / name) for name in ("one", "two"))
    assert kills.differences(one, two) == []


@pytest.mark.parametrize("steps", [1, 4, 7])
def test_a_training_that_is_asked_to_stop_goes_on_as_if_it_were_not(steps, store, tmp_path, monkeypatch):
    """A user's Ctrl-C would leave its mark in the log."""

    class Stop:
        left = steps

        def __bool__(self):
            Stop.left -= 1
            return Stop.left == 0

    train(tmp_path / "whole", store)
    monkeypatch.setattr(trainer, "stop_on_signal", lambda: nullcontext(Stop()))
    assert not train(tmp_path / "cut", store)
    assert Run.open(tmp_path / "cut").last_arrays()[0].state["step"] == steps
    assert train(tmp_path / "cut", store)
    whole, cut = (kills.outcome(tmp_path / name) for name in ("whole", "cut"))
    assert kills.differences(whole, cut) == []


def test_a_budget_of_minutes_that_is_used_up_leaves_nothing_undone(store, tmp_path):
    """A user whose training died after its last checkpoint would be told that it is trained, and draw from the wrong
    weights."""
    # A second a step: ten steps, which is no step that anything else is due at but a line.
    more = {"kimg": None, "minutes": 9.5 / 60, "distance_kimg": 0.1, "snapshot_kimg": 0.1}
    changes = kills.Changes(tmp_path / "cut")

    def before_best(*_):
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(best.BestCheckpoint, "keep_if_best", before_best)
        assert died(changes, lambda: train(tmp_path / "cut", store, **more))
    run = Run.open(tmp_path / "cut")
    step = run.last_arrays()[0].state["step"]
    assert run.best() is None
    assert train(tmp_path / "cut", store, **more)
    assert run.last_arrays()[0].state["step"] == run.best().state["step"] == step
    last = json.loads((tmp_path / "cut" / "log.jsonl").read_text().splitlines()[-1])
    assert last["step"] == step and last["distance"] == run.best().state["distance"]
    assert list((tmp_path / "cut").glob("fakes-*.png"))


def test_a_finished_run_is_left_as_it_is(store, tmp_path):
    """A user who presses return twice would lose the best weights to a second death."""
    train(tmp_path / "run", store)
    changes = kills.Changes(tmp_path / "run")
    train(tmp_path / "run", store)
    changes.active = False
    names = {name.split("/")[-1] for name in changes.seen}
    assert names <= {".lock", ".partial", "run.json"}, changes.seen


def cut(file, share):
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])


def flip(file, share):
    content = bytearray(file.read_bytes())
    content[int(len(content) * share)] ^= 1
    file.write_bytes(content)


DAMAGES = {
    "empty": lambda path: cut(path / "arrays.npz", 0),
    "half": lambda path: cut(path / "arrays.npz", 0.5),
    "almost whole": lambda path: cut(path / "arrays.npz", 0.99),
    "one bit": lambda path: flip(path / "arrays.npz", 0.3),
    "one bit of the index": lambda path: flip(path / "arrays.npz", 0.95),
    "no arrays": lambda path: (path / "arrays.npz").unlink(),
    "empty state": lambda path: cut(path / "state.json", 0),
    "half a state": lambda path: cut(path / "state.json", 0.5),
    "one bit of the state": lambda path: flip(path / "state.json", 0.2),
    "no state": lambda path: (path / "state.json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_checkpoint_is_named_passed_over_and_replaced(damage, store, tmp_path):
    """A user would lose a run to one bad file, or have one checkpoint less for good without a word."""
    train(tmp_path / "whole", store)
    run = Run.open(tmp_path / "whole")
    expected = kills.outcome(run.path)
    newest, before = run.checkpoints()[-1], run.checkpoints()[-2]
    DAMAGES[damage](newest.path)
    said = []
    assert train(run.path, store, said=said)
    assert str(newest.path) in said[0] and f"step {before.state['step']}" in said[1]
    assert run.content.starts[-1].step == 0 and Run.open(run.path).content.starts[-1].step == before.state["step"]
    assert kills.differences(expected, kills.outcome(run.path)) == []
    said.clear()
    assert train(run.path, store, said=said) and said == []
    assert [len(one.arrays()) for one in run.checkpoints()] == [2, 2]


def test_damage_to_the_only_spare_does_not_cost_the_run(store, tmp_path):
    """A user who keeps one checkpoint would lose it to the damaged one beside it."""
    train(tmp_path / "run", store, keep_checkpoints=2)
    run = Run.open(tmp_path / "run")
    DAMAGES["half"](run.checkpoints()[-1].path)
    changes = kills.Changes(run.path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.Trainer, "_save", lambda self: (_ for _ in ()).throw(Killed))
        assert died(changes, lambda: train(run.path, store, keep_checkpoints=1))
    assert train(run.path, store, keep_checkpoints=1)


def test_a_run_without_any_readable_checkpoint_says_what_to_remove(store, tmp_path):
    """A user would see a traceback, or a training that begins anew over what might be saved."""
    train(tmp_path / "run", store)
    for one in Run.open(tmp_path / "run").checkpoints():
        DAMAGES["half"](one.path)
    with pytest.raises(UserError, match="checkpoints to begin anew"):
        train(tmp_path / "run", store)
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) == 2


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_best_weights_are_made_anew_from_the_checkpoint_of_their_step(damage, store, tmp_path):
    """A user would draw from other weights than those that were the best, without a word."""
    train(tmp_path / "run", store, keep_checkpoints=20)
    run = Run.open(tmp_path / "run")
    expected = kills.outcome(run.path)
    best = run.best()
    DAMAGES[damage](best.path)
    with pytest.raises(UserError, match=f"{best.path}.*--resume"):
        run.chosen_arrays()
    said = []
    train(run.path, store, keep_checkpoints=20, said=said)
    assert len(said) == 1 and str(best.path) in said[0]
    assert kills.differences(expected, kills.outcome(run.path)) == []


def test_damaged_best_weights_that_nothing_can_make_anew_are_said_to_be_lost(store, tmp_path):
    """A user would wait for a repair that never comes, or draw from the last weights unawares."""
    train(tmp_path / "run", store)
    run = Run.open(tmp_path / "run")
    best, last = run.best(), run.last_arrays()[0]
    assert best.path.name not in {one.path.name for one in run.checkpoints()}
    DAMAGES["one bit"](best.path)
    said = []
    train(run.path, store, said=said)
    assert len(said) == 1 and str(best.path) in said[0] and "removed" in said[0]
    assert run.chosen_arrays()[0].path == last.path


def test_weights_to_draw_with_are_not_silently_older_ones(store, tmp_path, monkeypatch):
    """A user without validation patients would draw from an older generator than the newest."""
    monkeypatch.setattr(best.BestCheckpoint, "measure", lambda self: {})
    train(tmp_path / "run", store)
    run = Run.open(tmp_path / "run")
    newest = run.checkpoints()[-1]
    DAMAGES["half"](newest.path)
    with pytest.raises(UserError, match=f"{newest.path}.*--resume"):
        run.chosen_arrays()
    train(run.path, store)
    assert run.chosen_arrays()[0].path == newest.path


def test_the_nearest_of_two_best_weights_is_drawn_with(store, tmp_path):
    """A user whose training died while the former best was being removed would draw from that one."""
    train(tmp_path / "run", store)
    run = Run.open(tmp_path / "run")
    best = run.best()
    arrays = best.arrays()
    save_checkpoint(run.best_folder, arrays, best.state | {"step": 12, "distance": 9.0}, keep=2)
    assert run.chosen_arrays()[0].path == best.path
