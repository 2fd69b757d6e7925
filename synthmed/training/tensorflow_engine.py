"""What a training step needs of TensorFlow: gradients, compiled phases, random numbers, and devices that share a batch.

Everything else of a step is in `keras.ops` (`forward`, `losses`, `planes`, `augmentation`), so another backend is
another module like this one.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from synthmed.models.generators import draw_items
from synthmed.training import losses
from synthmed.training.augmentation import adjust
from synthmed.training.drawing import mixed_styles
from synthmed.training.engine import SIGN_DECAY, Engine
from synthmed.training.forward import ForwardPass, Slices
from synthmed.training.networks import Networks, one_hot_mask, split_planes
from synthmed.training.options import TrainOptions
from synthmed.training.sharing import check_share
from synthmed.training.step_numbers import MAIN, PATH, PENALTY, StepNumbers
from synthmed.training.tensorflow_adam import make_optimizer
from synthmed.training.tensorflow_random import TensorFlowNumbers


class TensorFlowEngine(Engine):
    """The phases of a training step as compiled TensorFlow functions.

    Several replicas share a batch: each takes every n-th slice of it, so that the groups of the minibatch standard
    deviation are those of the whole batch, and all draw their part of the same random numbers. Their gradients are
    added, so that the weights become those of one replica with the whole batch.

    Args:
        networks: The networks to train, built in the strategy's scope.
        options: Resolved options.
        strategy: How replicas share the work; one device by default.

    Raises:
        UserError: If the batch does not divide among the replicas.
    """

    def __init__(self, networks: Networks, options: TrainOptions, strategy: tf.distribute.Strategy | None = None):
        self.strategy = strategy or tf.distribute.get_strategy()
        self.replicas = self.strategy.num_replicas_in_sync
        check_share(options, self.replicas)
        with self.strategy.scope():
            super().__init__(networks, options, make_optimizer)
        self.forward = ForwardPass(networks, options)
        self.numbers: StepNumbers = TensorFlowNumbers(options, networks.generator, self._share)
        self.main = tf.function(self._main)
        self.path = tf.function(self._path)
        self.penalty = tf.function(self._penalty)
        self.average = tf.function(self._average)
        self._draw_average = tf.function(draw_items, reduce_retracing=True)

    def steps(self, number: int, batches: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Do a step for each batch; see `Engine.steps`."""
        return [self._step(number + place, batch) for place, batch in enumerate(batches)]

    def _step(self, number: int, batch: dict[str, Any]) -> dict[str, Any]:
        index = tf.constant(number, tf.int32)
        report = dict(self.main(batch, index))
        if self.path_due(number):
            report |= self.path(batch, index)
        if self.penalty_due(number):
            report |= self.penalty(batch, index)
        self.average(tf.constant(self.decay(number), tf.float32))
        return report

    def draw(self, seeds: np.ndarray, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Draw items from the averaged generator; see `Engine.draw`."""
        network = self.networks.average
        mask = one_hot_mask(batch["label"], network.classes) if network.variant == "cond" else None
        attributes = network.attributes(batch.get("position"), batch.get("shown"))
        planes = self._draw_average(network, tf.constant(seeds, tf.int64), tf.ones(len(seeds)), mask, attributes)
        parts = split_planes(planes, image_channels=network.image_channels, mask_classes=network.mask_classes)
        return {name: np.asarray(part) for name, part in parts.items()}

    def _main(self, batch, number):
        report = self._on_all(self._main_replica, batch, number)
        self.networks.generator.mapping.track_average(report.pop("mean_w"))
        if self.options.augment == "ada":
            self.sign_mean.assign(SIGN_DECAY * self.sign_mean + (1.0 - SIGN_DECAY) * report["sign_real"])
            self.probability.assign(
                adjust(
                    self.probability.value,
                    self.sign_mean.value,
                    target=self.options.augment_target,
                    images=self.options.batch,
                    kimg=self.options.augment_kimg,
                )
            )
            report["augment_probability"] = tf.convert_to_tensor(self.probability)
            report["augment_sign"] = tf.convert_to_tensor(self.sign_mean)
        return report

    def _main_replica(self, batch, number):
        generator, discriminator = self.networks.generator, self.networks.discriminator
        slices = self._slices(batch)
        draw = self.numbers.draw(number, MAIN, self.options.batch)
        chances = [self.numbers.chance(number, MAIN, place) for place in range(3)]
        with tf.GradientTape(persistent=True) as tape:
            verdicts = self.forward.verdicts(draw, slices, self.probability.value, chances)
            generator_loss = verdicts.generator_loss / self.replicas
            discriminator_loss = verdicts.discriminator_loss / self.replicas
        # Both gradients before either update: they belong to the same weights.
        generator_gradients = tape.gradient(generator_loss, _values(generator))
        discriminator_gradients = tape.gradient(discriminator_loss, _values(discriminator))
        self.generator_optimizer.apply(generator_gradients)
        self.discriminator_optimizer.apply(discriminator_gradients)
        return verdicts.report | {"mean_w": verdicts.mean_w}

    def _path(self, batch, number):
        part = {name: value[: self.options.path_batch] for name, value in batch.items()}
        report = self._on_all(self._path_replica, part, number)
        self.path_mean.assign(report.pop("path_mean"))
        return report

    def _path_replica(self, batch, number):
        generator, options = self.networks.generator, self.options
        slices = self._slices(batch)
        condition = self.forward.condition(slices)
        draw = self.numbers.draw(number, PATH, self.options.path_batch)
        planes = generator.image_channels + generator.mask_classes
        shape = (self.options.path_batch, *generator.size, planes)
        directions = losses.path_weights(self.numbers.directions(number, shape))
        with tf.GradientTape() as outer:
            styles, _ = mixed_styles(generator, draw, slices.attributes)
            with tf.GradientTape() as inner:
                inner.watch(styles)
                projection = tf.reduce_sum(generator.synthesis(styles, draw.noise, condition) * directions)
            lengths = losses.path_lengths(inner.gradient(projection, styles))
            mean = self.path_mean + options.path_decay * (self._mean_of_all(lengths) - self.path_mean)
            # The mean is a target: no gradient flows through it.
            penalty = losses.path_penalty(lengths, tf.stop_gradient(mean))
            loss = penalty * ((options.path_weight or 0.0) * options.path_every / self.replicas)
        gradients = outer.gradient(loss, _values(generator), unconnected_gradients=tf.UnconnectedGradients.ZERO)
        self.generator_optimizer.apply(gradients)
        return {"path_length": tf.reduce_mean(lengths), "path_penalty": penalty, "path_mean": mean}

    def _penalty(self, batch, number):
        return self._on_all(self._penalty_replica, batch, number)

    def _penalty_replica(self, batch, number):
        """R1 on what the discriminator is shown of real slices; in the relativistic loss R2 on generated ones, too."""
        discriminator, options, forward = self.networks.discriminator, self.options, self.forward
        slices = self._slices(batch)
        shown = {"r1_penalty": forward.real(slices)}
        if options.loss == "relativistic":
            shown["r2_penalty"], _ = forward.fake(self.numbers.draw(number, PENALTY, options.batch), slices)
        penalties = {}
        with tf.GradientTape() as outer:
            for place, (name, planes) in enumerate(shown.items()):
                chance = self.numbers.chance(number, PENALTY, place)
                planes = tf.stop_gradient(forward.shown(planes, slices, self.probability.value, chance))
                with tf.GradientTape() as inner:
                    inner.watch(planes)
                    logits = tf.reduce_sum(discriminator(planes, slices.attributes))
                penalties[name] = losses.r1_penalty(inner.gradient(logits, planes), options.r1_gamma or 0.0)
            loss = tf.add_n(list(penalties.values())) * (float(options.r1_every or 1) / self.replicas)
        gradients = outer.gradient(loss, _values(discriminator), unconnected_gradients=tf.UnconnectedGradients.ZERO)
        self.discriminator_optimizer.apply(gradients)
        return penalties

    def _average(self, decay):
        generator, average = self.networks.generator, self.networks.average
        for target, source in zip(average.trainable_variables, generator.trainable_variables, strict=True):
            target.assign(source + decay * (target - source))
        for target, source in zip(average.non_trainable_variables, generator.non_trainable_variables, strict=True):
            target.assign(source)

    def _on_all(self, phase: Callable[..., dict[str, Any]], batch, number) -> dict[str, Any]:
        """Run a phase on every replica and return the means of what they report."""
        reports = self.strategy.run(phase, args=(batch, number))
        mean = tf.distribute.ReduceOp.MEAN
        return {name: self.strategy.reduce(mean, value, axis=None) for name, value in reports.items()}

    def _share(self, value):
        """Return this replica's part of what belongs to the whole batch."""
        if self.replicas == 1:
            return value
        context = tf.distribute.get_replica_context()
        part = value[context.replica_id_in_sync_group :: self.replicas]
        part.set_shape((value.shape[0] // self.replicas, *value.shape[1:]))
        return part

    def _mean_of_all(self, values):
        mean = tf.reduce_mean(values)
        if self.replicas == 1:
            return mean
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, mean)

    def _slices(self, batch) -> Slices:
        return self.forward.slices({name: self._share(value) for name, value in batch.items()})


def _values(network: keras.Model) -> list:
    return [variable.value for variable in network.trainable_variables]
