"""Augmentation of what the discriminator sees: image and mask channels of real and generated slices alike.

`ADA_OPERATIONS` with a probability that `adversarial.adjust` steers (arXiv:2006.06676), or `DIFF_OPERATIONS` with
probability 1 (arXiv:2006.10738). Spatial transforms are composed into one warp. Gradients with respect to the slices
are exact to every order. N is a normal distribution, U a uniform one.

| operation | strength | image channels | mask channels |
|---|---|---|---|
| mirror | columns, in half of the gated samples | mirrored | the same |
| quarter_turn | 0 to 3 of 90 degrees; 0 or 180 degrees if not square | turned | the same |
| shift | U(-1/8, 1/8) of each side, whole pixels | moved, reflected at the border | the same |
| scale | 2 ** N(0, 0.2 ** 2), both axes | linear interpolation | nearest neighbour, same places |
| rotation | U(-180, 180) degrees, before and after the stretch | linear interpolation | nearest neighbour |
| stretch | 2 ** N(0, 0.2 ** 2) along columns, its inverse along rows | linear interpolation | nearest neighbour |
| fractional_shift | N(0, (1/8) ** 2) of each side | linear interpolation | nearest neighbour |
| brightness | N(0, 0.2 ** 2) added | all channels alike | untouched |
| contrast | times 2 ** N(0, 0.5 ** 2) | all channels alike, about 0 | untouched |
| channel_gain | times 2 ** N(0, 0.5 ** 2) over their geometric mean | each channel; from two on | untouched |
| diff_brightness | U(-0.5, 0.5) added | all channels alike | untouched |
| diff_saturation | times U(0, 2) about the mean of the channels | from two channels on | untouched |
| diff_contrast | times U(0.5, 1.5) about the mean of the sample | all channels alike | untouched |
| bands | four frequency bands times 2 ** N(0, 1), at constant power | all channels alike | untouched |
| noise | N(0, s ** 2) with s = abs(N(0, 0.1 ** 2)) | each pixel and channel | untouched |
| cutout | a square of half the sides, its middle anywhere | set to 0 | set to 0: no class |

Signed distances keep their values when a slice is scaled, and softened masks the width of their edges only up to the
scale: real and generated slices alike.
"""

from collections.abc import Iterable

from keras import ops

from synthmed.training.transforms import (
    COLUMNS,
    GEOMETRY,
    LEVEL,
    TOTAL,
    Draws,
    add_noise,
    bands,
    contrast_about_mean,
    level,
    place,
    saturation,
    warp,
)

AUGMENTATIONS = tuple(COLUMNS)
"""Names of all operations, in the order in which they are applied."""

DIFF_OPERATIONS = ("shift", "diff_brightness", "diff_saturation", "diff_contrast", "cutout")
"""DiffAugment (arXiv:2006.10738): meant for probability 1."""

ADA_OPERATIONS = tuple(name for name in AUGMENTATIONS if not name.startswith("diff_"))
"""Adaptive discriminator augmentation (arXiv:2006.06676) with everything it has."""

CUTOUT = 0.5
"""Side of the square that is cut out, as a share of the slice's (arXiv:2006.06676, appendix B)."""


def numbers_shape(batch: int) -> tuple[int, int]:
    """Return the shape of the uniform numbers in [0, 1) that `augment` reads for `batch` samples."""
    return batch, TOTAL


def noise_shape(batch: int, height: int, width: int, image_channels: int) -> tuple[int, int, int, int]:
    """Return the shape of the standard normal numbers that the operation "noise" reads."""
    return batch, height, width, image_channels


def augment(channels, *, image_channels: int, operations: Iterable[str], probability, numbers, noise=None):
    """Return changed channels, in the shape and number format of `channels`.

    Every operation is linear in the channels or affine, so gradients of every order with respect to them are exact.
    Values for which no gate opens come back exactly.

    Args:
        channels: `(batch, height, width, channels)` with static sizes: image channels in about [-1, 1], then mask
            channels.
        image_channels: How many of them are of the image; 0 to all.
        operations: Names out of `AUGMENTATIONS`; they are applied in its order.
        probability: Of each operation in each sample, in 0..1: a float or a scalar tensor.
        numbers: `numbers_shape(batch)`, uniform in [0, 1), float32 or float64.
        noise: `noise_shape(...)`, standard normal; only "noise" needs it.

    Raises:
        ValueError: If an operation does not exist, or "noise" is wanted without `noise`.
    """
    operations = tuple(operations)
    unknown = [name for name in operations if name not in AUGMENTATIONS]
    if unknown:
        raise ValueError(f"there is no augmentation {unknown[0]!r}; there are {', '.join(AUGMENTATIONS)}")
    if "noise" in operations and noise is None:
        raise ValueError("the augmentation 'noise' needs normal numbers: pass noise")
    draws = Draws(numbers, probability)
    if any(name in GEOMETRY for name in operations):
        placement = place(draws, operations=operations, size=(channels.shape[1], channels.shape[2]))
        channels = warp(channels, placement, image_channels=image_channels)
    if image_channels and any(name not in (*GEOMETRY, "cutout") for name in operations):
        # The gradient of a split is one concatenation; that of two slices pads both and adds them.
        image, mask = ops.split(channels, [image_channels], axis=-1)
        channels = ops.concatenate([_change_intensities(image, draws, operations, noise), mask], axis=-1)
    return _cut_out(channels, draws) if "cutout" in operations else channels


def _change_intensities(image, draws: Draws, operations: tuple[str, ...], noise):
    if any(name in operations for name in LEVEL):
        image = level(image, draws, operations=operations)
    if "diff_saturation" in operations:
        image = saturation(image, draws)
    if "diff_contrast" in operations:
        image = contrast_about_mean(image, draws)
    if "bands" in operations:
        image = bands(image, draws)
    return add_noise(image, noise, draws) if "noise" in operations else image


def _cut_out(channels, draws: Draws):
    """Set a square of all channels to 0, whose middle lies anywhere in the slice.

    Mask channels are cut with the image: 0 is no class, so neither says anything about the square. Left whole, the mask
    would name classes where there is no image, in real and generated pairs alike, and a discriminator of masks alone
    would not be augmented at all.
    """
    middle = draws.uniform("cutout")
    near = []
    for axis, side in enumerate(channels.shape[1:3]):
        places = (ops.arange(side, dtype=middle.dtype) + 0.5) / side
        near.append(ops.abs(places[None] - middle[:, axis : axis + 1]) < CUTOUT / 2.0)
    rows, columns = near[0] & draws.gates("cutout"), near[1]
    kept = ops.cast(~(rows[:, :, None] & columns[:, None, :]), channels.dtype)
    return channels * ops.broadcast_to(kept[..., None], channels.shape)
