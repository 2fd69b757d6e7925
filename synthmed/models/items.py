"""The random numbers of a generated item: functions of its seed alone, the same in every shard and server."""

from synthmed.layers.counter_random import bits, normal
from synthmed.models.generators import SliceGenerator

# Streams of an item's seed. The mask generator of a `cond` bundle has streams of its own, so that an item's mask and
# image are drawn independently.
TEMPLATE_STREAM = 1
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
    from keras import ops

    # 24 bits avoid the sign; the bias of the remainder is below one in ten thousand for up to a thousand choices.
    number = ops.cast(ops.right_shift(bits(seed, stream=stream, count=1)[:, 0], ops.cast(8, "uint32")), "int32")
    return number % below


def draw_items(generator: SliceGenerator, seed, psi, mask=None, attributes=None):
    """Draw output planes for items.

    Args:
        generator: Any of the three variants.
        seed: int64 `(batch,)`.
        psi: float32 `(batch,)`, truncation.
        mask: `(batch, height, width, classes)` one-hot in [-1, 1]; `cond` only.
        attributes: `(batch, attribute_dim)`, where the generator is told any.

    Returns:
        float32 `(batch, height, width, planes)`.
    """
    w = generator.mapping.truncate(generator.mapping(item_latents(generator, seed), attributes), psi)
    return generator.synthesis(generator.broadcast(w), item_noise(generator, seed), mask)
