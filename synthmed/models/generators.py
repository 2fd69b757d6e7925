"""The three generators of slices, what they are conditioned on, and items drawn from them by seed."""

import math

import keras
import numpy as np
from keras import ops

from synthmed.data.attributes import AttributeTable
from synthmed.layers.counter_random import bits, normal
from synthmed.layers.equalized import at_least_float32
from synthmed.models.mapping import MappingNetwork
from synthmed.models.synthesis import SynthesisNetwork

HARMONICS = 4


def attribute_size(*, position: bool, class_presence: bool, classes: int) -> int:
    """Return the length of an attribute vector; 0 without any.

    Args:
        position: Whether the position along the slicing axis is among them.
        class_presence: Whether it is among them which classes are in a slice.
        classes: Number of classes, background included.
    """
    return (HARMONICS if position else 0) + (classes - 1 if class_presence else 0)


def attribute_vector(position=None, class_presence=None):
    """Return `(batch, attribute_size)` numbers in [-1, 1], float32.

    The position is given by cosines of it: smooth, so that neighbouring slices get nearly the same, and the first
    alone names each position once.

    Args:
        position: `(batch,)`, 0 at one end of the case and 1 at the other; None where it is left out.
        class_presence: `(batch, classes - 1)`, 1 where a foreground class is in the slice, 0 where not and 0.5 where
            nobody knows; None where it is left out.
    """
    parts = []
    if position is not None:
        angles = ops.cast(position, "float32")[:, None] * ops.arange(1, HARMONICS + 1, dtype="float32") * math.pi
        parts.append(ops.cos(angles))
    if class_presence is not None:
        parts.append(2.0 * ops.cast(class_presence, "float32") - 1.0)
    return ops.concatenate(parts, axis=-1)


def shown_classes(labels, classes: int):
    """Return `(batch, classes - 1)`: 1 for each foreground class that label maps `(batch, height, width)` show."""
    channels = ops.one_hot(ops.cast(labels, "int32"), classes, dtype="float32")
    return ops.max(channels, axis=(1, 2))[:, 1:]


VARIANTS = ("base", "mask", "cond")


@keras.saving.register_keras_serializable(package="synthmed")
class SliceGenerator(keras.Model):
    """A StyleGAN2 generator of slices: mapping network and synthesis network (arXiv:1912.04958).

    Which of the paper's three generators it is follows from the variant (arXiv:2503.00962): `base` draws image and
    mask together as channels of one image, `mask` draws the mask alone, `cond` draws the image of a mask that is given.

    Args:
        variant: "base", "mask" or "cond".
        size: (height, width) of a slice.
        channels: Number of image channels of the data set.
        classes: Number of classes of its masks, background included.
        z_dim: Length of the latent code z.
        w_dim: Length of the style code w.
        mapping_layers: Dense layers of the mapping network.
        channel_base: Feature channels at a level, times its longer side.
        channel_max: Most feature channels at any level.
        precision: Keras dtype policy of the synthesis network; outputs are float32 at least.
        injection: How the mask enters `cond`: "concatenate" or "modulate".
        position: Whether it is conditioned on where a slice lies along its case.
        class_presence: Whether it is conditioned on which classes are in a slice.

    Call arguments:
        z: `(batch, z_dim)`, standard normal.
        noise: List of `(batch, height, width, 1)`, see `noise_sizes`.
        condition: `(batch, height, width, classes)` one-hot mask in [-1, 1]; `cond` only.
        attributes: `(batch, attribute_dim)` as `attributes` returns them, where the generator is conditioned on any.

    Output shape: `(batch, height, width, channels)`: image channels, then mask channels in [-1, 1].
    """

    def __init__(
        self,
        *,
        variant: str,
        size: tuple[int, int],
        channels: int,
        classes: int,
        z_dim: int,
        w_dim: int,
        mapping_layers: int,
        channel_base: int,
        channel_max: int,
        precision: str = "float32",
        injection: str = "concatenate",
        position: bool = False,
        class_presence: bool = False,
        **kwargs,
    ):
        exact = at_least_float32(precision)
        super().__init__(dtype=exact, **kwargs)
        if variant not in VARIANTS:
            raise ValueError(f"variant must be one of {', '.join(VARIANTS)}, got {variant!r}")
        self.variant = variant
        self.size: tuple[int, int] = (size[0], size[1])
        self.channels = channels
        self.classes = classes
        self.z_dim = z_dim
        self.w_dim = w_dim
        self.mapping_layers = mapping_layers
        self.channel_base = channel_base
        self.channel_max = channel_max
        self.precision = precision
        self.injection = injection
        self.position = position
        self.class_presence = class_presence
        self.attribute_dim = attribute_size(position=position, class_presence=class_presence, classes=classes)
        self.image_channels = 0 if variant == "mask" else channels
        self.mask_classes = 0 if variant == "cond" else classes
        self.mapping = MappingNetwork(
            w_dim, layers=mapping_layers, attributes=self.attribute_dim, dtype=exact, name="mapping"
        )
        self.synthesis = SynthesisNetwork(
            self.size,
            image_channels=self.image_channels,
            mask_classes=self.mask_classes,
            condition_classes=classes if variant == "cond" else 0,
            injection=injection,
            w_dim=w_dim,
            channel_base=channel_base,
            channel_max=channel_max,
            dtype=precision,
            name="synthesis",
        )
        # Every shape is known from the arguments, so weights exist as soon as the model does.
        self.mapping.build((None, z_dim))
        self.synthesis.build((None, self.num_ws, w_dim))
        self.built = True

    @property
    def num_ws(self) -> int:
        """How many style codes one slice takes."""
        return self.synthesis.num_ws

    @property
    def noise_sizes(self) -> list[tuple[int, int]]:
        """(height, width) of each noise map."""
        return self.synthesis.noise_sizes

    def broadcast(self, w):
        """Give every layer the same style: `(batch, w_dim)` to `(batch, num_ws, w_dim)`."""
        return ops.repeat(w[:, None, :], self.num_ws, axis=1)

    def attributes(self, position, class_presence):
        """Return the attribute vector that conditions this generator, or None without any.

        Args:
            position: `(batch,)` in [0, 1].
            class_presence: `(batch, classes - 1)` in [0, 1].
        """
        if not self.attribute_dim:
            return None
        return attribute_vector(position if self.position else None, class_presence if self.class_presence else None)

    def call(self, z, noise, condition=None, attributes=None):
        return self.synthesis(self.broadcast(self.mapping(z, attributes)), noise, condition)

    def get_config(self):
        return {
            "name": self.name,
            "variant": self.variant,
            "size": list(self.size),
            "channels": self.channels,
            "classes": self.classes,
            "z_dim": self.z_dim,
            "w_dim": self.w_dim,
            "mapping_layers": self.mapping_layers,
            "channel_base": self.channel_base,
            "channel_max": self.channel_max,
            "precision": self.precision,
            "injection": self.injection,
            "position": self.position,
            "class_presence": self.class_presence,
        }


# Streams of an item's seed. The mask generator of a `cond` bundle has streams of its own, so that an item's mask and
# image are drawn independently.
TEMPLATE_STREAM = 1
ATTRIBUTE_STREAM = 2
RETRY_STREAM = 3
PRESENCE_STREAM = 4
IMAGE_STREAM = 1024
MASK_STREAM = 2048


def first_stream(generator: SliceGenerator) -> int:
    """Return where the streams of a generator begin."""
    return MASK_STREAM if generator.variant == "mask" else IMAGE_STREAM


def item_latents(generator: SliceGenerator, seed):
    """Return `(batch, z_dim)` standard normal latent codes for int64 seeds `(batch,)`."""
    return normal(seed, stream=first_stream(generator), shape=(generator.z_dim,))


def item_noise(generator: SliceGenerator, seed) -> list:
    """Return the list of noise maps of the synthesis network for int64 seeds `(batch,)`."""
    first = first_stream(generator) + 1
    return [normal(seed, stream=first + layer, shape=(*size, 1)) for layer, size in enumerate(generator.noise_sizes)]


def item_number(seed, *, stream: int, below: int):
    """Return an int32 `(batch,)` in 0..below-1 for int64 seeds `(batch,)`."""
    # 24 bits avoid the sign; the bias of the remainder is below one in ten thousand for up to a thousand choices.
    number = ops.cast(ops.right_shift(bits(seed, stream=stream, count=1)[:, 0], ops.cast(8, "uint32")), "int32")
    return number % below


def item_attributes(seed, table: AttributeTable, *, classes: int) -> dict:
    """Draw a row of a table for each item: the conditioning of its slice.

    Args:
        seed: int64 `(batch,)`.
        table: Rows and how often each is to be drawn.
        classes: Number of classes, background included.

    Returns:
        "position" float32 `(batch,)` in [0, 1], "shown" float32 `(batch, classes - 1)` of 0 and 1.
    """
    number = item_number(seed, stream=ATTRIBUTE_STREAM, below=sum(table.counts))
    ends = ops.convert_to_tensor(np.cumsum(table.counts), dtype="int32")
    row = ops.searchsorted(ends, number, side="right")
    return {
        "position": ops.take(ops.convert_to_tensor(table.middles), row, axis=0),
        "shown": ops.take(ops.convert_to_tensor(table.shown_matrix(classes)), row, axis=0),
    }


def draw_items(generator: SliceGenerator, seed, psi, mask=None, attributes=None):
    """Draw output channels for items.

    Args:
        generator: Any of the three variants.
        seed: int64 `(batch,)`.
        psi: float32 `(batch,)`, truncation.
        mask: `(batch, height, width, classes)` one-hot in [-1, 1]; `cond` only.
        attributes: `(batch, attribute_dim)`, where the generator is conditioned on any.

    Returns:
        float32 `(batch, height, width, channels)`.
    """
    w = generator.mapping.truncate(generator.mapping(item_latents(generator, seed), attributes), psi)
    return generator.synthesis(generator.broadcast(w), item_noise(generator, seed), mask)
