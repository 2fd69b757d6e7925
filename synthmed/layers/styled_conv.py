"""Styled convolution of StyleGAN2: modulation, noise and bias, and how masks modulate features."""

import math

import keras
from keras import ops

from synthmed.layers.equalized import EqualizedConv2D, EqualizedDense, at_least_float32
from synthmed.layers.modulated_conv import ModulatedConv2D


@keras.saving.register_keras_serializable(package="synthmed")
class NoiseInjection(keras.layers.Layer):
    """Add one map of noise to all channels, scaled by a learned strength that starts at zero (arXiv:1912.04958).

    The noise is an input and never drawn here: whoever calls decides by which seed, so that exports repeat.

    Args:
        gain: Factor on the noise.

    Call arguments:
        inputs: `(batch, height, width, channels)`.
        noise: `(batch, height, width, 1)`, standard normal.
    """

    def __init__(self, *, gain: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.gain = gain

    def build(self, inputs_shape, noise_shape=None):
        self.strength = self.add_weight(name="strength", shape=(), initializer="zeros")

    def call(self, inputs, noise):
        return inputs + noise * (self.strength * self.gain)

    def compute_output_shape(self, inputs_shape, noise_shape=None):
        return inputs_shape

    def get_config(self):
        return {**super().get_config(), "gain": self.gain}


@keras.saving.register_keras_serializable(package="synthmed")
class MaskInjection(keras.layers.Layer):
    """Let a convolution of the mask change features of the same size, with a learned strength.

    Adding it equals concatenating the mask to the input of the layer before (without modulating it), but leaves the
    number of channels a multiple of what processors like. Modulation scales and shifts the features instead (SPADE,
    arXiv:1903.07291, equation 1); demodulation has normalised them already, so no further normalisation comes first.

    The strength starts small: at full strength the outlines of the mask were all that early samples showed, and the
    discriminator knew them by it.

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
        # One convolution for scale and shift: the mask has few channels, and small convolutions cost their start.
        channels = (2 if self.modulate else 1) * inputs_shape[-1]
        self.projection = EqualizedConv2D(
            channels, kernel_size=3, use_bias=False, dtype=self.dtype_policy, name="projection"
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


INJECTIONS = ("concatenate", "modulate")


@keras.saving.register_keras_serializable(package="synthmed")
class StyledConv2D(keras.layers.Layer):
    """Style from w, modulated convolution, noise, mask where given, bias and leaky ReLU (arXiv:1912.04958, figure 2).

    Args:
        filters: Number of output channels.
        upsample: Whether to double the size.
        injection: How a mask enters before the activation: "concatenate" or "modulate", see `MaskInjection`;
            None where there is no mask.

    Call arguments:
        inputs: `(batch, height, width, channels)`.
        w: `(batch, w_dim)`.
        noise: `(batch, height', width', 1)`, standard normal, at the output's size.
        condition: `(batch, height', width', classes)`, the mask in [-1, 1], where there is one.

    Output shape: `(batch, height', width', filters)`.
    """

    def __init__(self, filters: int, *, upsample: bool = False, injection: str | None = None, **kwargs):
        super().__init__(**kwargs)
        if injection is not None and injection not in INJECTIONS:
            raise ValueError(f"injection must be one of {', '.join(INJECTIONS)}, got {injection!r}")
        self.filters = filters
        self.upsample = upsample
        self.injection = injection

    def build(self, inputs_shape, w_shape, noise_shape=None, condition_shape=None):
        # The activation's gain of sqrt(2) passes through the leaky ReLU to everything that is added before it.
        gain = self.activation_gain = math.sqrt(2.0)
        style_dtype = at_least_float32(self.dtype_policy)
        self.affine = EqualizedDense(inputs_shape[-1], bias_init=1.0, dtype=style_dtype, name="affine")
        self.affine.build(w_shape)
        self.convolution = ModulatedConv2D(
            self.filters, upsample=self.upsample, gain=gain, dtype=self.dtype_policy, name="convolution"
        )
        self.convolution.build(inputs_shape)
        output_shape = self.convolution.compute_output_shape(inputs_shape)
        self.noise = NoiseInjection(gain=gain, dtype=self.dtype_policy, name="noise")
        self.noise.build(output_shape)
        self.mask_injection = None
        if self.injection is not None:
            modulate = self.injection == "modulate"
            self.mask_injection = MaskInjection(modulate=modulate, gain=gain, dtype=self.dtype_policy, name="injection")
            self.mask_injection.build(output_shape, condition_shape)
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")

    def call(self, inputs, w, noise, condition=None):
        outputs = self.convolution(inputs, self.affine(w))
        outputs = self.noise(outputs, noise)
        if self.mask_injection is not None:
            outputs = self.mask_injection(outputs, condition)
        return ops.leaky_relu(outputs + self.bias * self.activation_gain, negative_slope=0.2)

    def compute_output_shape(self, inputs_shape, w_shape=None, noise_shape=None, condition_shape=None):
        grow = 2 if self.upsample else 1
        batch, height, width, _ = inputs_shape
        return (batch, height and height * grow, width and width * grow, self.filters)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "upsample": self.upsample,
            "injection": self.injection,
        }
