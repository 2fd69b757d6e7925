"""The random numbers of a training step: functions of the run's seed and the number of the step."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from keras import ops

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


class StepNumbers(ABC):
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
        mixes = self.uniform((batch,), self.key(number, phase, MIXES)) < self.options.style_mixing
        cut = self.whole((batch,), self.key(number, phase, CUT), low=1, high=generator.num_ws)
        noise = [
            self._normal((batch, *size, 1), number, phase, NOISE + layer)
            for layer, size in enumerate(generator.noise_sizes)
        ]
        return Draw(z, z_mixed, self.share(ops.where(mixes, cut, generator.num_ws)), noise)

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
        uniform = self.uniform(numbers_shape(batch), self.key(number, phase, stream))
        if "noise" not in operations:
            return Chance(self.share(uniform))
        shape = noise_shape(batch, *self.generator.size, self.generator.image_channels)
        return Chance(self.share(uniform), self._normal(shape, number, phase, stream + 1))

    @abstractmethod
    def key(self, number: Any, phase: int, stream: int) -> Any:
        """Return what the numbers of one stream of a step are drawn by."""

    @abstractmethod
    def uniform(self, shape: tuple[int, ...], key: Any) -> Any:
        """Return float32 numbers in [0, 1)."""

    @abstractmethod
    def normal(self, shape: tuple[int, ...], key: Any) -> Any:
        """Return standard normal float32 numbers."""

    @abstractmethod
    def whole(self, shape: tuple[int, ...], key: Any, *, low: int, high: int) -> Any:
        """Return int32 numbers from `low` to below `high`."""

    def _normal(self, shape: tuple[int, ...], number: Any, phase: int, stream: int) -> Any:
        return self.share(self.normal(shape, self.key(number, phase, stream)))
