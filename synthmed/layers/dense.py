"""Dense layer with equalised learning rate."""

import math

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="synthmed")
class EqualizedDense(keras.layers.Layer):
    """Dense layer whose weights are stored at unit variance and scaled when they are used.

    Scaling at run time instead of at initialisation gives every weight the same effective learning rate
    ("equalized learning rate", Karras et al. 2018, arXiv:1710.10196, section 4.1).

    Args:
        units: Number of output features.
        learning_rate_multiplier: Effective learning rate of this layer relative to the optimiser's;
            StyleGAN2 uses 0.01 in the mapping network.
        bias_init: Value of the bias at the start; 1 where the output is a style, so that it begins as identity.
        activate: Whether a leaky ReLU of slope 0.2, scaled to keep the variance, follows.

    Input shape: `(batch, features)`. Output shape: `(batch, units)`.

    Raises:
        ValueError: If `units` is below 1.
    """

    def __init__(
        self,
        units: int,
        *,
        learning_rate_multiplier: float = 1.0,
        bias_init: float = 0.0,
        activate: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if units < 1:
            raise ValueError(f"units must be at least 1, got {units}")
        self.units = units
        self.learning_rate_multiplier = learning_rate_multiplier
        self.bias_init = bias_init
        self.activate = activate

    def build(self, input_shape):
        fan_in = input_shape[-1]
        # Stored larger by 1 / multiplier: the optimiser's step is then smaller by the same factor once scaled back.
        stored = 1.0 / self.learning_rate_multiplier
        self.kernel = self.add_weight(
            name="kernel", shape=(fan_in, self.units), initializer=keras.initializers.RandomNormal(stddev=stored)
        )
        self.bias = self.add_weight(
            name="bias", shape=(self.units,), initializer=keras.initializers.Constant(self.bias_init * stored)
        )
        # sqrt(2) * leaky_relu(x) = leaky_relu(sqrt(2) * x): the gain costs nothing when the weights carry it.
        gain = math.sqrt(2.0) if self.activate else 1.0
        self.kernel_scale = gain * self.learning_rate_multiplier / math.sqrt(fan_in)
        self.bias_scale = gain * self.learning_rate_multiplier

    def call(self, inputs):
        outputs = ops.matmul(inputs, self.kernel * self.kernel_scale) + self.bias * self.bias_scale
        return ops.leaky_relu(outputs, negative_slope=0.2) if self.activate else outputs

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "learning_rate_multiplier": self.learning_rate_multiplier,
            "bias_init": self.bias_init,
            "activate": self.activate,
        }
