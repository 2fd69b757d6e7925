"""The order in which training sees slices: a function of seed and epoch, so that a position in it is one number."""

import numpy as np

from synthmed.data._philox import permutation


class SliceOrder:
    """An endless sequence of epochs, each a permutation of `count` items.

    Args:
        count: Items in an epoch, at least 1.
        seed: Which sequence.
    """

    def __init__(self, count: int, seed: int):
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        self.count = count
        self.seed = seed
        self._epoch = -1
        self._permutation = np.empty(0, np.int64)

    def take(self, position: int, n: int) -> np.ndarray:
        """Return the `n` items from `position` on as int64; position counts all items since the first epoch."""
        if position < 0 or n < 0:
            raise ValueError(f"position and n must not be negative, got {position} and {n}")
        parts = []
        while n > 0:
            epoch, within = divmod(position, self.count)
            part = self._of_epoch(epoch)[within : within + n]
            parts.append(part)
            position, n = position + len(part), n - len(part)
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def _of_epoch(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            self._permutation = permutation(self.seed, epoch, self.count)
            self._epoch = epoch
        return self._permutation
