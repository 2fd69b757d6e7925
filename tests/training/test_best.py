import copy

import numpy as np
import pytest

from synthmed.training.batches import GeneratorBatches
from synthmed.training.best import BestCheckpoint
from synthmed.training.options import TrainOptions, resolve
from synthmed.training.run import DataSummary, Run


@pytest.fixture
def run(store, tmp_path):
    (tmp_path / "run").mkdir()
    options = resolve(TrainOptions(variant="base", distance_slices=20), size=store.size)
    return Run.create(tmp_path / "run", options, DataSummary.of_store(store))


def best_of(run, store, split, asked=None):
    """The best checkpoint of a generator that repeats slices of a split, in the order of its seeds."""
    pool = store.indices(split)

    def draw(seeds, conditioning):
        if asked is not None:
            asked.append((seeds, conditioning))
        places = pool[seeds % len(pool)]
        return {"image": store.images(places), "mask": store.labels(places)}

    return BestCheckpoint(run, store, GeneratorBatches(run.options, store), draw)


def test_slices_of_the_held_out_patients_themselves_are_the_nearest(run, store):
    """A user would keep the wrong weights."""
    same = best_of(run, store, "val").measure()["distance"]
    other = best_of(run, store, "train").measure()
    assert same < other["distance"]
    assert other["distance"] == pytest.approx(np.mean([v for k, v in other.items() if k != "distance"]))


def test_only_validation_patients_are_asked_and_nobody_else(run, store):
    """A user's test patients would have chosen the generator."""
    asked = []
    choice = best_of(run, store, "val", asked)
    choice.measure()
    assert set(choice.indices) <= set(store.indices("val"))
    assert all(len(seeds) == len(asked[0][0]) for seeds, _ in asked)


def test_the_nearest_weights_stay_whatever_comes_later(run, store):
    """A user would draw from an overtrained generator."""
    choice = best_of(run, store, "val")
    kept = []
    for step, distance in ((10, 0.5), (20, 0.2), (30, 0.3), (15, 0.1)):
        arrays = {"average/w": np.full(2, step), "generator/w": np.zeros(2)}
        kept.append(choice.keep_if_best(distance, arrays, {"step": step, "seconds": 1.0, "kimg": 0.1}))
    assert kept == [True, True, False, True]
    checkpoint, arrays = run.chosen_arrays()
    assert checkpoint.state["step"] == 15
    assert {name: list(array) for name, array in arrays.items()} == {"average/w": [15, 15]}
    assert len(list(run.best_folder.glob("step-*"))) == 1


def test_without_validation_patients_nothing_is_measured(run, store, monkeypatch):
    """A user who needs every patient for training would get no generator."""
    monkeypatch.setattr(store, "indices", lambda split: np.arange(0 if split == "val" else 4))
    assert best_of(run, store, "train").measure() == {}


def test_slices_with_pixels_of_unknown_class_are_no_reference(run, store):
    """The weights that draw least where nobody has labelled would be taken for the best."""
    half = copy.copy(store)
    half.slice_ignored = np.arange(len(store)) % 2 == 0
    choice = best_of(run, half, "val")
    assert len(choice.indices) and not half.slice_ignored[choice.indices].any()
