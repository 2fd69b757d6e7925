import numpy as np
import pytest
from scipy import signal

from synthmed.layers import ModulatedConv2D


def reference(inputs, style, kernel, *, demodulate, upsample):
    """Equations 1 and 3 of arXiv:1912.04958, one sample and one pair of channels at a time."""
    batch, height, width, channels = inputs.shape
    filters = kernel.shape[-1]
    outputs = []
    for image, scale in zip(inputs, style, strict=True):
        modulated = kernel * scale[None, None, :, None]
        if demodulate:
            modulated = modulated / np.sqrt(np.sum(modulated**2, axis=(0, 1, 2)) + 1e-8)
        sample = []
        for out in range(filters):
            total = 0.0
            for channel in range(channels):
                taps = modulated[:, :, channel, out]
                if upsample:
                    spread = np.zeros((2 * height - 1, 2 * width - 1))
                    spread[::2, ::2] = image[..., channel]
                    total = total + signal.convolve2d(spread, taps, mode="full")
                else:
                    total = total + signal.correlate2d(image[..., channel], taps, mode="same")
            if upsample:
                low_pass = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 16
                total = signal.convolve2d(np.pad(total, 1), low_pass, mode="valid")
            sample.append(total)
        outputs.append(np.stack(sample, axis=-1))
    return np.stack(outputs)


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize(("kernel_size", "upsample"), [(1, False), (3, False), (3, True)])
def test_equals_the_kernel_a_sample_of_the_paper(kernel_size, upsample, demodulate):
    """A user would lose StyleGAN2 itself: scaling activations must equal scaling each sample's kernel."""
    random = np.random.default_rng(0)
    inputs = random.standard_normal((2, 5, 4, 3)).astype(np.float32)
    style = (1 + random.standard_normal((2, 3))).astype(np.float32)
    layer = ModulatedConv2D(4, kernel_size=kernel_size, demodulate=demodulate, upsample=upsample)
    outputs = np.asarray(layer(inputs, style))
    kernel = np.asarray(layer.kernel, np.float64) * layer.kernel_scale
    expected = reference(inputs, style, kernel, demodulate=demodulate, upsample=upsample)
    np.testing.assert_allclose(outputs, expected, atol=2e-5)


def test_demodulated_output_has_unit_variance_whatever_the_style():
    """A user would lose stable training: styles must not set the scale of activations."""
    random = np.random.default_rng(1)
    inputs = random.standard_normal((4, 32, 32, 64)).astype(np.float32)
    for scale in (0.01, 1.0, 100.0):
        outputs = ModulatedConv2D(16)(inputs, np.full((4, 64), scale, np.float32))
        assert np.std(np.asarray(outputs)[:, 2:-2, 2:-2]) == pytest.approx(1.0, abs=0.1)


def test_upsampling_keeps_the_scale():
    """A user would see activations grow or vanish with every doubling."""
    random = np.random.default_rng(2)
    inputs = np.repeat(np.repeat(random.standard_normal((4, 4, 4, 64)), 4, 1), 4, 2).astype(np.float32)
    style = np.ones((4, 64), np.float32)
    layer = ModulatedConv2D(64, upsample=True)
    plain = ModulatedConv2D(64)
    doubled, same = np.asarray(layer(inputs, style)), np.asarray(plain(inputs, style))
    assert 0.5 < np.std(doubled[:, 4:-4, 4:-4]) / np.std(same[:, 2:-2, 2:-2]) < 2.0


def test_refuses_what_it_cannot_do():
    """A user would get a wrong network from an even kernel."""
    with pytest.raises(ValueError, match="odd"):
        ModulatedConv2D(4, kernel_size=2)
    with pytest.raises(ValueError, match="kernel of 3"):
        ModulatedConv2D(4, kernel_size=1, upsample=True)
