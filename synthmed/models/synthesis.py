"""The synthesis network, with the mask pyramid that conditions it."""

from dataclasses import dataclass

import keras
from keras import ops

from synthmed.errors import UserError
from synthmed.layers import EqualizedDense, ModulatedConv2D, StyledConv2D
from synthmed.layers.equalized import at_least_float32
from synthmed.layers.fir import upsample

SMALLEST_BASE = 4


@dataclass(frozen=True)
class Pyramid:
    """Resolutions of a generator or discriminator, smallest first, and the channels at each.

    Attributes:
        sizes: (height, width) a level; each level doubles the one before.
        channels: Feature channels a level.
    """

    sizes: tuple[tuple[int, int], ...]
    channels: tuple[int, ...]

    @property
    def doublings(self) -> int:
        """How often the base grid is doubled."""
        return len(self.sizes) - 1


def make_pyramid(size: tuple[int, int], *, channel_base: int, channel_max: int) -> Pyramid:
    """Plan the levels for slices of `size` (height, width), which need not be square.

    The base grid is the smallest one of at least 4 x 4 that whole doublings lead from; 64 x 48 starts at 8 x 6.
    Channels follow StyleGAN2: `channel_base` over the longer side, at most `channel_max`, at least 16.

    Raises:
        UserError: If the size cannot be halved three times.
    """
    height, width = size
    doublings = 0
    while height % 2 == 0 and width % 2 == 0 and min(height, width) // 2 >= SMALLEST_BASE:
        height, width, doublings = height // 2, width // 2, doublings + 1
    if doublings < 3:
        raise UserError(
            f"slices of {size[0]} x {size[1]} cannot be halved three times down to {SMALLEST_BASE} x {SMALLEST_BASE} "
            "or more: prepare the data with a --size whose sides are multiples of 8 and at least 32"
        )
    sizes = tuple((height << level, width << level) for level in range(doublings + 1))
    channels = tuple(max(16, min(channel_max, channel_base // max(level))) for level in sizes)
    return Pyramid(sizes, channels)


OUTSIDE_SLOPE = 0.1


def leaky_clip(channels):
    """Flatten mask channels outside [-1, 1] to a tenth of their slope.

    Real masks are exactly flat. Linear channels are not, and a discriminator that knows them by their faint texture
    teaches nothing about shapes; a softmax is flat, but where it saturates no gradient comes through, and a mask
    generator that once drew background alone stays there. This keeps both: nearly flat, never without a gradient.
    """
    inside = ops.clip(channels, -1.0, 1.0)
    return inside + OUTSIDE_SLOPE * (channels - inside)


@keras.saving.register_keras_serializable(package="synthmed")
class ToChannels(keras.layers.Layer):
    """Features to output channels: a modulated 1 x 1 convolution without demodulation, in float32 from there on.

    Args:
        channels: Number of output channels.

    Call arguments:
        inputs: `(batch, height, width, channels)`.
        w: `(batch, w_dim)`.
    """

    def __init__(self, channels: int, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels

    def build(self, inputs_shape, w_shape):
        self.output_dtype = at_least_float32(self.dtype_policy)
        self.affine = EqualizedDense(inputs_shape[-1], bias_init=1.0, dtype=self.output_dtype, name="affine")
        self.affine.build(w_shape)
        self.convolution = ModulatedConv2D(
            self.channels, kernel_size=1, demodulate=False, dtype=self.dtype_policy, name="convolution"
        )
        self.convolution.build(inputs_shape)
        self.bias = self.add_weight(name="bias", shape=(self.channels,), initializer="zeros", autocast=False)

    def call(self, inputs, w):
        return ops.cast(self.convolution(inputs, self.affine(w)), self.output_dtype) + self.bias

    def compute_output_shape(self, inputs_shape, w_shape=None):
        return (*inputs_shape[:-1], self.channels)

    def get_config(self):
        return {**super().get_config(), "channels": self.channels}


@keras.saving.register_keras_serializable(package="synthmed")
class SynthesisNetwork(keras.layers.Layer):
    """StyleGAN2's synthesis network with output skips (arXiv:1912.04958, figure 7b), for slices of any even size.

    Args:
        size: (height, width) of the slice.
        image_channels: Image channels of the output; linear.
        mask_classes: Mask channels of the output, 0 for none; see `leaky_clip`.
        condition_classes: Channels of the mask that is given, 0 for none.
        injection: How that mask enters, see `StyledConv2D`.
        w_dim: Length of w.
        channel_base: Channels at a level, times its longer side.
        channel_max: Most channels at any level.

    Call arguments:
        ws: `(batch, num_ws, w_dim)`, one w a layer.
        noise: List of `(batch, height, width, 1)`, sizes as in `noise_sizes`.
        condition: `(batch, height, width, condition_classes)` one-hot mask in [-1, 1], where a mask is given.

    Output shape: `(batch, height, width, image_channels + mask_classes)`, float32.
    """

    def __init__(
        self,
        size: tuple[int, int],
        *,
        image_channels: int,
        mask_classes: int,
        condition_classes: int,
        injection: str = "concatenate",
        w_dim: int,
        channel_base: int,
        channel_max: int,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if image_channels + mask_classes < 1:
            raise ValueError("a synthesis network needs image_channels or mask_classes")
        self.size: tuple[int, int] = (size[0], size[1])
        self.image_channels = image_channels
        self.mask_classes = mask_classes
        self.condition_classes = condition_classes
        self.injection = injection
        self.w_dim = w_dim
        self.channel_base = channel_base
        self.channel_max = channel_max
        self.pyramid: Pyramid = make_pyramid(self.size, channel_base=channel_base, channel_max=channel_max)

    @property
    def num_ws(self) -> int:
        """How many style codes one slice takes."""
        return 2 * len(self.pyramid.sizes)

    @property
    def noise_sizes(self) -> list[tuple[int, int]]:
        """(height, width) of each noise map, in the order of `noise`."""
        first, *rest = self.pyramid.sizes
        return [first] + [size for size in rest for _ in range(2)]

    def build(self, ws_shape=None, noise_shape=None, condition_shape=None):
        sizes, channels = self.pyramid.sizes, self.pyramid.channels
        self.constant = self.add_weight(
            name="constant", shape=(*sizes[0], channels[0]), initializer=keras.initializers.RandomNormal(stddev=1.0)
        )
        self.convolutions, self.outputs = [], []
        shape: tuple[int | None, ...] = (None, *sizes[0], channels[0])
        for level, (size, count) in enumerate(zip(sizes, channels, strict=True)):
            for upsampling in (True, False) if level else (False,):
                shape = self._add_convolution(shape, size, count, upsampling)
            output = ToChannels(
                self.image_channels + self.mask_classes, dtype=self.dtype_policy, name=f"output{size[0]}x{size[1]}"
            )
            output.build(shape, (None, self.w_dim))
            self.outputs.append(output)

    def _add_convolution(self, shape, size, filters: int, upsampling: bool):
        layer = StyledConv2D(
            filters,
            upsample=upsampling,
            injection=self.injection if self.condition_classes else None,
            dtype=self.dtype_policy,
            name=f"{'up' if upsampling else 'conv'}{size[0]}x{size[1]}",
        )
        layer.build(shape, (None, self.w_dim), (None, *size, 1), (None, *size, self.condition_classes))
        self.convolutions.append(layer)
        return layer.compute_output_shape(shape)

    def call(self, ws, noise, condition=None):
        masks = self._mask_pyramid(condition)
        features = ops.broadcast_to(self.constant[None], (ops.shape(ws)[0], *self.constant.shape))
        channels = None
        step = 0
        for level in range(len(self.pyramid.sizes)):
            for _ in range(2 if level else 1):
                features = self.convolutions[step](features, ws[:, step], noise[step], masks[level])
                step += 1
            # The output of a level shares its style with the first convolution of the next one.
            skip = self.outputs[level](features, ws[:, step])
            channels = skip if channels is None else upsample(channels) + skip
        return self._finish(channels)

    def _finish(self, channels):
        if not self.mask_classes:
            return channels
        if not self.image_channels:
            return leaky_clip(channels)
        image, mask = channels[..., : self.image_channels], channels[..., self.image_channels :]
        return ops.concatenate([image, leaky_clip(mask)], axis=-1)

    def _mask_pyramid(self, mask):
        levels = len(self.pyramid.sizes)
        if not self.condition_classes:
            return [None] * levels
        masks = [mask]
        for _ in range(levels - 1):
            masks.append(ops.average_pool(masks[-1], 2, strides=2, padding="valid", data_format="channels_last"))
        return masks[::-1]

    def compute_output_shape(self, ws_shape, noise_shape=None, condition_shape=None):
        return (ws_shape[0], *self.size, self.image_channels + self.mask_classes)

    def get_config(self):
        return {
            **super().get_config(),
            "size": list(self.size),
            "image_channels": self.image_channels,
            "mask_classes": self.mask_classes,
            "condition_classes": self.condition_classes,
            "injection": self.injection,
            "w_dim": self.w_dim,
            "channel_base": self.channel_base,
            "channel_max": self.channel_max,
        }
