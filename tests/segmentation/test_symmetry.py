"""Mirroring: switched on where mirrored slices look like those of other patients, and left alone where told."""

from types import SimpleNamespace

import numpy as np
import pytest

from synthmed.errors import LeakError
from synthmed.segmentation.augment import Augmentation, decided, mirrored, symmetry, with_mirror

SIZE = (32, 48)


class Slices:
    """What `symmetry` uses of a store: each patient a case of slices with one bright spot."""

    size = SIZE

    def __init__(self, spots):
        self.spots = spots
        count = len(spots[0])
        self.training = [
            SimpleNamespace(patient=str(number), split="train", first=number * count, slices=count)
            for number in range(len(spots))
        ]

    def training_indices(self, cases):
        return np.concatenate([np.arange(case.first, case.first + case.slices) for case in cases])

    def images(self, indices):
        row, column = np.indices(SIZE)
        spots = np.concatenate(self.spots)[indices]
        far = (row - spots[:, 0, None, None]) ** 2 + (column - spots[:, 1, None, None]) ** 2
        return (2 * np.exp(-far / 40) - 1)[..., None].astype(np.float32)


def world(rows, columns, patients=5, count=400):
    """Return a store whose spots lie anywhere within these ranges, as shares of the sides."""
    rng = np.random.default_rng(0)
    low, high = np.array([rows, columns]).T * (np.array(SIZE) - 1)
    return Slices([rng.uniform(low, high, (count, 2)) for _ in range(patients)])


def found(store, augmentation=None):
    return mirrored(decided(augmentation or Augmentation(), store, store.training))


@pytest.mark.parametrize(
    ("rows", "columns", "along"),
    [
        ((0.2, 0.8), (0.2, 0.8), "both"),
        ((0.2, 0.4), (0.2, 0.8), "columns"),
        ((0.2, 0.8), (0.6, 0.8), "rows"),
        ((0.2, 0.4), (0.6, 0.8), "none"),
    ],
)
def test_slices_are_mirrored_where_sides_do_not_matter(rows, columns, along):
    """A user with three patients whose tumours all lie on one side would get a network that looks there alone, or one
    with an organ of one side a network that learns what no patient has."""
    assert found(world(rows, columns)) == along


def test_one_patient_tells_nothing():
    """A user with one patient would have slices compared with their own neighbours, which are always near."""
    store = world((0.2, 0.8), (0.2, 0.8), patients=1)
    assert symmetry(store, store.training).columns == np.inf
    assert found(store) == "none"


def test_slices_without_content_tell_nothing():
    """A user whose slices are all alike at this scale would divide by zero."""
    store = Slices([np.full((4, 2), 1e4)] * 3)
    assert found(store) == "none"


@pytest.mark.parametrize("told", ["none", "rows", "columns", "both"])
def test_what_the_user_says_holds(told):
    """A user who knows the sides of the anatomy could not have it as told."""
    assert found(world((0.2, 0.4), (0.2, 0.8)), with_mirror(told)) == told


def test_only_training_cases_are_looked_at():
    """A user's test patients would have a say in how the network is trained."""
    store = world((0.2, 0.8), (0.2, 0.8))
    store.training[0].split = "test"
    with pytest.raises(LeakError, match="training patients"):
        symmetry(store, store.training)
