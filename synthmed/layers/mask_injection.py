"""How a mask enters a generator's features."""

import keras
from keras import ops

from synthmed.layers.equalized_conv import EqualizedConv2D


@keras.saving.register_keras_serializable(package="synthmed")
class MaskInjection(keras.layers.Layer):
    """Let a convolution of the mask change features of the same size, with a learned strength.

    Adding it equals concatenating the mask to the input of the layer before (without modulating it), but leaves the
    number of channels a multiple of what processors like. Modulation scales and shifts the features instead (SPADE,
    arXiv:1903.07291, equation 1); demodulation has normalised them already, so no further normalisation comes first.

    The strength starts small: at full strength the outlines of the mask were all that early samples showed, and the
    discriminator told them by it.

    Args:
        modulate: Whether to scale the features, too, and not only to add to them.
        gain: Factor on what is added.

    Call arguments:
        inputs: `(batch, height, width, channels)`.
        condition: `(batch, height, width, classes)`, the one-hot mask in [-1, 1] averaged down to this size.
    """

    FIRST_STRENGTH = 0.1

    def __init__(self, *, modulate: bool = False, gain: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.modulate = modulate
        self.gain = gain

    def build(self, inputs_shape, condition_shape):
        self.strength = self.add_weight(
            name="strength", shape=(), initializer=keras.initializers.Constant(self.FIRST_STRENGTH)
        )
        # One convolution for scale and shift: the mask has few planes, and small convolutions cost their start.
        planes = (2 if self.modulate else 1) * inputs_shape[-1]
        self.projection = EqualizedConv2D(
            planes, kernel_size=3, use_bias=False, dtype=self.dtype_policy, name="projection"
        )
        self.projection.build(condition_shape)

    def call(self, inputs, condition):
        projected = self.projection(ops.cast(condition, self.compute_dtype))
        if not self.modulate:
            return inputs + (self.strength * self.gain) * projected
        scale, shift = ops.split(projected, 2, axis=-1)
        return inputs * (1.0 + self.strength * scale) + (self.strength * self.gain) * shift

    def compute_output_shape(self, inputs_shape, condition_shape=None):
        return inputs_shape

    def get_config(self):
        return {**super().get_config(), "modulate": self.modulate, "gain": self.gain}
