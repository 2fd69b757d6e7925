"""Operations that change the intensities of image planes, each by an affine map of the values.

Gamma and the inversion of intensities are left out: a gamma needs values clipped to a range, where the gradients of
R1 and of the generator vanish, and an inverted scan is no scan. Hue and saturation turn red, green and blue into each
other; channels of a scan have no such circle, so what changes there is how strong each is beside the others.
"""

import math

from keras import ops

from synthmed.training.augmentation.draws import Draws, for_planes, normal_of

LEVEL = ("brightness", "contrast", "channel_gain", "diff_brightness")
"""What `level` does, in its order."""

NOISE = 0.1
"""Standard deviation of the half-normal standard deviation of the noise (arXiv:2006.06676, appendix B)."""

BRIGHTNESS = 0.2
"""Standard deviation of the sum, where images lie in [-1, 1] (the same)."""

CONTRAST_OCTAVES = 0.5
"""Standard deviation of the logarithm to base 2 of the factor (the same)."""

CHANNEL_OCTAVES = 0.5
"""The same for the gains of channels beside each other; the paper has no such operation."""


def level(image, draws: Draws, *, operations: tuple[str, ...]):
    """Do the operations of `LEVEL` as one gain and one sum, at the cost of one.

    Args:
        image: `(batch, height, width, channels)`.
        draws: Random numbers.
        operations: Names; others are passed over.
    """
    gain = ops.ones_like(draws.uniform("brightness"))
    offset = ops.zeros_like(gain)
    if "brightness" in operations:
        offset = draws.gated("brightness", BRIGHTNESS * draws.normal("brightness"), 0.0)
    if "contrast" in operations:
        # About 0, the middle of the range.
        factor = draws.gated("contrast", draws.log_normal("contrast", CONTRAST_OCTAVES), 1.0)
        gain, offset = gain * factor, offset * factor
    if "channel_gain" in operations:
        factor = draws.gated("channel_gain", _channel_gains(draws, image.shape[-1]), 1.0)
        gain, offset = gain * factor, offset * factor
    if "diff_brightness" in operations:
        offset = offset + draws.gated("diff_brightness", draws.uniform("diff_brightness") - 0.5, 0.0)
    return image * for_planes(gain, image) + for_planes(offset, image)


def saturation(image, draws: Draws):
    """Multiply the distance of each channel to the mean of the channels, at each pixel, with one U(0, 2)."""
    if image.shape[-1] < 2:
        return image
    factor = draws.gated("diff_saturation", 2.0 * draws.uniform("diff_saturation"), 1.0)
    return _scale_about(ops.mean(image, axis=3, keepdims=True), image, factor)


def contrast_about_mean(image, draws: Draws):
    """Multiply the distance to the mean of the sample with one U(0.5, 1.5)."""
    factor = draws.gated("diff_contrast", draws.uniform("diff_contrast") + 0.5, 1.0)
    return _scale_about(ops.mean(image, axis=(1, 2, 3), keepdims=True), image, factor)


def add_noise(image, noise, draws: Draws):
    """Add `noise`, standard normal in the shape of `image`, times the absolute value of one N(0, 0.1 ** 2)."""
    sigma = draws.gated("noise", NOISE * ops.abs(draws.normal("noise")), 0.0)
    return image + for_planes(sigma, image) * ops.cast(noise, image.dtype)


def _scale_about(middle, image, factor):
    # Not middle + (image - middle) * factor, which rounds where the factor is 1.
    return image * for_planes(factor, image) + middle * for_planes(1.0 - factor, middle)


def _channel_gains(draws: Draws, channels: int):
    """Return `(batch, channels)`: each channel's 2 ** N(0, 0.5 ** 2) over their geometric mean.

    What all channels share is left to the contrast; one channel alone stays as it is. Any number of channels is served
    by two numbers u and v: the fractional parts of u + c v are uniform for each channel c and independent by pairs.
    """
    base, step = ops.split(draws.uniform("channel_gain"), 2, axis=1)
    phase = base + step * ops.arange(channels, dtype=base.dtype)
    logs = CHANNEL_OCTAVES * normal_of(phase - ops.floor(phase))
    return ops.exp(math.log(2.0) * (logs - ops.mean(logs, axis=1, keepdims=True)))
