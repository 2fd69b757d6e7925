"""Training on JAX: the devices, gradients, compiled phases, and random numbers."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from keras import ops

from synthmed.errors import UserError
from synthmed.layers.counter_random import split_uint64
from synthmed.training.devices import Devices, check_share
from synthmed.training.engine import Engine, Key, Method, Phase, Report
from synthmed.training.options import TrainOptions

# NVIDIA's devices multiply bfloat16 from this compute capability on; XLA would convert it to float32 and back.
BFLOAT16_CAPABILITY = 8.0
CACHE_VARIABLE = "JAX_COMPILATION_CACHE_DIR"
# How many steps an accelerator takes at a time: its host is then asked for one thing where it was for thirty.
STEPS_AHEAD = 10
# Batches that are on their way to the device before they are asked for.
BATCHES_AHEAD = 2
# Dispatches that wait for the device: one, so that it never idles, and Ctrl-C is heard after two.
IN_FLIGHT = 2

# The values of all variables that a step depends on, in the order of `JaxEngine.variables`.
State = list[Any]


class JaxDevices(Devices):
    """How the devices of this machine share the work of a training under JAX.

    Args:
        devices: The devices; all are of one kind.

    Attributes:
        accelerator: Whether they are something else than this machine's processor.
    """

    def __init__(self, devices: list[jax.Device]):
        super().__init__()
        self.replicas = len(devices)
        self.device = devices[0]
        self.accelerator = self.device.platform != "cpu"
        self.distribution = None
        self._parts = self._all = None
        if self.replicas > 1:
            names = [f"{device.platform}:{device.id}" for device in devices]
            self.distribution = keras.distribution.DataParallel(devices=names, auto_shard_dataset=False)
            mesh = self.distribution.device_mesh.backend_mesh
            self._parts = NamedSharding(mesh, PartitionSpec(self.distribution.batch_dim_name))
            self._all = NamedSharding(mesh, PartitionSpec())

    @classmethod
    def of(cls, name: str) -> "JaxDevices":
        """Return the devices of an option `strategy`: "one" or "mirrored".

        Raises:
            UserError: If it is "workers", which is TensorFlow's.
        """
        if name == "workers":
            raise UserError(
                "--strategy workers needs TensorFlow: set KERAS_BACKEND=tensorflow, or train on this machine's devices "
                "with --strategy mirrored"
            )
        keep_compiled()
        devices = jax.local_devices()
        return cls(devices if name == "mirrored" else devices[:1])

    def scope(self) -> AbstractContextManager:
        """Return the scope in which variables are made."""
        return nullcontext() if self.distribution is None else self.distribution.scope()

    def put(self, values: Any) -> jax.Array:
        """Send part of a batch, `(batch, ...)`, on its way to the devices."""
        return jax.device_put(values, self._parts or self.device)

    def place(self, values: Any) -> Any:
        """Bind arrays to the devices, whole on each: what is bound to none is compiled for once more."""
        return jax.device_put(values, self._all or self.device)

    def share(self, values: Any) -> Any:
        """Say within a compiled function that each device has its part of `(batch, ...)`."""
        return values if self._parts is None else jax.lax.with_sharding_constraint(values, self._parts)

    def spread(self, values: Any) -> Any:
        """Say within a compiled function that every device has all of some arrays."""
        return values if self._all is None else jax.lax.with_sharding_constraint(values, self._all)

    def check_precision(self, options: TrainOptions) -> None:
        """Refuse a number format that the devices have not.

        Raises:
            UserError: If it is bfloat16, and the device is older than that.
        """
        if options.precision == "bfloat16" and not has_bfloat16(self.device):
            raise UserError(
                f"{self.device.device_kind} has no bfloat16: start the run with --precision float32, or on a device "
                f"of compute capability {BFLOAT16_CAPABILITY:g} or higher"
            )

    @contextmanager
    def watched(self, run: Path, options: TrainOptions) -> Iterator[None]:
        """Turn the lack of memory on a device into one line that says what to try.

        Raises:
            UserError: If there is not enough of it.
        """
        try:
            yield
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise UserError(out_of_memory(self.device.device_kind, options, self.replicas)) from error


def has_bfloat16(device: jax.Device) -> bool:
    """Tell whether a device multiplies bfloat16; for a processor its flags decide, elsewhere."""
    try:
        return float(getattr(device, "compute_capability", BFLOAT16_CAPABILITY)) >= BFLOAT16_CAPABILITY
    except ValueError:
        return True  # other makers count in other words


def out_of_memory(kind: str, options: TrainOptions, replicas: int) -> str:
    """Say which batch to try on devices whose memory a run did not fit into.

    Args:
        kind: Name of the device.
        options: Options of the run.
        replicas: How many devices share a batch.
    """
    least = options.path_batch_shrink * replicas
    smaller = options.batch // 2 // least * least
    instead = f"a new run with --batch {smaller}" if smaller else "smaller slices, or --set channel_max"
    format = " and --precision bfloat16" if options.precision == "float32" else ""
    return f"{kind} has not the memory for a batch of {options.batch}: try {instead}{format}"


def keep_compiled() -> None:
    """Let JAX keep compiled programs on disk: in JAX_COMPILATION_CACHE_DIR, else in the user's cache folder."""
    if CACHE_VARIABLE not in os.environ:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(caches / "synthmed" / "jax"))


class JaxEngine(Engine):
    """Runs the steps of a method as compiled JAX functions.

    Between steps all values live in a state of JAX arrays that each step gives away for the next; the Keras variables
    have them only after `state` has been called. Within a function, variables are read and assigned as ever, in a
    `keras.StatelessScope`.

    On one step at a time each phase is a program of its own. On several, one program does whole steps in a loop of any
    length, so that what a run comes to does not depend on where its logs and checkpoints cut it.

    Several devices share a batch as `keras.distribution.DataParallel` lays it out: weights on all, slices on each its
    part. What is computed is that of one device with the whole batch.

    Args:
        method: What to train, built in the scope of the devices.
        devices: What it is trained on.

    Raises:
        UserError: If the batch does not divide among the devices, or they have not the number format of the options.
    """

    def __init__(self, method: Method, devices: JaxDevices):
        self.devices = devices
        check_share(method.options, devices.replicas)
        devices.check_precision(method.options)
        with devices.scope():
            super().__init__(method)
        self.variables = list(super().state().values())
        self.ahead = self.options.steps_ahead or (STEPS_AHEAD if devices.accelerator else 1)
        self.phases = {name: self._compiled(partial(self._phase, phase)) for name, phase in method.phases.items()}
        self.average = self._compiled(method.average)
        self._loop = jax.jit(self._many, donate_argnums=0)
        self._one = jax.jit(self._whole)
        self._draw = jax.jit(self._drawn)
        # Of the numbers that a step of several reports, how often each is due.
        self._every: dict[str, Phase] = {}
        self._state: State | None = None
        self._in_flight: deque[Any] = deque()

    def gradient(self, function: Callable[[Any], Any], inputs: Any) -> Any:
        return jax.grad(function)(inputs)

    def gradients(self, function: Callable[[], tuple[dict[str, Any], Any]]) -> tuple[dict[str, list], Any]:
        groups = {name: self.method.networks[name].trainable_variables for name in self.optimizers}

        def losses(weights: dict[str, list]) -> tuple[dict[str, Any], Any]:
            values = [variable.value for variable in self.variables]
            with self._scope(values, groups, weights):
                return function()

        weights = {name: [variable.value for variable in group] for name, group in groups.items()}
        found, pull, rest = jax.vjp(losses, weights, has_aux=True)
        zeros = {name: jnp.zeros_like(loss) for name, loss in found.items()}
        # Of each way back the compiler leaves out what nobody asks for.
        return {name: pull(zeros | {name: jnp.ones_like(loss)})[0][name] for name, loss in found.items()}, rest

    def share(self, values: Any) -> Any:
        return self.devices.share(values)

    def mean(self, values: Any) -> Any:
        return ops.mean(values)

    def uniform(self, shape: tuple[int, ...], key: Key) -> Any:
        return jax.random.uniform(self._key(key), shape, "float32")

    def normal(self, shape: tuple[int, ...], key: Key) -> Any:
        return jax.random.normal(self._key(key), shape, "float32")

    def integers(self, shape: tuple[int, ...], key: Key, *, low: int, high: int) -> Any:
        return jax.random.randint(self._key(key), shape, low, high, "int32")

    def state(self) -> dict[str, Any]:
        """Return every variable that the next step depends on; see `Engine.state`."""
        self._hand_back()
        return super().state()

    def scale_learning_rate(self, scale: float) -> None:
        """Set all optimisers to `scale` times the learning rate of the options."""
        self._hand_back()
        super().scale_learning_rate(scale)

    def prefetch(self, batches: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
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

    def steps(self, number: int, batches: Sequence[dict[str, Any]]) -> list[Report]:
        while len(self._in_flight) >= IN_FLIGHT:
            jax.block_until_ready(self._in_flight.popleft())
        if self.ahead == 1:
            return [self._step(number + place, batch) for place, batch in enumerate(batches)]
        count = len(batches)
        padded = (*batches, *[batches[-1]] * (self.ahead - count))
        decays = np.array([self.method.decay(number + place) for place in range(self.ahead)], np.float32)
        self._state, report = self._loop(self._values(), padded, np.int32(number), decays, np.int32(count))
        self._in_flight.append(report)
        return [
            {name: Later(values, place) for name, values in report.items() if self._every[name].due(number + place)}
            for place in range(count)
        ]

    def draw(self, seeds: np.ndarray, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        # Before JAX, which has 32-bit integers only, cuts off half of a seed.
        halves, psi = split_uint64(np.asarray(seeds, np.int64)), np.ones(len(seeds), np.float32)
        parts = self._draw(self._values(), halves, psi, batch)
        return {name: np.asarray(part) for name, part in parts.items()}

    def _step(self, number: int, batch: dict[str, Any]) -> Report:
        index, report, state = np.int32(number), Report(), self._values()
        for name, phase in self.method.phases.items():
            if phase.due(number):
                state, part = self.phases[name](state, batch, index)
                report |= part
        self._state, _ = self.average(state, np.float32(self.method.decay(number)))
        self._in_flight.append(report)
        return report

    def _phase(self, phase: Phase, batch: dict[str, Any], number: Any) -> Report:
        return phase.settle(phase.run(self, batch, number))

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
        """Do one step, each phase where it is due, and return what it reports: zeros where it is not."""
        report: Report = {}
        for phase in self.method.phases.values():
            if not phase.every:
                continue
            run = self._pure(partial(self._phase, phase))
            found = jax.eval_shape(run, state, batch, number)[1]
            nothing = {name: jnp.zeros(one.shape, one.dtype) for name, one in found.items()}
            self._every |= dict.fromkeys(nothing, phase)
            if phase.every == 1:
                state, part = run(state, batch, number)
            else:
                state, part = jax.lax.cond(
                    number % phase.every == 0, run, lambda state, *_, rest=nothing: (state, rest), state, batch, number
                )
            report |= part
        state, _ = self._pure(self.method.average)(state, decay)
        return state, report

    def _drawn(self, state: State, seeds: Any, psi: Any, batch: dict[str, Any]) -> dict[str, Any]:
        with self._scope(state):
            return self.method.draw(seeds, psi, batch)

    def _pure(self, function: Callable[..., Any]) -> Callable[..., tuple[State, Any]]:
        """Return a function of a state and its arguments that returns the next state and what `function` returns."""

        def pure(state: State, *arguments: Any) -> tuple[State, Any]:
            with self._scope(state) as scope:
                found = function(*arguments)
                state = [scope.get_current_value(variable) for variable in self.variables]
            return self.devices.spread(state), found

        return pure

    def _compiled(self, function: Callable[..., Any]) -> Callable[..., tuple[State, Any]]:
        return jax.jit(self._pure(function), donate_argnums=0)

    def _scope(self, state: State, groups: dict | None = None, weights: dict | None = None) -> keras.StatelessScope:
        """Return the scope in which variables have the values of a state, and some of them other ones."""
        pairs = list(zip(self.variables, state, strict=True))
        for name, group in (groups or {}).items():
            pairs += zip(group, (weights or {})[name], strict=True)
        return keras.StatelessScope(state_mapping=pairs)

    def _key(self, key: Key) -> Any:
        # By name: what is a key's default may change, and a resumed run has to draw on.
        folded = jax.random.key(self.options.seed, impl="threefry2x32")
        for part in (key.phase, key.stream, key.step):
            folded = jax.random.fold_in(folded, part)
        return folded

    def _values(self) -> State:
        """Return the state that the next step starts from, from the Keras variables where they were handed back."""
        if self._state is None:
            self._state = self.devices.place([variable.value for variable in self.variables])
        return self._state

    def _hand_back(self) -> None:
        """Give the Keras variables their values."""
        if self._state is None:
            return
        state, self._state = self._state, None
        for variable, value in zip(self.variables, state, strict=True):
            variable.assign(value)


class Later:
    """One number of several steps' report; `float` of it waits until they are done."""

    def __init__(self, values: jax.Array, place: int):
        self._values = values
        self._place = place

    def __float__(self) -> float:
        return float(np.asarray(self._values)[self._place])
