"""The loss against NumPy, and its gradient against finite differences."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from synthmed.data.schema import IGNORE
from synthmed.segmentation.engine import (
    LARGEST_RATIO,
    SMOOTH,
    cross_entropy,
    deep_loss,
    dice_cross_entropy,
    frequency_weights,
    soft_dice,
)


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


def reference_loss(logits, labels, *, weight=None, class_weights=None):
    """Return Dice loss plus cross-entropy of known pixels in float64, pixel by pixel as in the docstrings."""
    probabilities = softmax(logits.astype(np.float64))
    slices = np.ones(len(labels)) if weight is None else np.asarray(weight, float)
    counts = np.broadcast_to(slices[:, None, None], labels.shape) * (labels != IGNORE)
    dice = []
    for index in range(1, logits.shape[-1]):
        mine, target = probabilities[..., index] * counts, (labels == index) * counts
        overlap = (probabilities[..., index] * target).sum()
        dice.append((2 * overlap + SMOOTH) / (mine.sum() + target.sum() + SMOOTH))
    classes = np.where(labels == IGNORE, 0, labels).astype(int)
    counts = counts * (1 if class_weights is None else np.asarray(class_weights)[classes])
    entropy = -np.log(np.take_along_axis(probabilities, classes[..., None], -1)[..., 0])
    return 1 - np.mean(dice) + (entropy * counts).sum() / counts.sum()


def test_slices_and_classes_count_what_their_weights_say():
    """A user's weight of synthetic slices, or of a rare class, would do nothing or something else."""
    logits, labels = example(seed=4)
    labels[0, 0, :2] = IGNORE
    weights = {"weight": np.array([1.0, 0.25], np.float32), "class_weights": (0.2, 0.8, 2.0)}
    assert float(dice_cross_entropy(logits, labels, **weights)) == pytest.approx(
        reference_loss(logits, labels, **weights), abs=1e-6
    )
    alone = dice_cross_entropy(logits[:1], labels[:1])
    np.testing.assert_allclose(dice_cross_entropy(logits, labels, weight=np.array([1.0, 0.0])), alone, rtol=1e-6)


@pytest.mark.parametrize("size", [(16, 16), (13, 10)])
def test_deep_supervision_matches_numpy(size):
    """A user would train lower levels on labels that lie elsewhere, or with shares that drown full resolution."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, (2, *size)).astype(np.uint8)
    labels[:, :3, :5] = IGNORE
    coarse = [labels[:, 0::2, 0::2], labels[:, 1::4, 1::4]]
    levels = [random.standard_normal((*some.shape, 3)).astype(np.float32) for some in (labels, *coarse)]
    found = deep_loss(dice_cross_entropy(levels[0], labels), levels[1:], labels)
    expected = np.dot(
        np.array([4, 2, 1]) / 7,
        [reference_loss(logits, some) for logits, some in zip(levels, (labels, *coarse), strict=True)],
    )
    assert float(found) == pytest.approx(expected, abs=1e-5)
    assert float(deep_loss(0.25, [], labels)) == 0.25


@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=6))
def test_weights_of_classes_are_bounded_with_a_mean_of_1(pixels):
    """A user with a class of three pixels would train on these alone."""
    weights, counts = np.array(frequency_weights(np.array(pixels))), np.array(pixels)
    present = counts > 0
    np.testing.assert_allclose(weights[~present], 1)
    if present.any():
        assert weights[present].mean() == pytest.approx(1)
        assert weights[present].max() <= LARGEST_RATIO * weights[present].min() * (1 + 1e-9)
        assert (np.diff(weights[present][np.argsort(counts[present])]) <= 1e-12).all()
    assert frequency_weights(np.array([900, 100])) == pytest.approx((0.5, 1.5))
