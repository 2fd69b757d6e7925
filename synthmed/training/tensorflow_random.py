"""The random numbers of a training step, by TensorFlow: functions of the run's seed and the number of the step."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from synthmed.models.generators import SliceGenerator
from synthmed.training.augmentation import noise_shape, numbers_shape
from synthmed.training.drawing import Draw
from synthmed.training.forward import Chance
from synthmed.training.options import TrainOptions

# Each phase draws from a sequence of its own, so that switching one off does not change the others.
MAIN, PATH, PENALTY = 0, 1, 2
PHASES = 4
# The streams of a phase: latent codes, noise maps, what path lengths are measured along, augmentations.
Z, MIXES, CUT, Z_MIXED, NOISE, DIRECTIONS, AUGMENTATION = 0, 1, 2, 3, 4, 255, 256
STREAMS = 512


class StepNumbers:
    """Draws what a step needs, for the whole batch, and gives each replica its part.

    Args:
        options: Resolved options.
        generator: Whose latent codes and noise maps are drawn.
        share: Takes numbers of the whole batch and returns those of this replica.
    """

    def __init__(self, options: TrainOptions, generator: SliceGenerator, share: Callable[[Any], Any]):
        self.options = options
        self.generator = generator
        self.share = share

    def draw(self, number: Any, phase: int, batch: int) -> Draw:
        """Return the random numbers of a generated batch.

        Args:
            number: Of the step, an int32 tensor.
            phase: `MAIN`, `PATH` or `PENALTY`.
            batch: Slices of all replicas.
        """
        generator = self.generator
        z, z_mixed = (self._normal((batch, generator.z_dim), number, phase, stream) for stream in (Z, Z_MIXED))
        mixes = tf.random.stateless_uniform((batch,), seed=self._seed(number, phase, MIXES)) < self.options.style_mixing
        cut = tf.random.stateless_uniform(
            (batch,), seed=self._seed(number, phase, CUT), minval=1, maxval=generator.num_ws, dtype=tf.int32
        )
        noise = [
            self._normal((batch, *size, 1), number, phase, NOISE + layer)
            for layer, size in enumerate(generator.noise_sizes)
        ]
        return Draw(z, z_mixed, self.share(tf.where(mixes, cut, generator.num_ws)), noise)

    def directions(self, number: Any, shape: tuple[int, ...]) -> Any:
        """Return the standard normal planes along which path lengths are measured."""
        return self._normal(shape, number, PATH, DIRECTIONS)

    def chance(self, number: Any, phase: int, place: int) -> Chance | None:
        """Return the random numbers that augment one of a phase's batches; None where nothing is augmented.

        Args:
            number: Of the step.
            phase: `MAIN` or `PENALTY`.
            place: Which of the phase's batches.
        """
        operations = self.options.augment_operations or ()
        if not operations:
            return None
        batch, stream = self.options.batch, AUGMENTATION + 2 * place
        uniform = tf.random.stateless_uniform(numbers_shape(batch), seed=self._seed(number, phase, stream))
        if "noise" not in operations:
            return Chance(self.share(uniform))
        shape = noise_shape(batch, *self.generator.size, self.generator.image_channels)
        return Chance(self.share(uniform), self._normal(shape, number, phase, stream + 1))

    def _normal(self, shape: tuple[int, ...], number: Any, phase: int, stream: int) -> Any:
        return self.share(tf.random.stateless_normal(shape, seed=self._seed(number, phase, stream)))

    def _seed(self, number: Any, phase: int, stream: int) -> Any:
        sequence = (self.options.seed * PHASES + phase) * STREAMS + stream
        return tf.stack([tf.constant(sequence, tf.int64), tf.cast(number, tf.int64)])
