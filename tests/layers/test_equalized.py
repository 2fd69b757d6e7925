import keras
import numpy as np
import pytest
from scipy import signal

from synthmed.layers import EqualizedConv2D, EqualizedDense


def test_variance_does_not_depend_on_fan_in():
    """A user would lose stable training of wide layers if the run-time scale were wrong."""
    keras.utils.set_random_seed(0)
    for fan_in in (8, 512):
        inputs = keras.random.normal((4096, fan_in), seed=0)
        outputs = EqualizedDense(256, learning_rate_multiplier=0.01)(inputs)
        assert float(np.var(outputs)) == pytest.approx(1.0, abs=0.1)


def test_bias_starts_at_its_effective_value():
    """A user would lose styles that begin as identity."""
    outputs = EqualizedDense(3, learning_rate_multiplier=0.01, bias_init=1.0)(np.zeros((2, 4), np.float32))
    np.testing.assert_allclose(outputs, 1.0)


def test_strided_convolution_sees_the_filtered_image_as_same_padding_would():
    """A user would lose the discriminator's alignment: a shift of one pixel at every level."""
    inputs = np.random.default_rng(0).standard_normal((1, 8, 6, 1)).astype(np.float32)
    layer = EqualizedConv2D(1, downsample=True, use_bias=False)
    outputs = np.asarray(layer(inputs))[0, ..., 0]
    taps = np.asarray(layer.kernel)[:, :, 0, 0] * layer.kernel_scale
    low_pass = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64
    filtered = signal.convolve2d(np.pad(inputs[0, ..., 0], 2), low_pass, mode="valid")
    expected = signal.correlate2d(filtered, taps, mode="valid")[::2, ::2]
    np.testing.assert_allclose(outputs, expected, atol=1e-5)


@pytest.mark.parametrize("arguments", [{"filters": 0}, {"filters": 4, "kernel_size": 2}])
def test_refuses_impossible_shapes(arguments):
    """A user would get an error from deep inside TensorFlow instead of the argument's name."""
    with pytest.raises(ValueError, match="filters must be positive"):
        EqualizedConv2D(**arguments)
