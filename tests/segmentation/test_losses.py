"""The loss against NumPy, and its gradient against finite differences."""

import numpy as np
import tensorflow as tf

from synthmed.data.schema import IGNORE
from synthmed.segmentation.losses import SMOOTH, cross_entropy, dice_cross_entropy, soft_dice


def example(classes=3, seed=0):
    """Return logits and labels of two small slices."""
    random = np.random.default_rng(seed)
    logits = random.standard_normal((2, 5, 4, classes)).astype(np.float32)
    return logits, random.integers(0, classes, (2, 5, 4)).astype(np.uint8)


def softmax(logits):
    """Return probabilities along the last axis."""
    exponent = np.exp(logits - logits.max(-1, keepdims=True))
    return exponent / exponent.sum(-1, keepdims=True)


def test_both_parts_match_numpy():
    """A user would minimise something else than the documented loss."""
    logits, labels = example()
    probabilities = softmax(logits.astype(np.float64))
    dice = []
    for index in (1, 2):
        mine, target = probabilities[..., index], labels == index
        dice.append((2 * (mine * target).sum() + SMOOTH) / (mine.sum() + target.sum() + SMOOTH))
    entropy = -np.log(np.take_along_axis(probabilities, labels[..., None].astype(int), -1)).mean()
    np.testing.assert_allclose(float(soft_dice(logits, labels)), 1 - np.mean(dice), atol=1e-6)
    np.testing.assert_allclose(float(cross_entropy(logits, labels)), entropy, atol=1e-6)
    np.testing.assert_allclose(float(dice_cross_entropy(logits, labels)), 1 - np.mean(dice) + entropy, atol=1e-6)


def test_gradient_matches_finite_differences():
    """A user would train with a wrong gradient and never be told."""
    logits, labels = example(seed=1)
    logits = tf.constant(logits, tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = dice_cross_entropy(logits, labels)
    gradient = tape.gradient(loss, logits).numpy()
    step = 1e-5
    for place in [(0, 0, 0, 0), (0, 2, 3, 1), (1, 4, 1, 2), (1, 0, 3, 0)]:
        nudge = np.zeros(logits.shape)
        nudge[place] = step
        difference = dice_cross_entropy(logits + nudge, labels) - dice_cross_entropy(logits - nudge, labels)
        np.testing.assert_allclose(gradient[place], float(difference) / (2 * step), rtol=1e-4, atol=1e-9)


def test_a_perfect_prediction_costs_nothing_even_where_a_class_is_absent():
    """A user with a rare class would see a constant loss from batches that do not contain it."""
    labels = np.zeros((2, 4, 4), np.uint8)
    labels[0, :2] = 1
    logits = 50.0 * np.eye(3, dtype=np.float32)[labels]
    assert float(dice_cross_entropy(logits, labels)) < 1e-6


def test_pixels_whose_class_is_not_known_do_not_count():
    """A sparsely labelled set would teach that everything not yet labelled is background."""
    logits, labels = example(seed=2)
    marked = labels.copy()
    marked[0, 1:3] = IGNORE
    changed = logits.copy()
    changed[0, 1:3] = 7.0 * np.random.default_rng(3).standard_normal((2, 4, 3))
    np.testing.assert_array_equal(dice_cross_entropy(logits, marked), dice_cross_entropy(changed, marked))
    kept = np.flatnonzero(marked.ravel() != IGNORE)
    alone = logits.reshape(-1, 3)[kept].reshape(1, 1, -1, 3), marked.ravel()[kept].reshape(1, 1, -1)
    np.testing.assert_allclose(dice_cross_entropy(logits, marked), dice_cross_entropy(*alone), rtol=1e-6)
    assert float(cross_entropy(logits, np.full_like(labels, IGNORE))) == 0.0
