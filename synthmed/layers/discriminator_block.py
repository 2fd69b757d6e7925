"""Residual block and minibatch standard deviation of StyleGAN2's discriminator."""

import math

import keras
from keras import ops

from synthmed.layers.equalized import EqualizedConv2D
from synthmed.layers.fir import downsample


@keras.saving.register_keras_serializable(package="synthmed")
class MinibatchStddev(keras.layers.Layer):
    """Append the average standard deviation over groups of samples as a channel (arXiv:1710.10196, section 3).

    Args:
        group_size: Samples a group; the largest divisor of the batch not above it is used.

    Input shape: `(batch, height, width, channels)`. Output shape: `(batch, height, width, channels + 1)`.
    """

    EPSILON = 1e-8

    def __init__(self, *, group_size: int = 4, **kwargs):
        super().__init__(**kwargs)
        if group_size < 1:
            raise ValueError(f"group_size must be at least 1, got {group_size}")
        self.group_size = group_size

    def call(self, inputs):
        batch, height, width, channels = inputs.shape
        if batch is None:
            raise ValueError("MinibatchStddev needs a known batch size: the groups depend on it")
        size = max(divisor for divisor in range(1, min(self.group_size, batch) + 1) if batch % divisor == 0)
        # Sample i belongs to group i modulo the number of groups.
        grouped = ops.reshape(inputs, (size, batch // size, height, width, channels))
        deviation = ops.sqrt(ops.var(grouped, axis=0) + self.EPSILON)
        statistic = ops.tile(ops.mean(deviation, axis=(1, 2, 3)), (size,))
        channel = ops.broadcast_to(statistic[:, None, None, None], (batch, height, width, 1))
        return ops.concatenate([inputs, ops.cast(channel, inputs.dtype)], axis=-1)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], input_shape[-1] + 1)

    def get_config(self):
        return {**super().get_config(), "group_size": self.group_size}


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
