"""How a mask enters a generator's features."""

import keras
from keras import ops

from synthmed.layers.equalized_conv import EqualizedConv2D


@keras.saving.register_keras_serializable(package="synthmed")
class MaskInjection(keras.layers.Layer):
    """Add a convolution of the mask to features of the same size, with a learned strength.

    Adding a convolution of the mask equals concatenating the mask to the input of the layer before (without modulating
    it), but leaves the number of channels a multiple of what processors like. The strength starts small: at full
    strength the outlines of the mask were all that early samples showed, and the discriminator told them by it.

    Args:
        gain: Factor on what is added.

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
        self.projection = EqualizedConv2D(
            inputs_shape[-1], kernel_size=3, use_bias=False, gain=self.gain, dtype=self.dtype_policy, name="projection"
        )
        self.projection.build(condition_shape)

    def call(self, inputs, condition):
        return inputs + self.strength * self.projection(ops.cast(condition, self.compute_dtype))

    def compute_output_shape(self, inputs_shape, condition_shape=None):
        return inputs_shape

    def get_config(self):
        return {**super().get_config(), "gain": self.gain}
