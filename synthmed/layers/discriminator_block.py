"""Residual block of the discriminator."""

import math

import keras

from synthmed.layers.equalized_conv import EqualizedConv2D
from synthmed.layers.fir import downsample


@keras.saving.register_keras_serializable(package="synthmed")
class DiscriminatorBlock(keras.layers.Layer):
    """Two convolutions and a skip that halve the size (arXiv:1912.04958, figure 7c).

    Args:
        filters: Number of output channels.

    Input shape: `(batch, height, width, channels)`. Output shape: `(batch, height / 2, width / 2, filters)`.
    """

    def __init__(self, filters: int, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters

    def build(self, input_shape):
        channels = input_shape[-1]
        half = math.sqrt(0.5)
        self.first = EqualizedConv2D(channels, activate=True, dtype=self.dtype_policy, name="first")
        self.second = EqualizedConv2D(
            self.filters, activate=True, downsample=True, gain=half, dtype=self.dtype_policy, name="second"
        )
        self.skip = EqualizedConv2D(
            self.filters, kernel_size=1, use_bias=False, gain=half, dtype=self.dtype_policy, name="skip"
        )
        for layer in (self.first, self.second, self.skip):
            layer.build(input_shape)

    def call(self, inputs):
        return self.second(self.first(inputs)) + self.skip(downsample(inputs))

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        return (batch, height and height // 2, width and width // 2, self.filters)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}
