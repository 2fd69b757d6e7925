"""The three networks of a run, and slices as the channels that they draw and take."""

from dataclasses import dataclass

import keras
from keras import ops

from synthmed.hardware import resolve_precision
from synthmed.models.discriminator import SliceDiscriminator
from synthmed.models.generators import SliceGenerator
from synthmed.training.options import ResolvedOptions


def one_hot_mask(labels, classes: int):
    """Turn `(batch, height, width)` class indices into `(batch, height, width, classes)` channels of -1 and 1."""
    return 2.0 * ops.one_hot(ops.cast(labels, "int32"), classes, dtype="float32") - 1.0


def soften(mask):
    """Round the steps of one-hot channels `(batch, height, width, classes)` with [1, 6, 1] / 8 along both axes.

    A generator cannot draw perfect steps, and a discriminator that knows real masks by them teaches nothing else. Every
    pixel keeps more than half of its own value, so the class of each is still the largest channel.
    """
    for axis in (1, 2):
        padding = [(1, 1) if axis == number else (0, 0) for number in range(4)]
        wide = ops.pad(mask, padding, mode="symmetric")
        before, after = (wide[:, :-2], wide[:, 2:]) if axis == 1 else (wide[:, :, :-2], wide[:, :, 2:])
        mask = 0.75 * mask + 0.125 * (before + after)
    return mask


def signed_distance(mask, reach: int = 4):
    """Turn one-hot channels `(batch, height, width, classes)` into signed distances to the border of each class.

    Exact Euclidean distances in pixels, positive inside, counted from the edge between two pixels, cut off at `reach`
    and divided by it. The class of each pixel is still the largest channel: the only one above zero.
    """
    inside = 0.5 * (mask + 1.0)
    outside = _distance_to(inside, reach)
    within = _distance_to(1.0 - inside, reach)
    return ops.clip((within - outside) / reach + (inside - 0.5) * (-1.0 / reach), -1.0, 1.0)


def _distance_to(inside, reach: int):
    """Return the distance of each pixel to the nearest pixel where `inside` is 1, at most `reach` + 1."""
    far = float((reach + 1) ** 2)
    squared = ops.where(inside > 0.5, ops.zeros_like(inside), ops.full_like(inside, far))
    # Squared distances separate: the nearest along the columns of what is nearest along the rows.
    for axis in (1, 2):
        padding = [(reach, reach) if axis == number else (0, 0) for number in range(4)]
        wide = ops.pad(squared, padding, constant_values=far)
        length = squared.shape[axis]
        shifted = [
            (wide[:, at : at + length] if axis == 1 else wide[:, :, at : at + length]) + float((at - reach) ** 2)
            for at in range(2 * reach + 1)
        ]
        squared = ops.min(ops.stack(shifted), axis=0)
    return ops.sqrt(ops.minimum(squared, far))


REPRESENTATIONS = {"one-hot": lambda mask: mask, "softened": soften, "distance": signed_distance}


def real_channels(image, mask, *, variant: str, representation: str = "softened"):
    """Return what the discriminator sees of a real slice: image channels (but for `mask`), then mask channels.

    Args:
        image: `(batch, height, width, channels)`.
        mask: One-hot channels `(batch, height, width, classes)` in [-1, 1].
        variant: "base", "mask" or "cond". The mask of `cond` stays as it is given: real and generated slices carry
            the same one.
        representation: How `base` and `mask` draw masks: "one-hot", "softened" or "distance".
    """
    if variant == "cond":
        return ops.concatenate([image, mask], axis=-1)
    drawn = REPRESENTATIONS[representation](mask)
    return drawn if variant == "mask" else ops.concatenate([image, drawn], axis=-1)


def generated_channels(generated, mask, *, variant: str):
    """Return what the discriminator sees of a generated slice; for `cond` together with the mask it was given."""
    return ops.concatenate([generated, mask], axis=-1) if variant == "cond" else generated


def split_channels(channels, *, image_channels: int, mask_classes: int) -> dict:
    """Return `image` (float32) and `mask` (uint8 class indices), as far as the channels have them."""
    parts = {}
    if image_channels:
        parts["image"] = channels[..., :image_channels]
    if mask_classes:
        parts["mask"] = ops.cast(ops.argmax(channels[..., image_channels:], axis=-1), "uint8")
    return parts


def hide_masks(channels, labelled, *, image_channels: int):
    """Set the mask channels of unlabelled slices to zero, which is neither inside nor outside of any class.

    Args:
        channels: `(batch, height, width, channels)`, image channels first.
        labelled: `(batch,)`, 1 or 0.
        image_channels: Number of image channels.
    """
    image, mask = channels[..., :image_channels], channels[..., image_channels:]
    return ops.concatenate([image, mask * ops.cast(labelled, mask.dtype)[:, None, None, None]], axis=-1)


@dataclass(frozen=True)
class Networks:
    """Generator, exponential moving average of it, and discriminator."""

    generator: SliceGenerator
    average: SliceGenerator
    discriminator: SliceDiscriminator


def make_generator(options: ResolvedOptions, *, size: tuple[int, int], channels: int, classes: int) -> SliceGenerator:
    """Build the generator that resolved options describe, with weights drawn from their seed."""
    keras.utils.set_random_seed(options.seed)
    return SliceGenerator(
        variant=options.variant,
        size=size,
        channels=channels,
        classes=classes,
        z_dim=options.z_dim,
        w_dim=options.w_dim,
        mapping_layers=options.mapping_layers,
        channel_base=options.channel_base,
        channel_max=options.channel_max,
        precision=resolve_precision(options.precision),
        injection=options.injection,
        position=options.position,
        class_presence=options.class_presence,
        name="generator",
    )


def make_networks(options: ResolvedOptions, *, size: tuple[int, int], channels: int, classes: int) -> Networks:
    """Build all three networks; the average starts as a copy of the generator."""
    generator = make_generator(options, size=size, channels=channels, classes=classes)
    average = SliceGenerator.from_config(generator.get_config() | {"name": "average"})
    average.set_weights(generator.get_weights())
    discriminator = SliceDiscriminator(
        size=size,
        # It sees image and mask together but for `mask`; the mask of `cond` is the one that was given.
        channels=generator.image_channels + classes,
        channel_base=generator.channel_base,
        channel_max=generator.channel_max,
        group_size=options.minibatch_group,
        precision=resolve_precision(options.precision),
        attributes=generator.attribute_dim,
        name="discriminator",
    )
    return Networks(generator, average, discriminator)
