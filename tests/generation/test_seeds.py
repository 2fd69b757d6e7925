"""Item seeds, case names and shards."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthmed.errors import UserError
from synthmed.generation.drawing import Shard, case_name
from synthmed.generation.generator import ITEMS_PER_SEED, MAX_SEED, item_seeds

seeds = st.integers(0, MAX_SEED)
items = st.integers(0, ITEMS_PER_SEED - 1)


@given(seeds, items, seeds, items)
def test_no_two_items_share_a_seed(seed, item, other_seed, other_item):
    """Two sets of different seeds would hold the same images under different names."""
    first, second = item_seeds(seed, item, item + 1)[0], item_seeds(other_seed, other_item, other_item + 1)[0]
    assert (first == second) == ((seed, item) == (other_seed, other_item))
    assert 0 <= first < 2**63


@given(seeds, items, items)
def test_names_sort_as_items(seed, item, other):
    """A user who lists the files would see the items out of order."""
    names = [case_name(int(item_seeds(seed, one, one + 1)[0])) for one in (item, other)]
    assert (names[0] < names[1]) == (item < other)
    assert len(names[0]) >= len("SYN_") + 8


@given(st.integers(1, 10**9), st.integers(1, 50))
def test_shards_cover_every_item_once(count, total):
    """A set made on several machines would lack items or have some twice."""
    if count < total:
        return
    bounds = [Shard(part, total).bounds(count) for part in range(1, total + 1)]
    assert bounds[0][0] == 0 and bounds[-1][1] == count
    assert all(before[1] == after[0] for before, after in zip(bounds, bounds[1:], strict=False))


@pytest.mark.parametrize("text", ["0/4", "5/4", "1/0", "1", "a/b", "-1/4", "1/4/2", ""])
def test_wrong_shard_is_conditional(text):
    """A mistyped shard would silently draw another part of the set."""
    with pytest.raises(UserError, match="--shard"):
        Shard.parse(text)


def test_empty_shard_is_conditional():
    """A machine would write an empty set."""
    with pytest.raises(UserError, match="empty"):
        Shard.parse("1/5").bounds(3)


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1])
def test_seed_out_of_range_is_conditional(seed):
    """Its items would overflow into those of another seed."""
    with pytest.raises(UserError, match="--seed"):
        item_seeds(seed, 0, 1)
