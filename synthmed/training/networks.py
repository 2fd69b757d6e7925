"""The three networks of a run: generator, its average, discriminator."""

from dataclasses import dataclass

import keras

from synthmed.hardware import resolve_precision
from synthmed.models.discriminator import SliceDiscriminator
from synthmed.models.generators import SliceGenerator
from synthmed.training.options import TrainOptions


@dataclass(frozen=True)
class Networks:
    """Generator, exponential moving average of it, and discriminator."""

    generator: SliceGenerator
    average: SliceGenerator
    discriminator: SliceDiscriminator


def make_generator(options: TrainOptions, *, size: tuple[int, int], channels: int, classes: int) -> SliceGenerator:
    """Build the generator that resolved options describe, with weights drawn from their seed."""
    keras.utils.set_random_seed(options.seed)
    z_dim, w_dim, channel_base, channel_max = options.architecture()
    return SliceGenerator(
        variant=options.variant,
        size=size,
        channels=channels,
        classes=classes,
        z_dim=z_dim,
        w_dim=w_dim,
        mapping_layers=options.mapping_layers,
        channel_base=channel_base,
        channel_max=channel_max,
        precision=resolve_precision(options.precision),
        injection=options.injection,
        position=options.position,
        shown=options.shown,
        name="generator",
    )


def make_networks(options: TrainOptions, *, size: tuple[int, int], channels: int, classes: int) -> Networks:
    """Build all three networks; the average starts as a copy of the generator."""
    generator = make_generator(options, size=size, channels=channels, classes=classes)
    average = SliceGenerator.from_config(generator.get_config() | {"name": "average"})
    average.set_weights(generator.get_weights())
    discriminator = SliceDiscriminator(
        size=size,
        # It judges image and mask together but for `mask`; the mask of `cond` is the one that was given.
        planes=generator.image_channels + classes,
        channel_base=generator.channel_base,
        channel_max=generator.channel_max,
        group_size=options.minibatch_group,
        precision=resolve_precision(options.precision),
        attributes=generator.attribute_dim,
        name="discriminator",
    )
    return Networks(generator, average, discriminator)
