"""What the U-Net minimises: soft Dice over the batch plus cross-entropy."""

import keras
from keras import ops

from synthmed.data.schema import IGNORE

SMOOTH = 1.0
"""Pixels added to both parts of the Dice ratio: a class absent from the batch and from the prediction costs nothing."""


def soft_dice(logits, labels, weight=None):
    """Return 1 - soft Dice, averaged over the foreground classes: a scalar in 0..1.

    Sums run over the whole batch: with single slices, a class that is absent from a slice would turn one wrong pixel
    into a full error.

    Args:
        logits: float32 `[batch, height, width, classes]`.
        labels: Class indices `[batch, height, width]` of any integer type; pixels of `IGNORE` do not count.
        weight: What each slice counts, `[batch]`; None counts all alike.
    """
    known = _known(labels, logits.dtype, weight)[..., None]
    probabilities = ops.softmax(logits, axis=-1) * known
    target = ops.one_hot(ops.cast(labels, "int32"), logits.shape[-1], dtype=probabilities.dtype)
    if weight is not None:
        target = target * known
    overlap = ops.sum(probabilities * target, axis=(0, 1, 2))
    volume = ops.sum(probabilities, axis=(0, 1, 2)) + ops.sum(target, axis=(0, 1, 2))
    dice = (2.0 * overlap + SMOOTH) / (volume + SMOOTH)
    return 1.0 - ops.mean(dice[1:])


def cross_entropy(logits, labels, weight=None):
    """Return the mean cross-entropy a known pixel, in nats; arguments as for `soft_dice`."""
    known = _known(labels, logits.dtype, weight)
    classes = ops.where(ops.equal(ops.cast(labels, "int32"), IGNORE), 0, ops.cast(labels, "int32"))
    losses = keras.losses.sparse_categorical_crossentropy(classes, logits, from_logits=True)
    return ops.sum(losses * known) / ops.maximum(ops.sum(known), keras.config.epsilon())


def dice_cross_entropy(logits, labels, weight=None):
    """Return `soft_dice + cross_entropy`, equally weighted as in nnU-Net; arguments as for `soft_dice`."""
    return soft_dice(logits, labels, weight) + cross_entropy(logits, labels, weight)


def _known(labels, dtype, weight=None):
    known = ops.cast(ops.not_equal(ops.cast(labels, "int32"), IGNORE), dtype)
    return known if weight is None else known * ops.cast(weight, dtype)[:, None, None]
