import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from scipy import stats

from synthmed.layers import counter_random


def words(*values):
    return tuple(ops.convert_to_tensor(np.array([value], np.uint32)) for value in values)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_known_answers_of_threefry(counter, key, expected):
    """A user would lose repeatable samples: these are the answers that Random123 publishes for 20 rounds."""
    outputs = counter_random.threefry2x32(words(*key), words(*counter))
    assert tuple(int(value[0]) for value in outputs) == expected


def test_normal_numbers_are_normal_and_independent_of_stream_and_seed():
    """A user would lose the diversity of samples if latents were not normal or shared numbers."""
    first = np.asarray(counter_random.normal(np.arange(16), stream=0, shape=(50, 20)))
    second = np.asarray(counter_random.normal(np.arange(16), stream=1, shape=(50, 20)))
    assert stats.kstest(first.ravel(), "norm").pvalue > 1e-3
    assert abs(stats.pearsonr(first.ravel(), second.ravel()).statistic) < 0.03
    correlations = np.corrcoef(first.reshape(16, -1)) - np.eye(16)
    assert np.abs(correlations).max() < 0.15


def numpy_bits(seed: int, stream: int, count: int) -> np.ndarray:
    """Threefry-2x32-20 as its paper states it, for one seed, in Python's own integers."""
    mask = 2**32 - 1
    key = [seed & mask, (seed >> 32) & mask]
    key.append(key[0] ^ key[1] ^ 0x1BD11BDA)
    numbers: list[int] = []
    for position in range((count + 1) // 2):
        x, y = (position + key[0]) & mask, (stream + key[1]) & mask
        for turn in range(20):
            places = [13, 15, 26, 6, 17, 29, 16, 24][turn % 8]
            x = (x + y) & mask
            y = ((y << places | y >> (32 - places)) & mask) ^ x
            if turn % 4 == 3:
                group = turn // 4 + 1
                x, y = (x + key[group % 3]) & mask, (y + key[(group + 1) % 3] + group) & mask
        numbers += [x, y]
    return np.array(numbers[:count], np.uint32)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(-(2**63), 2**63 - 1), stream=st.integers(0, 5000))
def test_numbers_are_the_same_on_every_backend(seed, stream):
    """A user would get other samples from the same seed under another Keras backend: all equal this formula."""
    ours = counter_random.bits(np.array([seed], np.int64), stream=stream, count=5)
    np.testing.assert_array_equal(np.asarray(ours)[0], numpy_bits(seed, stream, 5))


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_numbers_are_the_same_for_tensors_and_arrays(dtype):
    """A user would get other samples from a compiled network than from the same one called by hand."""
    seeds = np.array([0, 7, -5, 2**31 - 1, -(2**31)])
    tensors = counter_random.bits(ops.cast(ops.convert_to_tensor(seeds.astype("int32")), dtype), stream=2, count=3)
    np.testing.assert_array_equal(np.asarray(tensors), [numpy_bits(int(seed), 2, 3) for seed in seeds])


@settings(max_examples=20, deadline=None)
@given(seeds=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=5), count=st.integers(1, 9))
def test_an_item_does_not_depend_on_its_neighbours_or_on_how_much_is_drawn(seeds, count):
    """A user would lose sharding: item k must be the same in every batch."""
    together = np.asarray(counter_random.bits(np.array(seeds, np.int64), stream=3, count=count))
    longer = np.asarray(counter_random.bits(np.array(seeds, np.int64), stream=3, count=count + 4))
    np.testing.assert_array_equal(together, longer[:, :count])
    for row, seed in zip(together, seeds, strict=True):
        np.testing.assert_array_equal(row, counter_random.bits(np.array([seed], np.int64), stream=3, count=count)[0])


def test_seeds_beyond_32_bits_differ():
    """A user would get the same sample twice from a large set if only the low word counted."""
    numbers = np.asarray(counter_random.bits(np.array([5, 5 + 2**32, -5], np.int64), stream=0, count=4))
    assert len({tuple(row) for row in numbers}) == 3
