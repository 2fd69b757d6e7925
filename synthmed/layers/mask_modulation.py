"""A mask that scales and shifts a generator's features."""

import keras
from keras import ops

from synthmed.layers.equalized_conv import EqualizedConv2D


@keras.saving.register_keras_serializable(package="synthmed")
class MaskModulation(keras.layers.Layer):
    """Scale and shift features by convolutions of a mask of the same size (SPADE, arXiv:1903.07291, equation 1).

    Demodulation has normalised the features already, so no further normalisation comes first. A learned strength
    starts small, as in `MaskInjection`.

    Args:
        gain: Factor on the shift.

    Call arguments:
        inputs: `(batch, height, width, channels)`.
        condition: `(batch, height, width, classes)`, the one-hot mask in [-1, 1] averaged down to this size.
    """

    FIRST_STRENGTH = 0.1

    def __init__(self, *, gain: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.gain = gain

    def build(self, inputs_shape, condition_shape):
        self.strength = self.add_weight(
            name="strength", shape=(), initializer=keras.initializers.Constant(self.FIRST_STRENGTH)
        )
        # One convolution for scale and shift: the mask has few planes, and small convolutions cost their start.
        self.projection = EqualizedConv2D(
            2 * inputs_shape[-1], kernel_size=3, use_bias=False, dtype=self.dtype_policy, name="projection"
        )
        self.projection.build(condition_shape)

    def call(self, inputs, condition):
        scale, shift = ops.split(self.projection(ops.cast(condition, self.compute_dtype)) * self.strength, 2, axis=-1)
        return inputs * (1.0 + scale) + shift * self.gain

    def compute_output_shape(self, inputs_shape, condition_shape=None):
        return inputs_shape

    def get_config(self):
        return {**super().get_config(), "gain": self.gain}
