"""Classical augmentation of slices inside tf.data, the same for real and synthetic ones.

Every random number follows from (seed, step), so that a resumed training sees what an undisturbed one would have seen.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import tensorflow as tf

AIR = -1.0
"""Prepared intensity outside an image."""


class Augmentation(BaseModel):
    """How far slices are changed; a range of 0 switches that change off.

    Each change comes with a probability, so that plain slices stay common: interpolation smooths what it moves, and the
    slices that the network is applied to later are not smoothed.

    Attributes:
        geometry: Probability of rotation, scale, stretch and translation, all of them together.
        rotation: Largest angle, degrees, either way.
        scale: Largest relative change of size, either way: 0.2 draws factors from 1 / 1.2 to 1.2.
        stretch: The same for the ratio of the two axes.
        translation: Largest shift, as a share of the side.
        flip_rows: Whether to mirror along the rows in half of the slices; off, since anatomy has sides.
        flip_columns: The same along the columns.
        intensity: Probability of each of brightness, contrast, gamma and noise.
        brightness: Largest shift of intensities (whose range is -1 to 1), either way.
        contrast: Largest relative change about the slice's mean, either way.
        gamma: Largest relative change of the exponent, either way.
        noise: Largest standard deviation of Gaussian noise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    geometry: float = Field(0.5, ge=0, le=1)
    rotation: float = Field(20.0, ge=0, le=180)
    scale: float = Field(0.2, ge=0)
    stretch: float = Field(0.1, ge=0)
    translation: float = Field(0.06, ge=0, le=1)
    flip_rows: bool = False
    flip_columns: bool = False
    intensity: float = Field(0.3, ge=0, le=1)
    brightness: float = Field(0.2, ge=0)
    contrast: float = Field(0.3, ge=0)
    gamma: float = Field(0.4, ge=0)
    noise: float = Field(0.15, ge=0)


def augment(
    image: "tf.Tensor", label: "tf.Tensor", *, seed: int, step: "tf.Tensor", options: Augmentation
) -> "tuple[tf.Tensor, tf.Tensor]":
    """Return changed slices and their equally changed labels.

    Args:
        image: float32 `[batch, height, width, channels]` in [-1, 1].
        label: uint8 `[batch, height, width]` of class indices.
        seed: Of the training.
        step: Number of the training step, int64 scalar.
        options: How far.
    """
    draw = _Draw(seed, step)
    image, label = _move(image, label, draw, options)
    return _recolour(image, draw, options), label


class _Draw:
    """Uniform and normal numbers from one stream per call, keyed by seed and step."""

    def __init__(self, seed: int, step: "tf.Tensor"):
        self._seed, self._step, self._calls = seed, step, 0

    def _key(self) -> "tf.Tensor":
        import tensorflow as tf

        self._calls += 1
        return tf.stack([tf.constant(self._seed * 64 + self._calls, tf.int64), tf.cast(self._step, tf.int64)])

    def uniform(self, shape: Any, low: float = 0.0, high: float = 1.0) -> "tf.Tensor":
        import tensorflow as tf

        return tf.random.stateless_uniform(shape, self._key(), low, high)

    def normal(self, shape: Any) -> "tf.Tensor":
        import tensorflow as tf

        return tf.random.stateless_normal(shape, self._key())

    def factor(self, shape: Any, range_: float) -> "tf.Tensor":
        """Factors from 1 / (1 + range) to 1 + range, as likely to enlarge as to shrink."""
        import tensorflow as tf

        limit = math.log1p(range_)
        return tf.exp(self.uniform(shape, -limit, limit))


def _move(image: "tf.Tensor", label: "tf.Tensor", draw: _Draw, options: Augmentation) -> "tuple[tf.Tensor, tf.Tensor]":
    """Move those slices that are drawn to be moved; the others pass as they are."""
    import tensorflow as tf

    height, width = image.shape[1:3]
    transforms = _transforms(tf.shape(image)[0], (height, width), draw, options)
    chosen = tf.where(tf.reduce_any(transforms != tf.constant([1.0, 0, 0, 0, 1, 0, 0, 0]), axis=1))
    common = {
        "transforms": tf.gather_nd(transforms, chosen),
        "output_shape": (height, width),
        "fill_mode": "CONSTANT",
    }
    # No gradient flows through augmentation, so this op's wrong gradient does not matter here, and it is fast.
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.gather_nd(image, chosen), interpolation="BILINEAR", fill_value=AIR, **common
    )
    moved_label = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.gather_nd(label, chosen)[..., tf.newaxis], interpolation="NEAREST", fill_value=0.0, **common
    )
    image = tf.tensor_scatter_nd_update(image, chosen, moved)
    return image, tf.tensor_scatter_nd_update(label, chosen, moved_label[..., 0])


def _transforms(count: "tf.Tensor", size: tuple[int, int], draw: _Draw, options: Augmentation) -> "tf.Tensor":
    """Return `[count, 8]` projective transforms from output to input pixels (x is the column, y the row)."""
    import tensorflow as tf

    height, width = size
    moved = tf.cast(draw.uniform([count]) < options.geometry, tf.float32)
    angle = draw.uniform([count], -1.0, 1.0) * math.radians(options.rotation) * moved
    scale = draw.factor([count], options.scale) ** moved
    stretch = draw.factor([count], options.stretch) ** (moved / 2.0)
    shift_x = draw.uniform([count], -1.0, 1.0) * options.translation * width * moved
    shift_y = draw.uniform([count], -1.0, 1.0) * options.translation * height * moved
    mirror_x = _signs(draw.uniform([count]), options.flip_columns)
    mirror_y = _signs(draw.uniform([count]), options.flip_rows)
    along_x, along_y = mirror_x * scale * stretch, mirror_y * scale / stretch
    cos, sin = tf.cos(angle), tf.sin(angle)
    a, b = cos * along_x, -sin * along_y
    c, d = sin * along_x, cos * along_y
    # Turn and scale about the middle of the slice, then shift.
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    e = centre_x - a * centre_x - b * centre_y + shift_x
    f = centre_y - c * centre_x - d * centre_y + shift_y
    zero = tf.zeros([count])
    return tf.stack([a, b, e, c, d, f, zero, zero], axis=1)


def _signs(uniform: "tf.Tensor", flips: bool) -> "tf.Tensor":
    import tensorflow as tf

    return tf.where(uniform < 0.5, -1.0, 1.0) if flips else tf.ones_like(uniform)


def _recolour(image: "tf.Tensor", draw: _Draw, options: Augmentation) -> "tf.Tensor":
    """Change gamma, contrast and brightness of each channel by itself, then add noise.

    Each change is worked out for those channels of those slices that it was drawn for, which are the fewer.
    """
    import tensorflow as tf

    height, width, channels = image.shape[1:]
    each = (tf.shape(image)[0], 1, 1, channels)

    def sometimes(changed: "tf.Tensor", unchanged: float) -> "tf.Tensor":
        chosen = tf.where(draw.uniform(each) < options.intensity, changed, unchanged)
        return tf.reshape(chosen, [-1, 1])

    def change(planes: "tf.Tensor", due: "tf.Tensor", how: "Callable[..., tf.Tensor]", *values: "tf.Tensor"):
        chosen = tf.where(due[:, 0])
        changed = how(tf.gather_nd(planes, chosen), *(tf.gather_nd(value, chosen) for value in values))
        return tf.tensor_scatter_nd_update(planes, chosen, changed)

    # A row for each channel of each slice.
    planes = tf.reshape(tf.transpose(image, (0, 3, 1, 2)), [-1, height * width])
    gamma = sometimes(draw.factor(each, options.gamma), 1.0)
    planes = change(planes, gamma != 1.0, _with_gamma, gamma)
    contrast = sometimes(draw.factor(each, options.contrast), 1.0)
    brightness = sometimes(draw.uniform(each, -1.0, 1.0) * options.brightness, 0.0)
    sigma = sometimes(draw.uniform(each) * options.noise, 0.0)
    linear = (contrast != 1.0) | (brightness != 0.0)
    planes = change(planes, linear, _with_contrast, contrast, brightness)
    if options.noise:
        planes = change(planes, sigma != 0.0, lambda rows, own: rows + own * draw.normal(tf.shape(rows)), sigma)
    return tf.transpose(tf.reshape(planes, [-1, channels, height, width]), (0, 2, 3, 1))


def _with_gamma(planes: "tf.Tensor", gamma: "tf.Tensor") -> "tf.Tensor":
    import tensorflow as tf

    # The bilinear sum may leave [-1, 1] by rounding, and a negative base has no power. By logarithm and exponential,
    # which are several times faster than tf.pow with an exponent for each row; 0 becomes less than 1e-15.
    positive = tf.clip_by_value((planes + 1.0) / 2.0, 1e-37, 1.0)
    return 2.0 * tf.exp(gamma * tf.math.log(positive)) - 1.0


def _with_contrast(planes: "tf.Tensor", contrast: "tf.Tensor", brightness: "tf.Tensor") -> "tf.Tensor":
    import tensorflow as tf

    mean = tf.reduce_mean(planes, axis=1, keepdims=True)
    return planes * contrast + (mean * (1.0 - contrast) + brightness)
