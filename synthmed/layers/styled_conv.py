"""One step of a synthesis network."""

import math

import keras
from keras import ops

from synthmed.layers.dense import EqualizedDense
from synthmed.layers.mask_injection import MaskInjection
from synthmed.layers.modulated_conv import ModulatedConv2D
from synthmed.layers.noise import NoiseInjection
from synthmed.layers.precision import at_least_float32

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
