"""From the latent code z to the style code w."""

import keras
from keras import ops

from synthmed.layers import EqualizedDense
from synthmed.layers.equalized import at_least_float32


@keras.saving.register_keras_serializable(package="synthmed")
class MappingNetwork(keras.layers.Layer):
    """Normalised z through equalised dense layers to w (arXiv:1812.04948, section 2).

    Its layers learn at a hundredth of the rate of the others, and it remembers the average of w for truncation.

    Attributes of the slice, where there are any, are embedded and normalised like z, and stand beside it.

    Args:
        w_dim: Length of w.
        layers: Number of dense layers.
        attributes: Length of the attribute vector, 0 for none.

    Call arguments:
        z: `(batch, z_dim)`.
        attributes: `(batch, attributes)`, where there are any.

    Output shape: `(batch, w_dim)`, float32.
    """

    EPSILON = 1e-8
    AVERAGE_DECAY = 0.998

    def __init__(self, w_dim: int, *, layers: int = 4, attributes: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.w_dim = w_dim
        self.layers = layers
        self.attributes = attributes

    def build(self, input_shape):
        self.dense = []
        self.style_dtype = at_least_float32(self.dtype_policy)
        shape = tuple(input_shape)
        self.embedding = None
        if self.attributes:
            self.embedding = EqualizedDense(shape[-1], dtype=self.style_dtype, name="embedding")
            self.embedding.build((shape[0], self.attributes))
            shape = (shape[0], 2 * shape[-1])
        for number in range(self.layers):
            layer = EqualizedDense(
                self.w_dim, learning_rate_multiplier=0.01, activate=True, dtype=self.style_dtype, name=f"dense{number}"
            )
            layer.build(shape)
            shape = (shape[0], self.w_dim)
            self.dense.append(layer)
        self.w_average = self.add_weight(name="w_average", shape=(self.w_dim,), initializer="zeros", trainable=False)

    def call(self, z, attributes=None):
        w = self._normalised(ops.cast(z, self.style_dtype))
        if self.embedding is not None:
            w = ops.concatenate([w, self._normalised(self.embedding(attributes))], axis=-1)
        for layer in self.dense:
            w = layer(w)
        return w

    def _normalised(self, code):
        return code * ops.rsqrt(ops.mean(ops.square(code), axis=-1, keepdims=True) + self.EPSILON)

    def track_average(self, mean):
        """Move the remembered average of w towards the mean of a batch, `(w_dim,)`."""
        self.w_average.assign(mean + self.AVERAGE_DECAY * (self.w_average - mean))

    def truncate(self, w, psi):
        """Pull w towards its average: psi 1 changes nothing, 0 gives the average itself.

        Args:
            w: `(batch, w_dim)`.
            psi: `(batch,)`, usually in [0, 1].
        """
        return self.w_average + psi[:, None] * (w - self.w_average)

    def compute_output_shape(self, input_shape, attributes_shape=None):
        return (input_shape[0], self.w_dim)

    def get_config(self):
        return {**super().get_config(), "w_dim": self.w_dim, "layers": self.layers, "attributes": self.attributes}
