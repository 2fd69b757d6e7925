"""Dense layers and convolutions with equalized learning rates."""

import math

import keras
from keras import ops

from synthmed.layers.fir import blur


def at_least_float32(policy) -> str:
    """Return "float64" where a dtype policy keeps its weights in float64, else "float32".

    Styles, batch statistics and output channels lose too much in eight bits of mantissa. They stay in float32 under a
    mixed policy, and follow a network that is asked for in float64, which finite differences need.

    Args:
        policy: Keras dtype policy or its name.
    """
    return "float64" if keras.dtype_policies.get(policy).variable_dtype == "float64" else "float32"


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
