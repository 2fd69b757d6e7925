"""Training on TensorFlow: gradients, compiled phases, random numbers, Adam in one pass, and replicas of a strategy."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from synthmed.training.devices import check_share
from synthmed.training.engine import PHASES, STREAMS, Engine, Key, Method, Phase, Report


class FusedAdam(keras.optimizers.Adam):
    """Keras's Adam with TensorFlow's fused update in place of about ten operations a weight.

    On a CPU the update of millions of weights is bound by memory: one pass takes a third of the time. State, names and
    results are those of Keras's Adam (no AMSGrad).
    """

    def update_step(self, gradient, variable, learning_rate):
        """Update one weight; under a strategy Keras calls this for each replica's own copy."""
        dtype = variable.dtype
        step = tf.cast(self.iterations.value, dtype) + 1
        beta_1, beta_2 = tf.cast(self.beta_1, dtype), tf.cast(self.beta_2, dtype)
        index = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=beta_1**step,
            beta2_power=beta_2**step,
            lr=tf.cast(learning_rate, dtype),
            beta1=beta_1,
            beta2=beta_2,
            epsilon=tf.cast(self.epsilon, dtype),
            grad=tf.cast(gradient, dtype),
        )


class TensorFlowEngine(Engine):
    """Runs the steps of a method as compiled TensorFlow functions.

    Several replicas share a batch: each takes every n-th slice of it, so that the groups of the minibatch standard
    deviation are those of the whole batch, and all draw their part of the same random numbers. Their gradients are
    added, so that the weights become those of one replica with the whole batch.

    Args:
        method: What to train, built in the strategy's scope.
        strategy: How replicas share the work; one device by default.

    Raises:
        UserError: If the batch does not divide among the replicas.
    """

    adam_class = FusedAdam

    def __init__(self, method: Method, strategy: tf.distribute.Strategy | None = None):
        self.strategy = strategy or tf.distribute.get_strategy()
        self.replicas = self.strategy.num_replicas_in_sync
        check_share(method.options, self.replicas)
        with self.strategy.scope():
            super().__init__(method)
        self.phases = {name: tf.function(partial(self._phase, phase)) for name, phase in method.phases.items()}
        self.average = tf.function(method.average)
        self._draw = tf.function(method.draw, reduce_retracing=True)

    def gradient(self, function: Callable[[Any], Any], inputs: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            value = function(inputs)
        return tape.gradient(value, inputs)

    def gradients(self, function: Callable[[], tuple[dict[str, Any], Any]]) -> tuple[dict[str, list], Any]:
        with tf.GradientTape(persistent=True) as tape:
            losses, found = function()
            # Of all replicas the gradients are added.
            losses = {name: loss / self.replicas for name, loss in losses.items()}
        return {name: self._of_weights(tape, loss, name) for name, loss in losses.items()}, found

    def share(self, values: Any) -> Any:
        if self.replicas == 1:
            return values
        context = tf.distribute.get_replica_context()
        part = values[context.replica_id_in_sync_group :: self.replicas]
        part.set_shape((values.shape[0] // self.replicas, *values.shape[1:]))
        return part

    def mean(self, values: Any) -> Any:
        mean = tf.reduce_mean(values)
        if self.replicas == 1:
            return mean
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, mean)

    def uniform(self, shape: tuple[int, ...], key: Key) -> Any:
        return tf.random.stateless_uniform(shape, seed=self._seed(key))

    def normal(self, shape: tuple[int, ...], key: Key) -> Any:
        return tf.random.stateless_normal(shape, seed=self._seed(key))

    def integers(self, shape: tuple[int, ...], key: Key, *, low: int, high: int) -> Any:
        seed = self._seed(key)
        return tf.random.stateless_uniform(shape, seed=seed, minval=low, maxval=high, dtype=tf.int32)

    def steps(self, number: int, batches: Sequence[dict[str, Any]]) -> list[Report]:
        return [self._step(number + place, batch) for place, batch in enumerate(batches)]

    def draw(self, seeds: np.ndarray, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        inputs = {name: tf.constant(value) for name, value in batch.items()}
        parts = self._draw(tf.constant(seeds, tf.int64), tf.ones(len(seeds)), inputs)
        return {name: np.asarray(part) for name, part in parts.items()}

    def _step(self, number: int, batch: dict[str, Any]) -> Report:
        index, report = tf.constant(number, tf.int32), Report()
        for name, phase in self.method.phases.items():
            if phase.due(number):
                report |= self.phases[name](batch, index)
        self.average(tf.constant(self.method.decay(number), tf.float32))
        return report

    def _phase(self, phase: Phase, batch: dict[str, Any], number: Any) -> Report:
        """Run a phase on every replica, and settle it with the means of what they report."""
        reports = self.strategy.run(partial(phase.run, self), args=(batch, number))
        mean = tf.distribute.ReduceOp.MEAN
        return phase.settle({name: self.strategy.reduce(mean, value, axis=None) for name, value in reports.items()})

    def _of_weights(self, tape: tf.GradientTape, loss: Any, name: str) -> list:
        weights = [variable.value for variable in self.method.networks[name].trainable_variables]
        return tape.gradient(loss, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    def _seed(self, key: Key) -> Any:
        """Return a pair of int64: the sequence of the run's seed, the phase and the stream, and the step."""
        sequence = (self.options.seed * PHASES + key.phase) * STREAMS + key.stream
        return tf.stack([tf.constant(sequence, tf.int64), tf.cast(key.step, tf.int64)])
