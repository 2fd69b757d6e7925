"""Changing the intensities of slices inside tf.data: sharpness, gamma, contrast, brightness, noise."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from synthmed.segmentation.draws import Draws

if TYPE_CHECKING:
    import tensorflow as tf

    from synthmed.segmentation.augment import Augmentation


def recolour(image: "tf.Tensor", draws: Draws, options: "Augmentation") -> "tf.Tensor":
    """Change sharpness, gamma, contrast and brightness of each channel by itself, then add noise.

    Each change is worked out for those channels of those slices that it was drawn for, which are the fewer.

    Args:
        image: float32 `[batch, height, width, channels]`, about -1 to 1.
        draws: Random numbers of the step.
        options: How far.
    """
    import tensorflow as tf

    height, width, channels = image.shape[1:]
    # A row for each channel of each slice.
    planes = tf.reshape(tf.transpose(image, (0, 3, 1, 2)), [-1, height * width])
    planes = _soften(planes, (height, width), draws, options)
    planes = _change_curve(planes, draws, options)
    if options.noise:
        sigma = _sometimes(planes, draws, options.intensity, lambda each: draws.uniform(each) * options.noise, 0.0)
        planes = _change(planes, sigma != 0.0, lambda rows, own: rows + own * draws.normal(tf.shape(rows)), sigma)
    return tf.transpose(tf.reshape(planes, [-1, channels, height, width]), (0, 2, 3, 1))


def _change_curve(planes: "tf.Tensor", draws: Draws, options: "Augmentation") -> "tf.Tensor":
    import tensorflow as tf

    gamma = _sometimes(planes, draws, options.intensity, lambda each: draws.factor(each, options.gamma), 1.0)
    sign = tf.where(draws.uniform(tf.shape(gamma)) < options.gamma_inverted, -1.0, 1.0)
    planes = _change(planes, gamma != 1.0, _with_gamma, gamma, sign)
    contrast = _sometimes(planes, draws, options.intensity, lambda each: draws.factor(each, options.contrast), 1.0)
    brightness = _sometimes(
        planes, draws, options.intensity, lambda each: draws.uniform(each, -1.0, 1.0) * options.brightness, 0.0
    )
    return _change(planes, (contrast != 1.0) | (brightness != 0.0), _with_contrast, contrast, brightness)


def _soften(planes: "tf.Tensor", size: tuple[int, int], draws: Draws, options: "Augmentation") -> "tf.Tensor":
    """Blur some planes and draw some on a coarser grid and back; both act along rows and columns one by one.

    Along an axis each is a matrix, so that planes with values of their own are one batched product.
    """
    import tensorflow as tf

    sigma = _sometimes(planes, draws, options.sharpness, lambda each: draws.uniform(each) * options.blur, 0.0)
    factor = _sometimes(
        planes, draws, options.sharpness, lambda each: 1.0 + draws.uniform(each) * options.low_resolution, 1.0
    )

    def soften(rows: "tf.Tensor", sigma: "tf.Tensor", factor: "tf.Tensor") -> "tf.Tensor":
        along_rows, along_columns = (tf.matmul(_coarsening(side, factor), _blurring(side, sigma)) for side in size)
        pictures = tf.reshape(rows, [-1, *size])
        softened = tf.matmul(tf.matmul(along_rows, pictures), along_columns, transpose_b=True)
        return tf.reshape(softened, [-1, size[0] * size[1]])

    return _change(planes, (sigma != 0.0) | (factor != 1.0), soften, sigma, factor)


def _blurring(side: int, sigma: "tf.Tensor") -> "tf.Tensor":
    """Return `[n, side, side]` for deviations `[n, 1]` in pixels: Gaussian weights that sum to 1 in each row."""
    import tensorflow as tf

    places = tf.range(side, dtype=tf.float32)
    distance = (places[:, tf.newaxis] - places) / tf.maximum(sigma, 1e-3)[..., tf.newaxis]
    weights = tf.exp(-0.5 * distance**2)
    return weights / tf.reduce_sum(weights, axis=2, keepdims=True)


def _coarsening(side: int, factor: "tf.Tensor") -> "tf.Tensor":
    """Return `[n, side, side]` for factors `[n, 1]`: nearest pixels of a grid coarser by the factor, then linear."""
    import tensorflow as tf

    last = tf.math.ceil(side / factor) - 1.0
    place = tf.clip_by_value((tf.range(side, dtype=tf.float32) + 0.5) / factor - 0.5, 0.0, last)
    before = tf.floor(place)
    share = (place - before)[..., tf.newaxis]

    def sampled(number: "tf.Tensor") -> "tf.Tensor":
        nearest = tf.floor((tf.minimum(number, last) + 0.5) * factor)
        return tf.one_hot(tf.cast(tf.minimum(nearest, side - 1.0), tf.int32), side)

    return sampled(before) * (1.0 - share) + sampled(before + 1.0) * share


def _sometimes(
    planes: "tf.Tensor",
    draws: Draws,
    probability: float,
    changed: "Callable[[tuple[tf.Tensor, int]], tf.Tensor]",
    unchanged: float,
) -> "tf.Tensor":
    """Return `[planes, 1]`: for each plane the changed value or, more often, the one that changes nothing."""
    import tensorflow as tf

    each = (tf.shape(planes)[0], 1)
    return tf.where(draws.uniform(each) < probability, changed(each), unchanged)


def _change(
    planes: "tf.Tensor", due: "tf.Tensor", how: "Callable[..., tf.Tensor]", *values: "tf.Tensor"
) -> "tf.Tensor":
    import tensorflow as tf

    chosen = tf.where(due[:, 0])
    changed = how(tf.gather_nd(planes, chosen), *(tf.gather_nd(value, chosen) for value in values))
    return tf.tensor_scatter_nd_update(planes, chosen, changed)


def _with_gamma(planes: "tf.Tensor", gamma: "tf.Tensor", sign: "tf.Tensor") -> "tf.Tensor":
    """Raise intensities, or where `sign` is -1 their negative, to a power on the scale of 0..1."""
    import tensorflow as tf

    # The bilinear sum may leave [-1, 1] by rounding, and a negative base has no power. By logarithm and exponential,
    # which are several times faster than tf.pow with an exponent for each row; 0 becomes less than 1e-15.
    positive = tf.clip_by_value((sign * planes + 1.0) / 2.0, 1e-37, 1.0)
    return sign * (2.0 * tf.exp(gamma * tf.math.log(positive)) - 1.0)


def _with_contrast(planes: "tf.Tensor", contrast: "tf.Tensor", brightness: "tf.Tensor") -> "tf.Tensor":
    import tensorflow as tf

    mean = tf.reduce_mean(planes, axis=1, keepdims=True)
    return planes * contrast + (mean * (1.0 - contrast) + brightness)
