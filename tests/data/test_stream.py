"""Tests of synthmed.data.stream."""

import gc
import threading
import time

import numpy as np
import pytest

from synthmed.data.prepare import prepare
from synthmed.data.readers import read_dataset
from synthmed.data.selection import SliceOrder
from synthmed.data.stream import ReadAhead, as_dataset, slice_reader


def slice_batches(store, indices, *, batch, seed, start=0):
    """Return batches of a store's slices as training is fed them, from the slice `start` of the stream on."""
    return as_dataset(slice_reader(store, indices, batch=batch, seed=seed), start=start, step=batch)


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


def read_ahead_threads() -> int:
    return sum(thread.name.startswith("read-ahead") for thread in threading.enumerate())


def wait_until(true) -> None:
    end = time.monotonic() + 20
    while not true() and time.monotonic() < end:
        time.sleep(0.01)
    assert true()


def test_batches_that_are_read_ahead_are_those_of_tf_data(store):
    """A training under another backend would see other slices than under TensorFlow."""
    indices = store.indices("train")
    batches = ReadAhead(slice_reader(store, indices, batch=5, seed=9), start=10, step=5)
    for expected in slice_batches(store, indices, batch=5, seed=9, start=10).take(9).as_numpy_iterator():
        batch = next(batches)
        assert batch.keys() == expected.keys()
        assert all(np.array_equal(batch[name], expected[name]) for name in expected)
    batches.close()


def test_no_more_is_read_ahead_than_said():
    """A large store would fill the memory while the first step is compiled."""
    read = []
    batches = ReadAhead(lambda place: read.append(place) or {}, start=3, ahead=2)
    wait_until(lambda: read == [3, 4])
    next(batches)
    wait_until(lambda: read == [3, 4, 5])
    time.sleep(0.05)
    assert read == [3, 4, 5]
    batches.close()


def test_the_thread_ends_when_the_stream_is_closed_or_forgotten():
    """A study of a hundred trainings would end with a hundred threads."""
    before = read_ahead_threads()
    closed, forgotten = (ReadAhead(lambda place: {}, start=0) for _ in range(2))
    next(closed), next(forgotten)
    closed.close()
    assert list(closed) == []
    del forgotten
    gc.collect()
    wait_until(lambda: read_ahead_threads() == before)


def test_what_reading_raises_reaches_the_training():
    """A training would wait for ever for a batch of a disk that is gone."""

    def read(place):
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        next(ReadAhead(read, start=0))


def test_a_stream_has_no_tuner(store):
    """A tuner sleeps for up to a minute before an iterator may end: every training would wait for it at its end."""
    stream = as_dataset(slice_reader(store, store.indices("train"), batch=2, seed=0), start=0)
    assert stream.options().autotune.enabled is False
