"""The residual discriminator."""

import math

import keras
from keras import ops

from synthmed.layers import DiscriminatorBlock, EqualizedConv2D, EqualizedDense, MinibatchStddev
from synthmed.layers.equalized import at_least_float32
from synthmed.models.synthesis import make_pyramid


@keras.saving.register_keras_serializable(package="synthmed")
class SliceDiscriminator(keras.Model):
    """StyleGAN2's residual discriminator (arXiv:1912.04958, figure 7c) for slices of any even size.

    Args:
        size: (height, width) of a slice.
        channels: Image and mask channels it sees; for `cond` the given mask is among them.
        channel_base: Feature channels at a level, times its longer side.
        channel_max: Most feature channels at any level.
        group_size: Samples a group of the minibatch standard deviation.
        precision: Keras dtype policy of the blocks; the last one is in float32 at least.
        attributes: Length of the attribute vector that conditions it, 0 for none. The features are projected on its
            embedding (arXiv:1802.05637), so that a slice counts together with where it is said to lie.

    Call arguments:
        channels: `(batch, height, width, channels)` with a known batch.
        attributes: `(batch, attributes)`, where there are any.

    Output shape: `(batch,)`, logits, float32.
    """

    def __init__(
        self,
        *,
        size: tuple[int, int],
        channels: int,
        channel_base: int,
        channel_max: int,
        group_size: int = 4,
        precision: str = "float32",
        attributes: int = 0,
        **kwargs,
    ):
        exact = at_least_float32(precision)
        super().__init__(dtype=exact, **kwargs)
        self.size: tuple[int, int] = (size[0], size[1])
        self.channels = channels
        self.channel_base = channel_base
        self.channel_max = channel_max
        self.group_size = group_size
        self.precision = precision
        self.attributes = attributes
        pyramid = make_pyramid(self.size, channel_base=channel_base, channel_max=channel_max)
        self.entry = EqualizedConv2D(
            pyramid.channels[-1], kernel_size=1, activate=True, dtype=precision, name="from_planes"
        )
        self.blocks = [
            DiscriminatorBlock(pyramid.channels[level - 1], dtype=precision, name=f"block{pyramid.sizes[level][0]}")
            for level in range(pyramid.doublings, 0, -1)
        ]
        # The last block in float32 at least: batch statistics and logits lose too much in eight bits of mantissa.
        last = pyramid.channels[0]
        self.minibatch_stddev = MinibatchStddev(group_size=group_size, dtype=exact, name="minibatch_stddev")
        self.last_convolution = EqualizedConv2D(last, activate=True, dtype=exact, name="last_convolution")
        self.last_dense = EqualizedDense(last, activate=True, dtype=exact, name="last_dense")
        self.logit = EqualizedDense(1, dtype=exact, name="logit")
        self._build_from(pyramid)

    def _build_from(self, pyramid) -> None:
        shape: tuple[int | None, ...] = (None, *self.size, self.channels)
        layers: list[keras.layers.Layer] = [self.entry, *self.blocks]
        for layer in layers:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        height, width = pyramid.sizes[0]
        channels = pyramid.channels[0]
        self.last_convolution.build((None, height, width, channels + 1))
        self.last_dense.build((None, height * width * channels))
        self.logit.build((None, channels))
        self.embedding = None
        if self.attributes:
            self.embedding = EqualizedDense(channels, dtype=self.compute_dtype, name="embedding")
            self.embedding.build((None, self.attributes))
        self.built = True

    def call(self, channels, attributes=None):
        features = self.entry(channels)
        for block in self.blocks:
            features = block(features)
        features = self.last_convolution(self.minibatch_stddev(ops.cast(features, self.compute_dtype)))
        flat = ops.reshape(features, (features.shape[0], -1))
        features = self.last_dense(flat)
        logits = self.logit(features)[:, 0]
        if self.embedding is None:
            return logits
        projected = ops.sum(features * self.embedding(attributes), axis=-1)
        return logits + projected / math.sqrt(features.shape[-1])

    def get_config(self):
        return {
            "name": self.name,
            "size": list(self.size),
            "channels": self.channels,
            "channel_base": self.channel_base,
            "channel_max": self.channel_max,
            "group_size": self.group_size,
            "precision": self.precision,
            "attributes": self.attributes,
        }
