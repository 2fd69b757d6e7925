"""The loss of a U-Net and one compiled step of its training."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from synthmed.data.schema import IGNORE
from synthmed.errors import present
from synthmed.models.unet import DeepSupervision, UNet, coarse_labels, level_weights, supervised_levels
from synthmed.segmentation.options import SegmentOptions

SMOOTH = 1.0
"""Pixels added to both parts of the Dice ratio: a class absent from the batch and from the prediction costs nothing."""
LARGEST_RATIO = 10.0
"""A rare class weighs at most this many times as much as the most frequent one."""


def soft_dice(logits, labels, weight=None):
    """Return 1 - soft Dice, averaged over the foreground classes: a scalar in 0..1.

    Sums run over the whole batch: with single slices, a class that is absent from a slice would turn one wrong pixel
    into a full error.

    Args:
        logits: float32 `[batch, height, width, classes]`.
        labels: Class indices `[batch, height, width]` of any integer type; pixels of `IGNORE` do not count.
        weight: What each slice counts, float32 `[batch]`; None for 1 each.
    """
    known = _known(labels, logits.dtype, weight)[..., None]
    probabilities = ops.softmax(logits, axis=-1) * known
    target = ops.one_hot(ops.cast(labels, "int32"), logits.shape[-1], dtype=probabilities.dtype)
    overlap = ops.sum(probabilities * target, axis=(0, 1, 2))
    volume = ops.sum(probabilities + target * known, axis=(0, 1, 2))
    dice = (2.0 * overlap + SMOOTH) / (volume + SMOOTH)
    return 1.0 - ops.mean(dice[1:])


def cross_entropy(logits, labels, weight=None, *, class_weights=None):
    """Return the weighted mean of the cross-entropy of known pixels, in nats.

    Args:
        logits: As for `soft_dice`.
        labels: As for `soft_dice`.
        weight: As for `soft_dice`.
        class_weights: What a pixel of each class counts, float32 `[classes]`; None for 1 each.
    """
    known = _known(labels, logits.dtype, weight)
    classes = ops.where(ops.equal(ops.cast(labels, "int32"), IGNORE), 0, ops.cast(labels, "int32"))
    if class_weights is not None:
        known = known * ops.take(ops.convert_to_tensor(class_weights, dtype=known.dtype), classes, axis=0)
    losses = keras.losses.sparse_categorical_crossentropy(classes, logits, from_logits=True)
    return ops.sum(losses * known) / ops.maximum(ops.sum(known), 1e-6)


def dice_cross_entropy(logits, labels, weight=None, *, class_weights=None):
    """Return `soft_dice + cross_entropy`, equally weighted as in nnU-Net; arguments as for these."""
    entropy = cross_entropy(logits, labels, weight=weight, class_weights=class_weights)
    return soft_dice(logits, labels, weight=weight) + entropy


def deep_loss(finest, coarser, labels, *, weight=None, class_weights=None):
    """Return the loss of a U-Net with deep supervision.

    Args:
        finest: `dice_cross_entropy` at full resolution.
        coarser: Logits of the supervised lower levels, level 1 first; empty without deep supervision.
        labels: At full resolution, as for `soft_dice`.
        weight: As for `soft_dice`.
        class_weights: As for `cross_entropy`.
    """
    shares = level_weights(1 + len(coarser))
    total = shares[0] * finest
    for level, (share, logits) in enumerate(zip(shares[1:], coarser, strict=True), start=1):
        coarse = coarse_labels(labels, level)
        total = total + share * dice_cross_entropy(logits, coarse, weight=weight, class_weights=class_weights)
    return total


def frequency_weights(pixels: np.ndarray) -> tuple[float, ...]:
    """Return what a pixel of each class counts: the inverse square root of the class's frequency, 1 on average.

    The root, because the Dice part balances classes already; `LARGEST_RATIO`, because a class of a handful of pixels
    would else decide the gradient. A class without pixels counts 1, which no pixel makes use of.

    Args:
        pixels: Pixels of each class, background included, `[classes]`.
    """
    counts = np.asarray(pixels, float)
    present = counts > 0
    weights = np.ones(len(counts))
    if present.any():
        rarity = 1.0 / np.sqrt(counts[present])
        rarity = np.minimum(rarity, LARGEST_RATIO * rarity.min())
        weights[present] = rarity / rarity.mean()
    return tuple(float(weight) for weight in weights)


def _known(labels, dtype, weight):
    known = ops.cast(ops.not_equal(ops.cast(labels, "int32"), IGNORE), dtype)
    return known if weight is None else known * ops.cast(weight, dtype)[:, None, None]


class SegmentationEngine:
    """All variables of a training and the function that moves them one step on.

    Args:
        options: Of the training, with width and levels.
        size: Rows and columns of a slice.
        channels: Number of image channels of one slice; its neighbours' come on top (`options.context`).
        classes: Number of classes, background included.
        policy: Keras dtype policy of the network.
        class_weights: What a pixel of each class counts in the cross-entropy; None for 1 each.

    Attributes:
        model: The network being trained.
        average: The moving average of its weights, as a network.
        heads: What deep supervision adds while training; without it, or on a shallow network, it has no weights.
    """

    def __init__(
        self,
        options: SegmentOptions,
        *,
        size: tuple[int, int],
        channels: int,
        classes: int,
        policy: str,
        class_weights: tuple[float, ...] | None = None,
    ):
        keras.utils.set_random_seed(options.seed)
        width, levels = present(options.width, "options are resolved"), present(options.levels, "options are resolved")
        channels *= 2 * options.context + 1
        self.options = options
        self.class_weights = class_weights
        self.model = UNet(
            classes,
            width=width,
            levels=levels,
            decoder_convolutions=options.decoder_convolutions,
            context=options.context,
            dtype=policy,
            name="unet",
        )
        self.average = UNet.from_config({**self.model.get_config(), "name": "average"})
        for network in (self.model, self.average):
            network.build((None, *size, channels))
        lower = supervised_levels(levels) - 1 if options.deep_supervision else 0
        self.heads = DeepSupervision(classes, count=lower, dtype=policy, name="heads")
        self.heads.build([(None, None, None, width) for width in self.model.widths[1 : lower + 1]])
        self.average.set_weights(self.model.get_weights())
        self.average.trainable = False
        self.optimizer = _optimizer(options)
        self.optimizer.build(self._trained())
        self._equal = tf.ones(options.batch)
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
        """Do step `number` (from 0) and return what there is to log.

        Args:
            number: Steps done before.
            batch: "image" `[batch, H, W, channels]`, "label" `[batch, H, W]` and, if some slices count more than
                others, "weight" `[batch]`.
        """
        # A young average would be mostly initial weights; let it forget faster at first.
        decay = min(self.options.average, (1.0 + number) / (10.0 + number))
        weight = batch.get("weight", self._equal)
        report = self._compiled(batch["image"], batch["label"], weight, tf.constant(decay, tf.float32))
        return {name: float(value) for name, value in report.items()}

    def state(self) -> dict[str, Any]:
        """Return every variable that the next step depends on, by a name that is stable between processes."""
        owners = {"model": self.model, "average": self.average, "heads": self.heads, "optimizer": self.optimizer}
        state = {f"{owner}/{item.path}": item for owner, group in owners.items() for item in group.variables}
        if len(state) != sum(len(group.variables) for group in owners.values()):
            raise RuntimeError("two variables share a path: a checkpoint would lose one of them")
        return state

    def _trained(self) -> list[Any]:
        return self.model.trainable_variables + self.heads.trainable_variables

    def _step(self, image: tf.Tensor, label: tf.Tensor, weight: tf.Tensor, decay: tf.Tensor) -> dict[str, tf.Tensor]:
        variables = self._trained()
        weights = {"weight": weight, "class_weights": self.class_weights}
        with tf.GradientTape() as tape:
            features = self.model.features(image)
            size = image.shape[1:3]
            logits = self.model.logits(features, size)
            dice, entropy = soft_dice(logits, label, weight=weight), cross_entropy(logits, label, **weights)
            lower = features[1 : self.heads.count + 1]
            coarser = self.heads(lower, size=tuple(size)) if lower else []
            loss = deep_loss(dice + entropy, coarser, label, **weights)
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
