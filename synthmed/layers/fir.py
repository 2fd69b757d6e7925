"""Low-pass resampling with the binomial filter [1, 3, 3, 1] of StyleGAN2.

The filter is the threefold convolution of [1, 1] with itself, so it is computed as average pools of width two. On a
CPU that is several times faster than a depthwise convolution, and being linear with registered gradients of every
order it is safe under R1 and path-length regularisation, unlike bilinear resizing.
"""

import keras
from keras import ops


def blur(inputs, *, padding: tuple[int, int]):
    """Filter `(batch, height, width, channels)` with [1, 3, 3, 1] / 8 along both image axes.

    Args:
        inputs: Tensor of rank 4, channels last.
        padding: Zeros added before and after each image axis; the output is `before + after - 3` longer.
    """
    outputs = ops.pad(inputs, ((0, 0), padding, padding, (0, 0)))
    for _ in range(3):
        outputs = _pair_mean(outputs)
    return outputs


def downsample(inputs):
    """Filter and keep every second row and column: `(batch, 2h, 2w, c)` to `(batch, h, w, c)`."""
    outputs = ops.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return _pair_mean(_pair_mean(_pair_mean(outputs)), strides=2)


def upsample(inputs):
    """Insert zeros and filter with a gain of four: `(batch, h, w, c)` to `(batch, 2h, 2w, c)`.

    Zero insertion followed by [1, 1] is repetition of each value; two pair means do the rest of the filter.
    """
    outputs = ops.repeat(ops.repeat(inputs, 2, axis=1), 2, axis=2)
    outputs = ops.pad(outputs, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return _pair_mean(_pair_mean(outputs))


def _pair_mean(inputs, strides: int = 1):
    return ops.average_pool(inputs, 2, strides=strides, padding="valid", data_format="channels_last")


@keras.saving.register_keras_serializable(package="synthmed")
class FIRBlur(keras.layers.Layer):
    """`blur` as a layer.

    Args:
        padding: Zeros before and after each image axis; (1, 2) keeps the size.
    """

    def __init__(self, *, padding: tuple[int, int] = (1, 2), **kwargs):
        super().__init__(**kwargs)
        self.padding: tuple[int, int] = (padding[0], padding[1])

    def call(self, inputs):
        return blur(inputs, padding=self.padding)

    def get_config(self):
        return {**super().get_config(), "padding": list(self.padding)}


@keras.saving.register_keras_serializable(package="synthmed")
class FIRDownsample(keras.layers.Layer):
    """`downsample` as a layer: halves an even height and width."""

    def call(self, inputs):
        return downsample(inputs)


@keras.saving.register_keras_serializable(package="synthmed")
class FIRUpsample(keras.layers.Layer):
    """`upsample` as a layer: doubles height and width."""

    def call(self, inputs):
        return upsample(inputs)
