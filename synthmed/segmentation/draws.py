"""Random numbers inside tf.data that follow from a training's seed and the number of its step alone."""

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow as tf

_STREAMS = 64


class Draws:
    """Uniform and normal numbers from one stream per call, keyed by seed and step.

    Args:
        seed: Of the training.
        step: Number of the training step, int64 scalar.
    """

    def __init__(self, seed: int, step: "tf.Tensor"):
        self._seed, self._step, self._calls = seed, step, 0

    def uniform(self, shape: Any, low: float = 0.0, high: float = 1.0) -> "tf.Tensor":
        """Return numbers evenly spread over low..high."""
        import tensorflow as tf

        return tf.random.stateless_uniform(shape, self._key(), low, high)

    def normal(self, shape: Any) -> "tf.Tensor":
        """Return numbers of mean 0 and standard deviation 1."""
        import tensorflow as tf

        return tf.random.stateless_normal(shape, self._key())

    def factor(self, shape: Any, range_: float) -> "tf.Tensor":
        """Return factors from 1 / (1 + range) to 1 + range, as likely to enlarge as to shrink."""
        import tensorflow as tf

        limit = math.log1p(range_)
        return tf.exp(self.uniform(shape, -limit, limit))

    def _key(self) -> "tf.Tensor":
        import tensorflow as tf

        self._calls += 1
        if self._calls >= _STREAMS:
            raise RuntimeError("more draws a step than streams: two of them would share their numbers")
        return tf.stack([tf.constant(self._seed * _STREAMS + self._calls, tf.int64), tf.cast(self._step, tf.int64)])
