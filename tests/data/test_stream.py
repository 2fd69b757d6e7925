"""Tests of synthmed.data.stream."""

import numpy as np
import pytest

from synthmed.data.order import SliceOrder
from synthmed.data.prepare import prepare
from synthmed.data.readers import read_dataset
from synthmed.data.stream import slice_batches


@pytest.fixture
def store(nnunet_set, tmp_path):
    """Return a store of four small cases."""
    return prepare(read_dataset(nnunet_set()), tmp_path / "store", split=(0.75, 0.0, 0.25))


def test_batches_follow_the_order_over_epochs(store):
    """Training would see labels of other slices, or another order than its seed says."""
    indices = store.indices("train")
    order = SliceOrder(len(indices), 9)
    for number, batch in enumerate(slice_batches(store, indices, batch=5, seed=9).take(9)):
        chosen = indices[order.take(5 * number, 5)]
        np.testing.assert_array_equal(batch["image"].numpy(), store.images(chosen))
        np.testing.assert_array_equal(batch["label"].numpy(), store.labels(chosen))


def test_a_stream_goes_on_where_it_was_left(store):
    """A resumed training would repeat slices and skip others."""
    indices = store.indices("train")
    whole = list(slice_batches(store, indices, batch=4, seed=2).take(8).as_numpy_iterator())
    rest = list(slice_batches(store, indices, batch=4, seed=2, start=20).take(3).as_numpy_iterator())
    for expected, got in zip(whole[5:], rest, strict=True):
        np.testing.assert_array_equal(expected["image"], got["image"])


def test_shapes_are_known_before_the_first_batch(store):
    """Graphs would be traced again for every batch."""
    spec = slice_batches(store, store.indices("train"), batch=3, seed=0).element_spec
    assert spec["image"].shape == (3, *store.size, 2)
    assert spec["label"].shape == (3, *store.size)
