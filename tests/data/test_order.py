"""Tests of synthmed.data.selection."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthmed.data.selection import SliceOrder


@settings(deadline=None, max_examples=50)
@given(
    count=st.integers(1, 40),
    seed=st.integers(0, 2**70),
    position=st.integers(0, 200),
    parts=st.lists(st.integers(0, 60), max_size=6),
)
def test_any_partition_of_the_sequence_gives_the_same_items(count, seed, position, parts):
    """A resumed training would see other slices than an undisturbed one if a position were more than one number."""
    whole = SliceOrder(count, seed).take(0, position + sum(parts))
    for length in parts:
        # A new object each time: nothing may depend on what was taken before.
        np.testing.assert_array_equal(
            SliceOrder(count, seed).take(position, length), whole[position : position + length]
        )
        position += length


@settings(deadline=None, max_examples=50)
@given(count=st.integers(1, 100), seed=st.integers(0, 2**32), epoch=st.integers(0, 50))
def test_each_epoch_holds_every_item_once(count, seed, epoch):
    """Slices would be missed or repeated, and small sets have none to lose."""
    taken = SliceOrder(count, seed).take(epoch * count, count)
    np.testing.assert_array_equal(np.sort(taken), np.arange(count))


def test_epochs_and_seeds_differ():
    """Training would see the same batches again and again."""
    order = SliceOrder(200, seed=1)
    assert not np.array_equal(order.take(0, 200), order.take(200, 200))
    assert not np.array_equal(order.take(0, 200), SliceOrder(200, seed=2).take(0, 200))


def test_first_places_are_uniform():
    """A biased order would show some patients more often at the start of every run."""
    firsts = [int(SliceOrder(8, seed).take(0, 1)[0]) for seed in range(2000)]
    # Each of 8 items is expected 250 times with a standard deviation of 15.
    assert np.abs(np.bincount(firsts, minlength=8) - 250).max() < 75


def test_nothing_to_order_is_refused():
    """An empty split would otherwise end in an endless loop."""
    with pytest.raises(ValueError, match="at least 1"):
        SliceOrder(0, seed=0)
