"""Noise with a learned strength."""

import keras


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
