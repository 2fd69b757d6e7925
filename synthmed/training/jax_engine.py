"""What a training step needs of JAX: gradients, compiled phases, random numbers, and devices that share a batch.

See `tensorflow_engine` for the other one; what both compute is in `forward`, `losses`, `planes` and `augmentation`.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

from synthmed.layers.counter_random import words
from synthmed.models.generators import draw_items
from synthmed.training.engine import Engine, lazy_settings
from synthmed.training.jax_devices import JaxDevices
from synthmed.training.jax_phases import SCALARS, Phases, Report, State
from synthmed.training.jax_random import JaxNumbers
from synthmed.training.networks import Networks, one_hot_mask, split_planes
from synthmed.training.options import TrainOptions
from synthmed.training.sharing import check_share

# How many steps an accelerator takes at a time: its host is then asked for one thing where it was for thirty.
STEPS_AHEAD = 10
# Batches that are on their way to the device before they are asked for.
BATCHES_AHEAD = 2
# Dispatches that wait for the device: one, so that it never idles, and Ctrl-C is heard after two.
IN_FLIGHT = 2


class JaxEngine(Engine):
    """The phases of a training step as compiled JAX functions.

    Between steps all values live in a state of JAX arrays that each step gives away for the next; the Keras variables
    hold them only after `state` has been called.

    On one step at a time each phase is a program of its own. On several, one program does whole steps in a loop of any
    length, so that what a run comes to does not depend on where its logs and checkpoints cut it.

    Several devices share a batch as `keras.distribution.DataParallel` lays it out: weights on all, slices on each its
    part. What is computed is that of one device with the whole batch.

    Args:
        networks: The networks to train, built in the scope of the devices.
        options: Resolved options.
        devices: What they are trained on.

    Raises:
        UserError: If the batch does not divide among the devices, or they have not the number format of the options.
    """

    def __init__(self, networks: Networks, options: TrainOptions, devices: JaxDevices):
        self.devices = devices
        check_share(options, devices.replicas)
        devices.check_precision(options)
        with devices.scope():
            super().__init__(networks, options, make_optimizer)
        numbers = JaxNumbers(options, networks.generator, devices.share)
        self.phases = Phases(self, numbers, devices.share, devices.spread)
        self.ahead = options.steps_ahead or (STEPS_AHEAD if devices.accelerator else 1)
        self.main = self._compiled(self.phases.main)
        self.path = self._compiled(self.phases.path)
        self.penalty = self._compiled(self.phases.penalty)
        self.average = self._compiled(self.phases.average)
        self._loop = self._compiled(self._many)
        self._draw_average = jax.jit(self._drawn)
        self._one = jax.jit(self._whole)
        self._state: State | None = None
        self._in_flight: deque[Report] = deque()

    def state(self) -> dict[str, Any]:
        """Return every variable that the next step depends on; see `Engine.state`."""
        self._hand_back()
        return super().state()

    def scale_learning_rate(self, scale: float) -> None:
        """Set both optimisers to `scale` times the learning rate of the options."""
        self._hand_back()
        super().scale_learning_rate(scale)

    def feed(self, batches: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Return the batches on the devices, the next ones on their way before they are asked for."""
        coming: deque[dict[str, Any]] = deque()
        try:
            for batch in batches:
                coming.append({name: self.devices.put(value) for name, value in batch.items()})
                if len(coming) > BATCHES_AHEAD:
                    yield coming.popleft()
            yield from coming
        finally:
            if close := getattr(batches, "close", None):
                close()

    def steps(self, number: int, batches: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Do a step for each batch; see `Engine.steps`."""
        while len(self._in_flight) >= IN_FLIGHT:
            jax.block_until_ready(self._in_flight.popleft())
        if self.ahead == 1:
            return [self._step(number + place, batch) for place, batch in enumerate(batches)]
        count = len(batches)
        padded = (*batches, *[batches[-1]] * (self.ahead - count))
        decays = np.array([self.decay(number + place) for place in range(self.ahead)], np.float32)
        self._state, report = self._loop(self._held(), padded, np.int32(number), decays, np.int32(count))
        self._in_flight.append(report)
        return [
            {name: Later(values, place) for name, values in report.items() if self._due(name, number + place)}
            for place in range(count)
        ]

    def draw(self, seeds: np.ndarray, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Draw items from the averaged generator; see `Engine.draw`."""
        network = self.networks.average
        mask = one_hot_mask(batch["label"], network.classes) if network.variant == "cond" else None
        attributes = network.attributes(batch.get("position"), batch.get("shown"))
        # Before JAX, which has 32-bit integers only, cuts off half of a seed.
        key = words(np.asarray(seeds, np.int64))
        planes = self._draw_average(self._held(), key, mask, attributes)
        parts = split_planes(planes, image_channels=network.image_channels, mask_classes=network.mask_classes)
        return {name: np.asarray(part) for name, part in parts.items()}

    def _step(self, number: int, batch: dict[str, Any]) -> Report:
        index = np.int32(number)
        state, report = self.main(self._held(), batch, index)
        if self.path_due(number):
            state, part = self.path(state, batch, index)
            report |= part
        if self.penalty_due(number):
            state, part = self.penalty(state, batch, index)
            report |= part
        self._state = self.average(state, np.float32(self.decay(number)))
        self._in_flight.append(report)
        return report

    def _many(self, state: State, batches: tuple, first: Any, decays: Any, count: Any) -> tuple[State, Report]:
        """Do `count` steps and return the state and what they report, an array of each number."""
        stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *batches)

        def one(state: State, place: Any) -> tuple[State, Report]:
            batch = {name: values[place] for name, values in stacked.items()}
            return self._one(state, batch, first + place, decays[place])

        def body(place: Any, carry: tuple[State, Report]) -> tuple[State, Report]:
            state, report = one(carry[0], place)
            return state, {name: carry[1][name].at[place].set(value) for name, value in report.items()}

        names = jax.eval_shape(one, state, first)[1]
        return jax.lax.fori_loop(0, count, body, (state, {name: jnp.zeros(self.ahead) for name in names}))

    def _whole(self, state: State, batch: dict[str, Any], number: Any, decay: Any) -> tuple[State, Report]:
        """Do one step, the regularisers where they are due, and return what it reports: zeros where they are not."""
        state, report = self.phases.main(state, batch, number)
        for every, phase, names in (
            (self.path_every, self.phases.path, self._path_names),
            (self.penalty_every, self.phases.penalty, self.phases.penalties),
        ):
            if not every:
                continue
            nothing = {name: jnp.float32(0.0) for name in names}
            state, part = jax.lax.cond(
                number % every == 0, phase, lambda state, *_, nothing=nothing: (state, nothing), state, batch, number
            )
            report = report | part
        return self.phases.average(state, decay), report

    _path_names = ("path_length", "path_penalty")

    def _due(self, name: str, number: int) -> bool:
        if name in self._path_names:
            return self.path_due(number)
        return name not in self.phases.penalties or self.penalty_due(number)

    def _drawn(self, state: State, key: Any, mask: Any, attributes: Any) -> Any:
        with self.phases.scope(state):
            return draw_items(self.networks.average, key, jnp.ones(key[0].shape[0]), mask, attributes)

    def _compiled(self, phase: Callable[..., Any]) -> Callable[..., Any]:
        return jax.jit(phase, donate_argnums=0)

    def _variables(self) -> dict[str, list[keras.Variable]]:
        return self.phases.variables | {
            "generator_optimizer": self.generator_optimizer.variables,
            "discriminator_optimizer": self.discriminator_optimizer.variables,
        }

    def _held(self) -> State:
        """Return the state that the next step starts from, from the Keras variables where they were handed back."""
        if self._state is None:
            state: State = {name: [one.value for one in group] for name, group in self._variables().items()}
            self._state = self.devices.hold(state | {name: getattr(self, name).value for name in SCALARS})
        return self._state

    def _hand_back(self) -> None:
        """Give the Keras variables their values."""
        if self._state is None:
            return
        state, self._state = self._state, None
        for name, group in self._variables().items():
            for variable, value in zip(group, state[name], strict=True):
                variable.assign(value)
        for name in SCALARS:
            getattr(self, name).assign(state[name])


class Later:
    """One number of several steps' report; `float` of it waits until they are done."""

    def __init__(self, values: jax.Array, place: int):
        self._values = values
        self._place = place

    def __float__(self) -> float:
        return float(np.asarray(self._values)[self._place])


def make_optimizer(learning_rate: float, every: int, network: keras.Model) -> keras.optimizers.Adam:
    """Build the optimiser of a network; its variables are those of the TensorFlow engine's.

    Args:
        learning_rate: Without lazy regularisation.
        every: Steps between those of the regulariser, 0 for none; see `losses.lazy_adam`.
        network: Whose trainable weights it updates.
    """
    optimizer = keras.optimizers.Adam(**lazy_settings(learning_rate, every), name="adam")
    optimizer.build(network.trainable_variables)
    return optimizer
