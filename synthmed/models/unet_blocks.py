"""The parts of the U-Net: instance normalisation and the convolution block."""

import keras
from keras import ops

from synthmed.layers.precision import at_least_float32


@keras.saving.register_keras_serializable(package="synthmed")
class InstanceNormalization(keras.layers.Layer):
    """Normalise each channel of each image over its pixels, then scale and shift it (Ulyanov et al. 2016).

    The same function as `keras.layers.GroupNormalization(groups=-1)`. That layer converts the whole image to float32
    and back under a mixed policy; here only the statistics are float32, which made a training step of the U-Net 13 %
    (bfloat16) to 24 % (float32) shorter on two CPU cores.

    Args:
        epsilon: Added to the variance, so that a constant channel does not divide by zero.

    Input and output shape: `(batch, height, width, channels)`.
    """

    def __init__(self, *, epsilon: float = 1e-5, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape):
        self.gamma = self.add_weight(name="gamma", shape=(input_shape[-1],), initializer="ones", autocast=False)
        self.beta = self.add_weight(name="beta", shape=(input_shape[-1],), initializer="zeros", autocast=False)

    def call(self, inputs):
        exact = ops.cast(inputs, at_least_float32(self.dtype_policy))
        mean = ops.mean(exact, axis=(1, 2), keepdims=True)
        # E[x^2] - E[x]^2 reads the image once; rounding may push a constant channel's variance below zero.
        variance = ops.maximum(ops.mean(ops.square(exact), axis=(1, 2), keepdims=True) - ops.square(mean), 0.0)
        scale = ops.rsqrt(variance + self.epsilon) * self.gamma
        shift = self.beta - mean * scale
        return inputs * ops.cast(scale, inputs.dtype) + ops.cast(shift, inputs.dtype)

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}


@keras.saving.register_keras_serializable(package="synthmed")
class ConvolutionBlock(keras.layers.Layer):
    """`convolutions` times: 3 x 3 convolution, instance normalisation, leaky ReLU.

    Args:
        filters: Output channels.
        convolutions: How many of them in a row.

    Input shape: `(batch, height, width, channels)`. Output shape: `(batch, height, width, filters)`.
    """

    def __init__(self, filters: int, *, convolutions: int = 2, **kwargs):
        super().__init__(**kwargs)
        if filters < 1 or convolutions < 1:
            raise ValueError(f"filters and convolutions must be at least 1, got {filters} and {convolutions}")
        self.filters = filters
        self.convolutions = convolutions
        # No bias: the normalisation that follows would take it out again.
        self.convolution_layers = [
            keras.layers.Conv2D(
                filters,
                3,
                padding="same",
                use_bias=False,
                kernel_initializer="he_normal",
                dtype=self.dtype_policy,
                name=f"convolution_{number}",
            )
            for number in range(convolutions)
        ]
        self.normalizations = [
            InstanceNormalization(dtype=self.dtype_policy, name=f"normalization_{number}")
            for number in range(convolutions)
        ]

    def build(self, input_shape):
        shape = tuple(input_shape)
        for convolution, normalization in zip(self.convolution_layers, self.normalizations, strict=True):
            convolution.build(shape)
            shape = (*shape[:-1], self.filters)
            normalization.build(shape)

    def call(self, inputs):
        x = inputs
        for convolution, normalization in zip(self.convolution_layers, self.normalizations, strict=True):
            x = ops.leaky_relu(normalization(convolution(x)), negative_slope=0.01)
        return x

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.filters)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters, "convolutions": self.convolutions}
