import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage, stats

from synthmed.training.augmentation import augment

Z = stats.norm.ppf
SHAPE = (3, 11, 8, 5)
UNIFORM = np.array([[0.1], [0.5], [0.95]])


@pytest.fixture
def run(pieces, numbers_for):
    """Return a function from one operation and its uniform values to (image before, image after)."""

    def make(name, uniform, channels=3):
        slices, _, noise = pieces((*SHAPE[:3], channels + 2), channels)
        outputs = augment(
            tf.constant(slices),
            image_channels=channels,
            operations=[name],
            probability=0.5,
            numbers=numbers_for(SHAPE[0], **{name: uniform}),
            noise=noise,
        )
        return slices[..., :channels], np.asarray(outputs)[..., :channels], noise

    return make


def each(values):
    return np.asarray(values).reshape(SHAPE[0], 1, 1, -1)


def test_levels_equal_their_formulas(run):
    """A user would train with strengths that no paper and no document names."""
    before, after, _ = run("brightness", UNIFORM)
    np.testing.assert_allclose(after, before + each(0.2 * Z(UNIFORM)), atol=1e-9)
    before, after, _ = run("contrast", UNIFORM)
    np.testing.assert_allclose(after, before * each(2 ** (0.5 * Z(UNIFORM))), atol=1e-9)
    before, after, _ = run("diff_brightness", UNIFORM)
    np.testing.assert_allclose(after, before + each(UNIFORM - 0.5), atol=1e-9)
    before, after, _ = run("diff_contrast", UNIFORM)
    mean = before.mean(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(after, mean + (before - mean) * each(UNIFORM + 0.5), atol=1e-9)
    before, after, _ = run("diff_saturation", UNIFORM)
    mean = before.mean(axis=3, keepdims=True)
    np.testing.assert_allclose(after, mean + (before - mean) * each(2 * UNIFORM), atol=1e-9)


def test_noise_is_added_with_a_half_normal_strength(run):
    """A user would drown slices in noise, or add none."""
    before, after, noise = run("noise", UNIFORM)
    np.testing.assert_allclose(after, before + 0.1 * np.abs(each(Z(UNIFORM))) * noise, atol=1e-9)


def test_brightness_comes_before_contrast(pieces, numbers_for):
    """A user would lose the order of the paper: a shift after the contrast is not scaled by it."""
    slices, _, _ = pieces(SHAPE, 3)
    numbers = numbers_for(3, brightness=0.8, contrast=0.7)
    arguments = {"image_channels": 3, "probability": 0.5, "numbers": numbers}
    outputs = augment(tf.constant(slices), operations=("contrast", "brightness"), **arguments)
    expected = (slices[..., :3] + 0.2 * Z(0.8)) * 2 ** (0.5 * Z(0.7))
    np.testing.assert_allclose(outputs[..., :3], expected, atol=1e-9)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_channel_gains_change_channels_beside_each_other_alone(run, channels):
    """A user with four sequences would see them change together, and with one sequence doubled contrast."""
    before, after, _ = run("channel_gain", np.array([[0.1, 0.2], [0.7, 0.45], [0.3, 0.9]]), channels)
    gains = (after / before)[:, 0, 0]
    np.testing.assert_allclose(after, before * each(gains), atol=1e-9)
    np.testing.assert_allclose(np.prod(gains, axis=1), 1.0)
    if channels > 1:
        assert np.ptp(gains, axis=1).min() > 0.05


def test_channel_gains_have_the_documented_spread(pieces, numbers_for):
    """A user with many channels would have the last one changed otherwise than the first."""
    random = np.random.default_rng(0)
    count, channels = 4000, 4
    slices = np.ones((count, 1, 1, channels))
    numbers = numbers_for(count, channel_gain=random.random((count, 2)))
    outputs = augment(
        tf.constant(slices), image_channels=channels, operations=["channel_gain"], probability=0.5, numbers=numbers
    )
    logs = np.log2(np.asarray(outputs)[:, 0, 0])
    # Independent numbers less their mean keep 1 - 1 / channels of the variance.
    np.testing.assert_allclose(logs.std(axis=0), 0.5 * np.sqrt(1 - 1 / channels), rtol=0.05)
    np.testing.assert_allclose(logs.mean(axis=0), 0.0, atol=0.03)


@pytest.mark.parametrize("shape", [(11, 8), (3, 2), (1, 5)])
def test_bands_equal_filters_of_scipy(numbers_for, shape):
    """A user would train with filters that brighten borders, or that shift the slice."""
    uniform = np.array([[0.2, 0.9, 0.6, 0.3], [0.5, 0.5, 0.5, 0.9]])
    image = np.random.default_rng(0).uniform(-1, 1, (2, *shape, 2))
    outputs = augment(
        tf.constant(image),
        image_channels=2,
        operations=["bands"],
        probability=0.5,
        numbers=numbers_for(2, bands=uniform),
    )
    gains = 2 ** Z(uniform)
    gains /= np.sqrt((gains**2 * [1, 1, 1, 10]).sum(axis=1, keepdims=True) / 13)
    expected, rest = np.zeros_like(image), image
    for number, distance in enumerate((1, 2, 4)):
        taps = np.zeros(2 * distance + 1)
        taps[[0, distance, -1]] = 0.25, 0.5, 0.25
        low = rest
        for axis in (1, 2):
            low = ndimage.correlate1d(low, taps, axis=axis, mode="mirror")
        expected += gains[:, number, None, None, None] * (rest - low)
        rest = low
    expected += gains[:, 3, None, None, None] * rest
    np.testing.assert_allclose(outputs, expected, atol=1e-8)
