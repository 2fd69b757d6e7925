"""What training needs of a backend, and what all backends share of it: variables by name, and when a phase is due."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from synthmed.training import losses
from synthmed.training.networks import Networks
from synthmed.training.options import TrainOptions

# The sign of D(real) is averaged over about ten batches: that of one batch is mostly chance.
SIGN_DECAY = 0.9

MakeOptimizer = Callable[[float, int, keras.Model], keras.optimizers.Optimizer]


class Engine(ABC):
    """The phases of a training step.

    Generator and discriminator are updated from one forward pass over the same generated batch: the usual alternation
    draws and judges a second batch for the same information.

    Args:
        networks: The networks to train.
        options: Resolved options.
        make_optimizer: Takes a learning rate, the steps between those of the regulariser (0 for none) and a network.

    Attributes:
        ahead: How many steps `steps` takes at most.
    """

    ahead = 1

    def __init__(self, networks: Networks, options: TrainOptions, make_optimizer: MakeOptimizer):
        self.networks = networks
        self.options = options
        self.path_mean = _scalar("path_mean")
        self.probability = _scalar("augment_probability", 1.0 if options.augment == "diff" else 0.0)
        self.sign_mean = _scalar("sign_mean")
        rate = options.learning_rate
        self.generator_optimizer = make_optimizer(rate, self.path_every, networks.generator)
        self.discriminator_optimizer = make_optimizer(rate, self.penalty_every, networks.discriminator)

    @property
    def path_every(self) -> int:
        """Steps between those of the path length regulariser; 0 where there is none."""
        return self.options.path_every if self.options.path_weight else 0

    @property
    def penalty_every(self) -> int:
        """Steps between those of the gradient penalty; 0 where there is none."""
        return (self.options.r1_every or 1) if self.options.r1_gamma else 0

    def path_due(self, number: int) -> bool:
        """Tell whether a step regularises path lengths."""
        return bool(self.path_every) and number % self.path_every == 0

    def penalty_due(self, number: int) -> bool:
        """Tell whether a step penalises the discriminator's gradients."""
        return bool(self.penalty_every) and number % self.penalty_every == 0

    def decay(self, number: int) -> float:
        """Return the decay of the averaged generator at a step."""
        options = self.options
        return losses.ema_decay(
            batch=options.batch,
            shown=(number + 1) * options.batch,
            ema_kimg=options.ema_kimg or 1.0,
            rampup=options.ema_rampup,
        )

    def state(self) -> dict[str, Any]:
        """Return every variable that the next step depends on, by a name that is stable between processes and backends.

        Values that are assigned to them count from the next step on; after it, they are to be asked for anew.
        """
        state = {f"{owner}/{variable.path}": variable for owner, group in self._owners().items() for variable in group}
        if len(state) != sum(len(group) for group in self._owners().values()):
            raise RuntimeError("two variables share a path: a checkpoint would lose one of them")
        return state | {variable.name: variable for variable in (self.path_mean, self.probability, self.sign_mean)}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return copies of all values of `state`, in the number formats of a checkpoint."""
        return {name: _portable(np.asarray(variable).copy()) for name, variable in self.state().items()}

    def scale_learning_rate(self, scale: float) -> None:
        """Set both optimisers to `scale` times the learning rate of the options."""
        optimizers = (self.generator_optimizer, self.discriminator_optimizer)
        for optimizer, every in zip(optimizers, (self.path_every, self.penalty_every), strict=True):
            optimizer.learning_rate = lazy_rate(self.options.learning_rate, every) * scale

    def feed(self, batches: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Return the batches as `steps` takes them, on the device where it is one of its own."""
        return iter(batches)

    def step(self, number: int, batch: dict[str, Any]) -> dict[str, Any]:
        """Do one step; see `steps`."""
        return self.steps(number, [batch])[0]

    @abstractmethod
    def steps(self, number: int, batches: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Do a step for each batch, with the regularisers as they fall due, and return what each has to log.

        Args:
            number: Number of the first step, from 0; with the seed it decides all random numbers.
            batches: One to `ahead` of them: "image" `(batch, height, width, channels)` in [-1, 1] and "label" `(batch,
                height, width)`, of all replicas; "position" `(batch,)` and "shown" `(batch, classes - 1)` where the
                networks are told them, "labelled" `(batch,)` where not all are.

        Returns:
            For each step numbers by name. `float` of one waits until the step is done.
        """

    @abstractmethod
    def draw(self, seeds: np.ndarray, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Draw items from the averaged generator, as many as there are seeds.

        Args:
            seeds: int64 `(n,)`.
            batch: What `cond` is given ("label") and the networks are told ("position", "shown").
        """

    def _owners(self) -> dict[str, list[keras.Variable]]:
        return {
            "generator": self.networks.generator.variables,
            "average": self.networks.average.variables,
            "discriminator": self.networks.discriminator.variables,
            "generator_optimizer": self.generator_optimizer.variables,
            "discriminator_optimizer": self.discriminator_optimizer.variables,
        }


def lazy_rate(learning_rate: float, every: int) -> float:
    """Return the learning rate of an optimiser whose regulariser adds a step every `every` steps, 0 for none."""
    return lazy_settings(learning_rate, every)["learning_rate"]


def lazy_settings(learning_rate: float, every: int) -> dict[str, float]:
    """Return Adam's settings; see `losses.lazy_adam`, but for `every`, which is 0 where there is no regulariser."""
    return losses.lazy_adam(learning_rate, every or 10**9)


def _scalar(name: str, value: float = 0.0) -> keras.Variable:
    return keras.Variable(value, trainable=False, name=name, dtype="float32")


def _portable(array: np.ndarray) -> np.ndarray:
    """Return integers with the 64 bits that they have in a checkpoint; some backends know 32 alone."""
    return array.astype(np.int64) if array.dtype.kind == "i" else array
