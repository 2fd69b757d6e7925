"""Random words from NumPy's Philox bit generator, whose stream is fixed for all NumPy versions.

`Generator.permutation` may change between versions (NEP 19), the words of a bit generator may not.
"""

import numpy as np

_WORD = (1 << 64) - 1


def raw_words(seed: int, stream: int, count: int) -> np.ndarray:
    """Return `count` random uint64 that follow from `seed` and `stream` alone."""
    generator = np.random.Philox(key=np.array([seed & _WORD, stream & _WORD], np.uint64))
    return generator.random_raw(count)


def permutation(seed: int, stream: int, count: int) -> np.ndarray:
    """Return a permutation of `count` items (int64) that follows from `seed` and `stream` alone."""
    return np.argsort(raw_words(seed, stream, count), kind="stable")
