"""Convolution with equalised learning rate."""

import math

import keras
from keras import ops

from synthmed.layers.fir import blur


@keras.saving.register_keras_serializable(package="synthmed")
class EqualizedConv2D(keras.layers.Layer):
    """Convolution of channels-last images with equalised learning rate (arXiv:1710.10196, section 4.1).

    Args:
        filters: Number of output channels.
        kernel_size: Height and width of the kernel; odd.
        downsample: Whether to halve the size: a low-pass filter, then a convolution of stride two.
        use_bias: Whether to add a bias a channel.
        activate: Whether a leaky ReLU of slope 0.2, scaled to keep the variance, follows.
        gain: Factor on the output; residual blocks use sqrt(1/2) on both of their branches.

    Input shape: `(batch, height, width, channels)`. Output shape: `(batch, height', width', filters)`, halved where
    `downsample` is set.
    """

    def __init__(
        self,
        filters: int,
        *,
        kernel_size: int = 3,
        downsample: bool = False,
        use_bias: bool = True,
        activate: bool = False,
        gain: float = 1.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if filters < 1 or kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"filters must be positive and kernel_size odd, got {filters} and {kernel_size}")
        self.filters = filters
        self.kernel_size = kernel_size
        self.downsample = downsample
        self.use_bias = use_bias
        self.activate = activate
        self.gain = gain

    def build(self, input_shape):
        fan_in = self.kernel_size**2 * input_shape[-1]
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.kernel_size, self.kernel_size, input_shape[-1], self.filters),
            initializer=keras.initializers.RandomNormal(stddev=1.0),
        )
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros") if self.use_bias else None
        # A positive gain passes through the leaky ReLU, so the small tensors carry it instead of the large one.
        self.output_gain = self.gain * (math.sqrt(2.0) if self.activate else 1.0)
        self.kernel_scale = self.output_gain / math.sqrt(fan_in)

    def call(self, inputs):
        kernel = self.kernel * self.kernel_scale
        if self.downsample:
            # The halo makes the strided, unpadded convolution see every pixel as "same" padding would.
            reach = self.kernel_size - 1
            inputs = blur(inputs, padding=((reach + 2) // 2, (reach + 2) // 2))
            outputs = ops.conv(inputs, kernel, strides=2, padding="valid", data_format="channels_last")
        else:
            outputs = ops.conv(inputs, kernel, padding="same", data_format="channels_last")
        if self.bias is not None:
            outputs = outputs + self.bias * self.output_gain
        return ops.leaky_relu(outputs, negative_slope=0.2) if self.activate else outputs

    def compute_output_shape(self, input_shape):
        shrink = 2 if self.downsample else 1
        batch, height, width, _ = input_shape
        return (batch, height and height // shrink, width and width // shrink, self.filters)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "downsample": self.downsample,
            "use_bias": self.use_bias,
            "activate": self.activate,
            "gain": self.gain,
        }
