"""The training step of the U-Net in TensorFlow: network, moving average, optimiser, compiled step."""

from typing import Any

import keras
import tensorflow as tf

from synthmed.models.unet import UNet, levels_for
from synthmed.segmentation.losses import cross_entropy, soft_dice
from synthmed.segmentation.options import SegmentOptions


class SegmentationEngine:
    """All variables of a training and the function that moves them one step on.

    Args:
        options: Of the training.
        size: Rows and columns of a slice.
        channels: Number of image channels.
        classes: Number of classes, background included.
        policy: Keras dtype policy of the network.

    Attributes:
        model: The network being trained.
        average: The moving average of its weights, as a network.
    """

    def __init__(self, options: SegmentOptions, *, size: tuple[int, int], channels: int, classes: int, policy: str):
        keras.utils.set_random_seed(options.seed)
        levels = options.levels or levels_for(size)
        self.options = options
        self.model = UNet(classes, width=options.width, levels=levels, dtype=policy, name="unet")
        self.average = UNet.from_config({**self.model.get_config(), "name": "average"})
        for network in (self.model, self.average):
            network.build((None, *size, channels))
        self.average.set_weights(self.model.get_weights())
        self.average.trainable = False
        self.optimizer = _optimizer(options)
        self.optimizer.build(self.model.trainable_variables)
        shape = (options.batch, *size)
        self._compiled = tf.function(
            self._step,
            input_signature=[
                tf.TensorSpec((*shape, channels), tf.float32),
                tf.TensorSpec(shape, tf.uint8),
                tf.TensorSpec((options.batch,), tf.float32),
                tf.TensorSpec((), tf.float32),
            ],
        )

    def step(self, number: int, batch: dict[str, Any]) -> dict[str, float]:
        """Do step `number` (from 0) and return what there is to log."""
        # A young average would be mostly initial weights; let it forget faster at first.
        decay = min(self.options.average, (1.0 + number) / (10.0 + number))
        report = self._compiled(batch["image"], batch["label"], batch["weight"], tf.constant(decay, tf.float32))
        return {name: float(value) for name, value in report.items()}

    def state(self) -> dict[str, Any]:
        """Return every variable that the next step depends on, by a name that is stable between processes."""
        owners = {"model": self.model, "average": self.average, "optimizer": self.optimizer}
        state = {f"{owner}/{item.path}": item for owner, group in owners.items() for item in group.variables}
        if len(state) != sum(len(group.variables) for group in owners.values()):
            raise RuntimeError("two variables share a path: a checkpoint would lose one of them")
        return state

    def _step(self, image: tf.Tensor, label: tf.Tensor, weight: tf.Tensor, decay: tf.Tensor) -> dict[str, tf.Tensor]:
        variables = self.model.trainable_variables
        with tf.GradientTape() as tape:
            logits = self.model(image, training=True)
            dice, entropy = soft_dice(logits, label, weight), cross_entropy(logits, label, weight)
            loss = dice + entropy
        rate = self.optimizer.learning_rate
        self.optimizer.apply(tape.gradient(loss, [variable.value for variable in variables]))
        for target, source in zip(self.average.variables, self.model.variables, strict=True):
            target.assign(source + decay * (target - source))
        return {"loss": loss, "dice_loss": dice, "cross_entropy": entropy, "learning_rate": tf.convert_to_tensor(rate)}


def _optimizer(options: SegmentOptions) -> keras.optimizers.Optimizer:
    warmup = round(options.warmup * options.steps)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else options.learning_rate,
        max(options.steps - warmup, 1),
        warmup_target=options.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=options.weight_decay, name="adamw")
    # Decay shrinks kernels; scales and offsets of the normalisation have no reason to be small.
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    return optimizer
