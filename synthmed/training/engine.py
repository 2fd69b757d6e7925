"""What a method of training supplies, and what an engine makes of it on a backend: compiled steps, state by name.

A method (`adversarial.Adversarial`) writes its step once, in `keras.ops`, as phases that are due every so many steps.
An engine (`tensorflow_backend`, `jax_backend`) supplies what `keras.ops` has not: gradients, random numbers of a step,
the replicas that share a batch, and compilation.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from synthmed.training.options import ResolvedOptions

Report = dict[str, Any]

# Each phase draws from a sequence of its own, so that switching one off does not change the others.
PHASES, STREAMS = 4, 512


class Key(NamedTuple):
    """Which random numbers of a run: those of a step, one of its phases, and one of the phase's streams."""

    step: Any
    phase: int
    stream: int


class Phase(NamedTuple):
    """Part of a training step.

    Attributes:
        every: It is due at every so many steps, the first one included; 0 for never.
        run: Takes the engine, the whole batch and the number of the step; computes on the replica's share of the batch,
            updates networks and returns numbers by name.
        settle: Takes the means of those numbers over the replicas, updates what all replicas share, and returns the
            numbers to log.
    """

    every: int
    run: Callable[["Engine", dict[str, Any], Any], Report]
    settle: Callable[[Report], Report] = lambda report: report

    def due(self, number: int) -> bool:
        """Tell whether it is due at a step."""
        return bool(self.every) and number % self.every == 0


class Method(ABC):
    """A way to train a generator.

    Attributes:
        options: Options of the run.
        networks: Its networks by name; the generator that draws is "average".
        adam: Settings of Adam, by the name of each network that is trained.
        scalars: Further variables that a step depends on.
        phases: The phases of a step, by name, in their order.
    """

    options: ResolvedOptions
    networks: Mapping[str, keras.Model]
    adam: Mapping[str, dict[str, float]]
    scalars: Sequence[keras.Variable]
    phases: Mapping[str, Phase]

    @abstractmethod
    def decay(self, number: int) -> float:
        """Return the decay of the averaged generator at a step."""

    @abstractmethod
    def draw(self, seeds: Any, psi: Any, batch: dict[str, Any]) -> dict[str, Any]:
        """Draw from the averaged generator: "image" float32 and "mask" uint8, as far as it draws them.

        Args:
            seeds: int64 `(n,)`, or what `counter_random.split_uint64` makes of them.
            psi: `(n,)`, truncation; 1 is none.
            batch: "label", which is the condition of `cond`, and the conditioning "position" and "class_presence".
        """

    def average(self, decay: Any) -> None:
        """Move the averaged generator towards the generator."""
        generator, average = self.networks["generator"], self.networks["average"]
        for target, source in zip(average.trainable_variables, generator.trainable_variables, strict=True):
            target.assign(source + decay * (target - source))
        for target, source in zip(average.non_trainable_variables, generator.non_trainable_variables, strict=True):
            # A copy: two names of one array could not both be given away to the next step.
            target.assign(ops.copy(source))


class Engine(ABC):
    """Runs the steps of a method on a backend.

    Args:
        method: What to train, its networks built in the scope of the devices.

    Attributes:
        ahead: How many steps `steps` takes at most.
        replicas: How many of them share a batch; the gradients of all are added.
        adam_class: What Adam is on this backend; state, names and results are those of Keras's.
        optimizers: Adam of each network that is trained.
    """

    ahead = 1
    replicas = 1
    adam_class = keras.optimizers.Adam

    def __init__(self, method: Method):
        self.method = method
        self.options = method.options
        self.optimizers = {name: self.adam_class(**settings, name="adam") for name, settings in method.adam.items()}
        for name, optimizer in self.optimizers.items():
            optimizer.build(method.networks[name].trainable_variables)

    # What a method's phases ask of an engine.

    @abstractmethod
    def gradient(self, function: Callable[[Any], Any], inputs: Any) -> Any:
        """Return the gradient of a scalar function at a tensor; within `gradients`, it is differentiated once more."""

    @abstractmethod
    def gradients(self, function: Callable[[], tuple[dict[str, Any], Any]]) -> tuple[dict[str, list], Any]:
        """Return the gradient of a loss with respect to the trainable weights of each network, for this replica.

        Args:
            function: Returns losses of this replica, means over its slices, by the names of the networks that they
                are for, and what else is to be returned.
        """

    def update(self, name: str, gradients: list) -> None:
        """Let a network's optimiser take a step."""
        self.optimizers[name].apply(gradients)

    @abstractmethod
    def share(self, values: Any) -> Any:
        """Return this replica's part of a tensor of the whole batch."""

    @abstractmethod
    def mean(self, values: Any) -> Any:
        """Return the mean over the slices of all replicas."""

    @abstractmethod
    def uniform(self, shape: tuple[int, ...], key: Key) -> Any:
        """Return float32 numbers in [0, 1), for the whole batch."""

    @abstractmethod
    def normal(self, shape: tuple[int, ...], key: Key) -> Any:
        """Return standard normal float32 numbers, for the whole batch."""

    @abstractmethod
    def integers(self, shape: tuple[int, ...], key: Key, *, low: int, high: int) -> Any:
        """Return int32 numbers from `low` to below `high`, for the whole batch."""

    # What a trainer asks of an engine.

    def prefetch(self, batches: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Return the batches as `steps` takes them, on the device where it is one of its own."""
        return iter(batches)

    @abstractmethod
    def steps(self, number: int, batches: Sequence[dict[str, Any]]) -> list[Report]:
        """Do a step for each batch, with the phases that are due, and return what each has to log.

        Args:
            number: Number of the first step, from 0; with the seed it decides all random numbers.
            batches: One to `ahead` of them: "image" `(batch, height, width, channels)` in [-1, 1] and "label" `(batch,
                height, width)`, of all replicas; "position" `(batch,)` and "class_presence" `(batch, classes - 1)`
                where they condition the networks, "labelled" `(batch,)` where not all are.

        Returns:
            For each step numbers by name. `float` of one waits until the step is done.
        """

    def step(self, number: int, batch: dict[str, Any]) -> Report:
        """Do one step; see `steps`."""
        return self.steps(number, [batch])[0]

    @abstractmethod
    def draw(self, seeds: np.ndarray, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Draw items from the averaged generator for int64 seeds `(n,)`, without truncation; see `Method.draw`."""

    def state(self) -> dict[str, Any]:
        """Return every variable that the next step depends on, by a name that is stable between processes and backends.

        Values that are assigned to them count from the next step on; after it, they are to be asked for anew.
        """
        owners = {name: network.variables for name, network in self.method.networks.items()}
        owners |= {f"{name}_optimizer": optimizer.variables for name, optimizer in self.optimizers.items()}
        state = {f"{owner}/{variable.path}": variable for owner, group in owners.items() for variable in group}
        if len(state) != sum(len(group) for group in owners.values()):
            raise RuntimeError("two variables share a path: a checkpoint would lose one of them")
        return state | {variable.name: variable for variable in self.method.scalars}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return copies of all values of `state`, in the number formats of a checkpoint."""
        return {name: _portable(np.asarray(variable).copy()) for name, variable in self.state().items()}

    def scale_learning_rate(self, scale: float) -> None:
        """Set all optimisers to `scale` times the learning rate of the options."""
        for name, optimizer in self.optimizers.items():
            optimizer.learning_rate = self.method.adam[name]["learning_rate"] * scale


def _portable(array: np.ndarray) -> np.ndarray:
    """Return integers with the 64 bits that they have in a checkpoint; some backends know 32 alone."""
    return array.astype(np.int64) if array.dtype.kind == "i" else array
