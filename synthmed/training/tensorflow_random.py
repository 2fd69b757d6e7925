"""The random numbers of a training step, by TensorFlow."""

from typing import Any

import tensorflow as tf

from synthmed.training.step_numbers import PHASES, STREAMS, StepNumbers


class TensorFlowNumbers(StepNumbers):
    """Draws by TensorFlow's stateless generators."""

    def key(self, number: Any, phase: int, stream: int) -> Any:
        """Return a pair of int64: the sequence of the seed, the phase and the stream, and the step."""
        sequence = (self.options.seed * PHASES + phase) * STREAMS + stream
        return tf.stack([tf.constant(sequence, tf.int64), tf.cast(number, tf.int64)])

    def uniform(self, shape: tuple[int, ...], key: Any) -> Any:
        """Return float32 numbers in [0, 1)."""
        return tf.random.stateless_uniform(shape, seed=key)

    def normal(self, shape: tuple[int, ...], key: Any) -> Any:
        """Return standard normal float32 numbers."""
        return tf.random.stateless_normal(shape, seed=key)

    def whole(self, shape: tuple[int, ...], key: Any, *, low: int, high: int) -> Any:
        """Return int32 numbers from `low` to below `high`."""
        return tf.random.stateless_uniform(shape, seed=key, minval=low, maxval=high, dtype=tf.int32)
