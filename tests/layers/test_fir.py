from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from scipy import signal

from synthmed.layers import FIRBlur, FIRDownsample, FIRUpsample
from synthmed.layers.fir import blur, downsample, upsample

FILTER = np.array([1.0, 3.0, 3.0, 1.0])


def images(height, width, seed=0):
    return np.random.default_rng(seed).standard_normal((2, height, width, 3)).astype(np.float32)


def along_both_axes(array, up, down, taps, start, length):
    for axis, count in ((1, length[0]), (2, length[1])):
        array = signal.upfirdn(taps, array, up=up, down=1, axis=axis)
        array = np.take(array, range(start, start + count * down, down), axis=axis)
    return array


@settings(max_examples=15, deadline=None)
@given(height=st.integers(2, 9), width=st.integers(2, 9))
def test_upsampling_is_zero_insertion_and_the_binomial_filter(height, width):
    """A user would lose the alias-free upsampling of StyleGAN2: generated edges would show a grid."""
    inputs = images(height, width)
    expected = along_both_axes(inputs, 2, 1, FILTER / 4, 1, (2 * height, 2 * width))
    np.testing.assert_allclose(FIRUpsample()(inputs), expected, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(height=st.integers(1, 5), width=st.integers(1, 5))
def test_downsampling_is_the_binomial_filter_and_every_second_pixel(height, width):
    """A user would lose a discriminator that sees without aliasing."""
    inputs = images(2 * height, 2 * width)
    expected = along_both_axes(inputs, 1, 2, FILTER / 8, 2, (height, width))
    np.testing.assert_allclose(FIRDownsample()(inputs), expected, atol=1e-5)


@pytest.mark.parametrize("padding", [(1, 2), (2, 2), (1, 1)])
def test_blur_is_the_binomial_filter_with_zero_padding(padding):
    """A user would lose the low-pass filter around strided and transposed convolutions."""
    inputs = images(7, 6)
    outputs = np.asarray(FIRBlur(padding=padding)(inputs))
    padded = np.pad(inputs, ((0, 0), padding, padding, (0, 0)))
    kernel = np.outer(FILTER, FILTER)[None, :, :, None] / 64
    np.testing.assert_allclose(outputs, signal.convolve(padded, kernel, mode="valid"), atol=1e-5)


def test_a_constant_image_stays_constant_inside():
    """A user would see samples darken or brighten with every level if the filters had a gain."""
    ones = np.ones((1, 12, 12, 1), np.float32)
    np.testing.assert_allclose(np.asarray(FIRUpsample()(ones))[0, 2:-2, 2:-2], 1.0, atol=1e-6)
    np.testing.assert_allclose(np.asarray(FIRDownsample()(ones))[0, 1:-1, 1:-1], 1.0, atol=1e-6)


@pytest.mark.parametrize("size", [(6, 4), (8, 10)])
@pytest.mark.parametrize(
    "function", [downsample, upsample, *(partial(blur, padding=pair) for pair in [(2, 2), (1, 1), (1, 2), (0, 3)])]
)
def test_gradient_is_the_transposed_matrix_and_so_is_its_own(function, size, tf):
    """A user would train with wrong gradients: they are written by hand, as the filter that transposes this one."""
    count = size[0] * size[1]
    units = np.eye(count).reshape(count, *size, 1)
    matrix = np.asarray(function(ops.convert_to_tensor(units, "float64"))).reshape(count, -1)
    upstream = np.random.default_rng(0).standard_normal(function(units[:1]).shape)
    inputs, weights = tf.constant(units[:1]), tf.Variable(upstream)
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            inner.watch(inputs)
            outputs = tf.reduce_sum(function(inputs) * weights)
        gradient = inner.gradient(outputs, inputs)
        # Through the square, the gradient of the gradient is the matrix again.
        energy = tf.reduce_sum(gradient**2)
    np.testing.assert_allclose(np.ravel(gradient), matrix @ np.ravel(upstream), atol=1e-12)
    second = outer.gradient(energy, weights)
    np.testing.assert_allclose(np.ravel(second), 2 * matrix.T @ np.ravel(gradient), atol=1e-12)


def test_refuses_padding_that_the_filter_cannot_reach():
    """A user would get a gradient of another shape than the input."""
    with pytest.raises(ValueError, match="0 to 3"):
        blur(images(4, 4), padding=(4, 0))
