"""Augmentation lies between generator and discriminator, and under R1: derivatives against finite differences."""

import numpy as np
import pytest
import tensorflow as tf

from synthmed.training.augmentation import ADA_OPERATIONS, AUGMENTATIONS, DIFF_OPERATIONS, augment, numbers_shape

SHAPE = (5, 4, 4)
IMAGE_CHANNELS = 2
STEP = 1e-5
CASES = {name: (name,) for name in AUGMENTATIONS} | {
    "ada": ADA_OPERATIONS,
    "diffaugment": DIFF_OPERATIONS,
    "all": AUGMENTATIONS,
}


def energies(slices, operations, seed):
    """Return sum(tanh(augmented) ** 2) of each sample; every sample is augmented with the same numbers."""
    random = np.random.default_rng(seed)
    batch = slices.shape[0]
    numbers = np.repeat(random.random(numbers_shape(1)), batch, axis=0)
    noise = np.repeat(random.standard_normal((1, *SHAPE[:2], IMAGE_CHANNELS)), batch, axis=0)
    outputs = augment(
        slices,
        image_channels=IMAGE_CHANNELS,
        operations=operations,
        probability=tf.constant(1.0),
        numbers=tf.constant(numbers),
        noise=tf.constant(noise),
    )
    return tf.reduce_sum(tf.tanh(outputs) ** 2, axis=(1, 2, 3))


def penalties(slices, operations, seed):
    """Return the squared norm of each sample's gradient, as R1 has it."""
    with tf.GradientTape() as tape:
        tape.watch(slices)
        total = tf.reduce_sum(energies(slices, operations, seed))
    return tf.reduce_sum(tape.gradient(total, slices) ** 2, axis=(1, 2, 3))


def finite_differences(function, slices):
    """Return central differences for each value of one sample; the disturbed copies are one batch."""
    steps = STEP * np.eye(slices.size).reshape(-1, *slices.shape)
    outputs = np.asarray(function(tf.constant(np.concatenate([slices + steps, slices - steps]))))
    above, below = np.split(outputs, 2)
    return ((above - below) / (2 * STEP)).reshape(slices.shape)


@pytest.mark.parametrize("function", [energies, penalties], ids=["first order", "second order"])
@pytest.mark.parametrize("case", CASES)
def test_derivatives_equal_finite_differences(case, function):
    """A user would train against gradients that point elsewhere, with no error to tell."""
    for seed in (0, 1):
        slices = np.random.default_rng(seed + 10).uniform(-1, 1, SHAPE)
        inputs = tf.constant(slices[None])
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            value = tf.reduce_sum(function(inputs, CASES[case], seed))
        exact = np.asarray(tape.gradient(value, inputs))[0]
        numeric = finite_differences(lambda batch, seed=seed: function(batch, CASES[case], seed), slices)
        assert np.abs(numeric).max() > 1e-3
        np.testing.assert_allclose(exact, numeric, atol=1e-7, rtol=1e-6)
