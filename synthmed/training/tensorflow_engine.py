"""What a training step needs of TensorFlow: gradients, compiled phases and random numbers.

Everything else of a step is in `keras.ops`, so another backend is another module like this one.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from synthmed.models.items import draw_items
from synthmed.training import losses
from synthmed.training.drawing import Draw, mixed_styles
from synthmed.training.networks import Networks
from synthmed.training.options import TrainOptions
from synthmed.training.planes import judged_planes, one_hot_mask, real_planes, split_planes

# Each phase draws from a sequence of its own, so that switching one off does not change the others.
MAIN, PATH = 0, 1


class TensorFlowEngine:
    """The phases of a training step as compiled TensorFlow functions.

    Generator and discriminator are updated from one forward pass over the same generated batch: the usual alternation
    draws and judges a second batch for the same information.

    Args:
        networks: The networks to train.
        options: Resolved options.
    """

    def __init__(self, networks: Networks, options: TrainOptions):
        self.networks = networks
        self.options = options
        self.path_mean = keras.Variable(0.0, trainable=False, name="path_mean", dtype="float32")
        path_every = options.path_every if options.path_weight else 0
        r1_every = options.r1_every if options.r1_gamma else 0
        self.generator_optimizer = _optimizer(options.learning_rate, path_every, networks.generator)
        self.discriminator_optimizer = _optimizer(options.learning_rate, r1_every, networks.discriminator)
        self.main = tf.function(self._main)
        self.path = tf.function(self._path)
        self.r1 = tf.function(self._r1)
        self.average = tf.function(self._average)
        self._draw_average = tf.function(draw_items, reduce_retracing=True)

    def state(self) -> dict[str, Any]:
        """Return every variable that the next step depends on, by a name that is stable between processes."""
        owners = {
            "generator": self.networks.generator.variables,
            "average": self.networks.average.variables,
            "discriminator": self.networks.discriminator.variables,
            "generator_optimizer": self.generator_optimizer.variables,
            "discriminator_optimizer": self.discriminator_optimizer.variables,
        }
        state = {f"{owner}/{variable.path}": variable for owner, group in owners.items() for variable in group}
        if len(state) != sum(len(group) for group in owners.values()):
            raise RuntimeError("two variables share a path: a checkpoint would lose one of them")
        return state | {"path_mean": self.path_mean}

    def step(self, number: int, batch: dict[str, Any]) -> dict[str, Any]:
        """Do one step, with the regularisers as they fall due, and return what there is to log.

        Args:
            number: Step number from 0; with the seed it decides all random numbers.
            batch: "image" `(batch, height, width, channels)` in [-1, 1] and "label" `(batch, height, width)`.
        """
        options = self.options
        index = tf.constant(number, tf.int32)
        report = dict(self.main(batch["image"], batch["label"], index))
        if options.path_weight and number % options.path_every == 0:
            report |= self.path(batch["label"], index)
        if options.r1_gamma and number % options.r1_every == 0:
            report |= self.r1(batch["image"], batch["label"])
        shown = (number + 1) * options.batch
        decay = losses.ema_decay(
            batch=options.batch, shown=shown, ema_kimg=options.ema_kimg or 1.0, rampup=options.ema_rampup
        )
        self.average(tf.constant(decay, tf.float32))
        return report

    def draw(self, seeds: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        """Draw items from the averaged generator; `cond` draws them for `labels` `(n, height, width)`."""
        network = self.networks.average
        mask = one_hot_mask(labels, network.classes) if network.variant == "cond" else None
        planes = self._draw_average(network, tf.constant(seeds, tf.int64), tf.ones(len(seeds)), mask)
        parts = split_planes(planes, image_channels=network.image_channels, mask_classes=network.mask_classes)
        return {name: np.asarray(part) for name, part in parts.items()}

    def _main(self, image, label, number):
        generator, discriminator = self.networks.generator, self.networks.discriminator
        mask = one_hot_mask(label, generator.classes)
        draw = self._draw(number, MAIN, self.options.batch)
        with tf.GradientTape(persistent=True) as tape:
            fake = generator.synthesis(mixed_styles(generator, draw), draw.noise, mask)
            fake_logits = discriminator(judged_planes(fake, mask, variant=generator.variant))
            real_logits = discriminator(real_planes(image, mask, variant=generator.variant))
            generator_loss = losses.generator_loss(fake_logits)
            discriminator_loss = losses.discriminator_loss(real_logits, fake_logits)
        # Both gradients before either update: they belong to the same weights.
        generator_gradients = tape.gradient(generator_loss, _values(generator))
        discriminator_gradients = tape.gradient(discriminator_loss, _values(discriminator))
        self.generator_optimizer.apply(generator_gradients)
        self.discriminator_optimizer.apply(discriminator_gradients)
        return {
            "loss_generator": generator_loss,
            "loss_discriminator": discriminator_loss,
            "logit_real": tf.reduce_mean(real_logits),
            "logit_fake": tf.reduce_mean(fake_logits),
            "sign_real": tf.reduce_mean(tf.sign(real_logits)),
        }

    def _path(self, label, number):
        generator, options = self.networks.generator, self.options
        batch = max(1, options.batch // options.path_batch_shrink)
        mask = one_hot_mask(label[:batch], generator.classes)
        draw = self._draw(number, PATH, batch)
        planes = generator.image_channels + generator.mask_classes
        directions = tf.random.stateless_normal(
            (batch, *generator.size, planes), seed=self._seed(number, PATH, len(draw.noise) + 4)
        )
        with tf.GradientTape() as outer:
            styles = mixed_styles(generator, draw)
            with tf.GradientTape() as inner:
                inner.watch(styles)
                output = generator.synthesis(styles, draw.noise, mask)
                projection = tf.reduce_sum(output * losses.path_weights(directions))
            lengths = losses.path_lengths(inner.gradient(projection, styles))
            mean = self.path_mean + options.path_decay * (tf.reduce_mean(lengths) - self.path_mean)
            # The mean is a target: no gradient flows through it.
            penalty = losses.path_penalty(lengths, tf.stop_gradient(mean))
            loss = penalty * (options.path_weight * options.path_every)
        gradients = outer.gradient(loss, _values(generator), unconnected_gradients=tf.UnconnectedGradients.ZERO)
        self.generator_optimizer.apply(gradients)
        self.path_mean.assign(mean)
        return {"path_length": tf.reduce_mean(lengths), "path_penalty": penalty}

    def _r1(self, image, label):
        discriminator, options = self.networks.discriminator, self.options
        planes = real_planes(image, one_hot_mask(label, self.networks.generator.classes), variant=options.variant)
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                inner.watch(planes)
                logits = tf.reduce_sum(discriminator(planes))
            penalty = losses.r1_penalty(inner.gradient(logits, planes), options.r1_gamma or 0.0)
            loss = penalty * float(options.r1_every)
        gradients = outer.gradient(loss, _values(discriminator), unconnected_gradients=tf.UnconnectedGradients.ZERO)
        self.discriminator_optimizer.apply(gradients)
        return {"r1_penalty": penalty}

    def _average(self, decay):
        generator, average = self.networks.generator, self.networks.average
        for target, source in zip(average.trainable_variables, generator.trainable_variables, strict=True):
            target.assign(source + decay * (target - source))
        for target, source in zip(average.non_trainable_variables, generator.non_trainable_variables, strict=True):
            target.assign(source)

    def _seed(self, number, phase: int, stream: int):
        return tf.stack(
            [tf.constant(self.options.seed * 1024 + phase * 512 + stream, tf.int64), tf.cast(number, tf.int64)]
        )

    def _draw(self, number, phase: int, batch: int) -> Draw:
        generator = self.networks.generator
        z = tf.random.stateless_normal((2 * batch, generator.z_dim), seed=self._seed(number, phase, 0))
        mixes = tf.random.stateless_uniform((batch,), seed=self._seed(number, phase, 1)) < self.options.style_mixing
        cut = tf.random.stateless_uniform(
            (batch,), seed=self._seed(number, phase, 2), minval=1, maxval=generator.num_ws, dtype=tf.int32
        )
        noise = [
            tf.random.stateless_normal((batch, *size, 1), seed=self._seed(number, phase, 4 + layer))
            for layer, size in enumerate(generator.noise_sizes)
        ]
        return Draw(z[:batch], z[batch:], tf.where(mixes, cut, generator.num_ws), noise)


def _optimizer(learning_rate: float, every: int, network: keras.Model) -> keras.optimizers.Optimizer:
    settings = losses.lazy_adam(learning_rate, every) if every else losses.lazy_adam(learning_rate, 10**9)
    optimizer = keras.optimizers.Adam(**settings, name="adam")
    optimizer.build(network.trainable_variables)
    return optimizer


def _values(network: keras.Model) -> list:
    return [variable.value for variable in network.trainable_variables]
