"""The style convolution of StyleGAN2: modulation and demodulation."""

import math

import keras
from keras import ops

from synthmed.layers.fir import blur


@keras.saving.register_keras_serializable(package="synthmed")
class ModulatedConv2D(keras.layers.Layer):
    """Convolution whose input channels are scaled by a style a sample, with weight demodulation.

    StyleGAN2 (Karras et al. 2020, arXiv:1912.04958, equations 1 to 3) scales the kernel of each sample by its style
    and divides each output filter by its norm. Scaling the activations before the shared convolution, and dividing
    after it, is the same function: no kernel a sample has to be built and no grouped convolution is needed. A kernel
    of 1 is small enough to be built a sample: it is then one matrix product a sample, with no pass over the pixels
    but its own.

    Args:
        filters: Number of output channels.
        kernel_size: Height and width of the kernel; odd.
        demodulate: Whether to divide each output channel by the norm of its modulated kernel.
        upsample: Whether to double the size: a transposed convolution of stride two, then a low-pass filter.
        gain: Factor on the output.

    Call arguments:
        inputs: `(batch, height, width, channels)`.
        style: `(batch, channels)`, around 1.

    Output shape: `(batch, height', width', filters)`, doubled where `upsample` is set.
    """

    EPSILON = 1e-8

    def __init__(
        self,
        filters: int,
        *,
        kernel_size: int = 3,
        demodulate: bool = True,
        upsample: bool = False,
        gain: float = 1.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if filters < 1 or kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"filters must be positive and kernel_size odd, got {filters} and {kernel_size}")
        if upsample and kernel_size != 3:
            raise ValueError(f"upsampling is defined for a kernel of 3, got {kernel_size}")
        self.filters = filters
        self.kernel_size = kernel_size
        self.demodulate = demodulate
        self.upsample = upsample
        self.gain = gain

    def build(self, inputs_shape, style_shape=None):
        channels = inputs_shape[-1]
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.kernel_size, self.kernel_size, channels, self.filters),
            initializer=keras.initializers.RandomNormal(stddev=1.0),
            # Demodulation divides by a norm of this kernel; in low precision the quotient would be off by a per cent.
            autocast=False,
        )
        self.kernel_scale = 1.0 / math.sqrt(self.kernel_size**2 * channels)

    def demodulation(self, style):
        """Return `(batch, filters)`: one over the norm of each output filter, for styles `(batch, channels)`."""
        energy = ops.sum(ops.square(self.kernel * self.kernel_scale), axis=(0, 1))
        return ops.rsqrt(ops.matmul(ops.square(style), energy) + self.EPSILON)

    def call(self, inputs, style):
        style = ops.cast(style, self.variable_dtype)
        if self.kernel_size == 1:
            return self._pointwise(inputs, style)
        # The filter after zero insertion spreads each value over four pixels; its gain belongs to the kernel.
        scale = self.kernel_scale * self.gain * (4.0 if self.upsample else 1.0)
        kernel = ops.cast(self.kernel * scale, self.compute_dtype)
        modulated = inputs * ops.cast(style, self.compute_dtype)[:, None, None, :]
        if self.upsample:
            outputs = ops.conv_transpose(modulated, kernel_of_transpose(kernel), strides=2, padding="valid")
        else:
            outputs = ops.conv(modulated, kernel, padding="same", data_format="channels_last")
        if self.demodulate:
            outputs = outputs * ops.cast(self.demodulation(style), self.compute_dtype)[:, None, None, :]
        # After demodulation, which commutes with it, so that the product runs over the pixels once.
        return blur(outputs, padding=(1, 1)) if self.upsample else outputs

    def _pointwise(self, inputs, style):
        batch, height, width, channels = ops.shape(inputs)
        kernels = style[:, :, None] * (self.kernel[0, 0] * (self.kernel_scale * self.gain))
        if self.demodulate:
            kernels = kernels * self.demodulation(style)[:, None, :]
        pixels = ops.reshape(inputs, (batch, height * width, channels))
        outputs = ops.matmul(pixels, ops.cast(kernels, self.compute_dtype))
        return ops.reshape(outputs, (batch, height, width, self.filters))

    def compute_output_shape(self, inputs_shape, style_shape=None):
        grow = 2 if self.upsample else 1
        batch, height, width, _ = inputs_shape
        return (batch, height and height * grow, width and width * grow, self.filters)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "demodulate": self.demodulate,
            "upsample": self.upsample,
            "gain": self.gain,
        }


def kernel_of_transpose(kernel):
    """Turn a kernel `(h, w, in, out)` of a convolution into that of Keras's transposed one, `(h, w, out, in)`.

    The transposed convolution places the kernel at each input pixel, which is a convolution with the kernel turned by
    half a circle; as weights are learned, the turn is left out.
    """
    return ops.transpose(kernel, (0, 1, 3, 2))
