"""What the U-Net minimises: soft Dice over the batch plus cross-entropy, at one or several resolutions."""

import keras
import numpy as np
from keras import ops

from synthmed.data.schema import IGNORE
from synthmed.models.unet import coarse_labels, level_weights

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
