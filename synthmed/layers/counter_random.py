"""Random numbers that follow from a seed and a position alone, the same on every backend and behind every server.

Threefry-2x32 with 20 rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) encrypts a
counter with a key. The key is the item's seed; the counter is (position, stream), so that latent codes, the noise of
each layer and the choice of a template never share numbers. It uses additions, rotations and exclusive-or of 32-bit
integers only, which every Keras backend has.
"""

import math

import keras
import numpy as np
from keras import ops

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA


def threefry2x32(key, counter):
    """Encrypt counters with keys.

    Args:
        key: Pair of uint32 tensors.
        counter: Pair of uint32 tensors that broadcast with the keys.

    Returns:
        Pair of uint32 tensors, uniformly distributed.
    """
    keys = (key[0], key[1], ops.bitwise_xor(ops.bitwise_xor(key[0], key[1]), _uint32(PARITY)))
    x, y = counter[0] + keys[0], counter[1] + keys[1]
    for group in range(5):
        for rotation in ROTATIONS[group % 2]:
            x = x + y
            y = ops.bitwise_xor(_rotate_left(y, rotation), x)
        x = x + keys[(group + 1) % 3]
        y = y + keys[(group + 2) % 3] + _uint32(group + 1)
    return x, y


def bits(seed, *, stream: int, count: int):
    """Return uint32 `(batch, count)` for integer seeds `(batch,)`.

    Args:
        seed: int64 `(batch,)` item seeds; on a backend that has 32 bits only a NumPy array of them, or what
            `split_uint64` makes of it.
        stream: Which of the independent sequences of an item, from 0.
        count: How many numbers an item.
    """
    low, high = _key(seed)
    position = ops.cast(ops.arange((count + 1) // 2, dtype="int32"), "uint32")[None, :]
    x, y = threefry2x32((low[:, None], high[:, None]), (position, _uint32(stream)))
    return ops.reshape(ops.stack([x, y], axis=-1), (ops.shape(x)[0], -1))[:, :count]


def uniform(seed, *, stream: int, count: int):
    """Return float32 `(batch, count)` in (0, 1), never 0 or 1."""
    # 24 bits is what a float32 holds; half a step keeps the logarithm of the normal numbers finite.
    upper = ops.cast(ops.right_shift(bits(seed, stream=stream, count=count), _uint32(8)), "float32")
    return (upper + 0.5) * 2.0**-24


def normal(seed, *, stream: int, shape: tuple[int, ...]):
    """Return standard normal float32 `(batch, *shape)` by the Box-Muller transform."""
    count = math.prod(shape)
    pairs = (count + 1) // 2
    numbers = uniform(seed, stream=stream, count=2 * pairs)
    radius = ops.sqrt(-2.0 * ops.log(numbers[:, :pairs]))
    angle = 2.0 * math.pi * numbers[:, pairs:]
    values = ops.concatenate([radius * ops.cos(angle), radius * ops.sin(angle)], axis=1)[:, :count]
    return ops.reshape(values, (-1, *shape))


def split_uint64(seed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and the upper uint32 halves of int64 seeds; functions that are compiled can be given these."""
    whole = np.asarray(seed, np.int64).view(np.uint64)
    return (whole & 0xFFFFFFFF).astype(np.uint32), (whole >> 32).astype(np.uint32)


def _key(seed):
    if isinstance(seed, tuple):
        return tuple(ops.convert_to_tensor(word) for word in seed)
    if not ops.is_tensor(seed):
        # Split before a backend without 64-bit integers, as JAX is by default, cuts off the upper half.
        return _key(split_uint64(seed))
    if keras.backend.standardize_dtype(seed.dtype) != "int64":
        # The sign fills the upper half, as it does in int64.
        high = ops.where(seed < 0, _uint32(0xFFFFFFFF), _uint32(0))
        return ops.cast(seed, "uint32"), high
    low = ops.bitwise_and(seed, ops.cast(0xFFFFFFFF, "int64"))
    high = ops.bitwise_and(ops.right_shift(seed, ops.cast(32, "int64")), ops.cast(0xFFFFFFFF, "int64"))
    return ops.cast(low, "uint32"), ops.cast(high, "uint32")


def _rotate_left(value, places: int):
    return ops.bitwise_or(ops.left_shift(value, _uint32(places)), ops.right_shift(value, _uint32(32 - places)))


def _uint32(value: int):
    return ops.cast(value, "uint32")
