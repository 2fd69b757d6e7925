"""Low-pass resampling with the binomial filter [1, 3, 3, 1] of StyleGAN2.

Every filter here is linear and symmetric, so its gradient is another of these filters: the adjoint of a blur is a blur
with the complementary padding, that of downsampling is upsampling. Writing the gradients so spares the processor the
gradient kernels of depthwise convolutions and pools, which are several times slower than the forward ones (40 times
for strided ones in bfloat16). A gradient being made of the same functions, gradients of every order are exact, unlike
those of bilinear resizing.
"""

import keras
import numpy as np
from keras import ops

BINOMIAL = np.array([1.0, 3.0, 3.0, 1.0]) / 8.0
# Repetition of each pixel, then this, is zero insertion followed by the binomial filter at a gain of two.
TENT = np.array([1.0, 2.0, 1.0]) / 4.0


def blur(inputs, *, padding: tuple[int, int]):
    """Filter `(batch, height, width, channels)` with [1, 3, 3, 1] / 8 along both image axes.

    Args:
        inputs: Tensor of rank 4, channels last.
        padding: Zeros added before and after each image axis, 0 to 3; the output is `before + after - 3` longer.

    Raises:
        ValueError: If more than three zeros are asked for: the outermost of them would blur nothing.
    """
    if not all(0 <= count <= 3 for count in padding):
        raise ValueError(f"padding must be from 0 to 3, got {padding}")
    complement = (3 - padding[0], 3 - padding[1])

    def forward(values):
        padded = ops.pad(values, ((0, 0), padding, padding, (0, 0)))
        return _filter(padded, BINOMIAL, padding="valid")

    return _linear(forward, lambda upstream: blur(upstream, padding=complement))(inputs)


def downsample(inputs, *, gain: float = 1.0):
    """Filter and keep every second row and column: `(batch, 2h, 2w, c)` to `(batch, h, w, c)`.

    Args:
        inputs: Tensor of rank 4, channels last.
        gain: Factor on the output; the taps of the filter carry it.
    """

    def forward(values):
        # For even sizes and a stride of two, "same" pads one zero before and one after.
        return _filter(values, BINOMIAL, gain, strides=2, padding="same")

    return _linear(forward, lambda upstream: upsample(upstream, gain=gain / 4.0))(inputs)


def upsample(inputs, *, gain: float = 1.0):
    """Insert zeros and filter with a gain of four: `(batch, h, w, c)` to `(batch, 2h, 2w, c)`.

    Args:
        inputs: Tensor of rank 4, channels last.
        gain: Factor on the output; the taps of the filter carry it.
    """

    def forward(values):
        return _filter(_repeat(values), TENT, gain, padding="same")

    return _linear(forward, lambda upstream: downsample(upstream, gain=gain * 4.0))(inputs)


def _linear(forward, adjoint):
    """Return the linear function `forward` with a gradient that is computed by its adjoint."""

    @ops.custom_gradient
    def function(inputs):
        # TensorFlow and JAX pass the upstream gradient by position, PyTorch by name.
        def gradient(*arguments, upstream=None):
            return adjoint(arguments[0] if upstream is None else upstream)

        return forward(inputs), gradient

    return function


def _filter(inputs, taps: np.ndarray, gain: float = 1.0, *, padding: str, strides: int = 1):
    if keras.backend.backend() == "jax":
        return _filter_by_slices(inputs, taps, gain, padding=padding, strides=strides)
    kernel = np.tile(gain * np.outer(taps, taps)[:, :, None, None], (1, 1, inputs.shape[-1], 1))
    kernel = ops.convert_to_tensor(kernel, dtype=inputs.dtype)
    return ops.depthwise_conv(inputs, kernel, strides=strides, padding=padding, data_format="channels_last")


def _filter_by_slices(inputs, taps: np.ndarray, gain: float, *, padding: str, strides: int):
    """Add shifted copies, which XLA does in one pass over the pixels; its depthwise convolution takes forty."""
    if padding == "same":
        zeros = divmod(len(taps) - strides, 2)
        zeros = (zeros[0], sum(zeros))
        inputs = ops.pad(inputs, ((0, 0), zeros, zeros, (0, 0)))
    # As a convolution does: exact sums of rounded inputs.
    values = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
    for axis, factor in ((1, gain), (2, 1.0)):
        end = values.shape[axis] - len(taps) + 1
        before = (slice(None),) * axis
        values = sum(
            float(factor * tap) * values[(*before, slice(at, at + end, strides))] for at, tap in enumerate(taps)
        )
    return ops.cast(values, inputs.dtype)


def _repeat(inputs):
    """Repeat rows and columns: one broadcast copies once where two repetitions copy twice."""
    batch, height, width, channels = ops.shape(inputs)
    spread = ops.broadcast_to(inputs[:, :, None, :, None, :], (batch, height, 2, width, 2, channels))
    return ops.reshape(spread, (batch, 2 * height, 2 * width, channels))


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
