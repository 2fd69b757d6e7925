"""What the U-Net minimises: soft Dice over the batch plus cross-entropy."""

import keras
from keras import ops

SMOOTH = 1.0
"""Pixels added to both parts of the Dice ratio: a class absent from the batch and from the prediction costs nothing."""


def soft_dice(logits, labels):
    """Return 1 - soft Dice, averaged over the foreground classes: a scalar in 0..1.

    Sums run over the whole batch: with single slices, a class that is absent from a slice would turn one wrong pixel
    into a full error.

    Args:
        logits: float32 `[batch, height, width, classes]`.
        labels: Class indices `[batch, height, width]` of any integer type.
    """
    probabilities = ops.softmax(logits, axis=-1)
    target = ops.one_hot(ops.cast(labels, "int32"), logits.shape[-1], dtype=probabilities.dtype)
    overlap = ops.sum(probabilities * target, axis=(0, 1, 2))
    volume = ops.sum(probabilities, axis=(0, 1, 2)) + ops.sum(target, axis=(0, 1, 2))
    dice = (2.0 * overlap + SMOOTH) / (volume + SMOOTH)
    return 1.0 - ops.mean(dice[1:])


def cross_entropy(logits, labels):
    """Return the mean cross-entropy a pixel, in nats; arguments as for `soft_dice`."""
    return ops.mean(keras.losses.sparse_categorical_crossentropy(ops.cast(labels, "int32"), logits, from_logits=True))


def dice_cross_entropy(logits, labels):
    """Return `soft_dice + cross_entropy`, equally weighted as in nnU-Net; arguments as for `soft_dice`."""
    return soft_dice(logits, labels) + cross_entropy(logits, labels)
