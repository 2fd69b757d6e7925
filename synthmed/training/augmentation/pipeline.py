"""All operations in their order."""

from collections.abc import Iterable

from keras import ops

from synthmed.training.augmentation import intensity
from synthmed.training.augmentation.bands import bands
from synthmed.training.augmentation.draws import COLUMNS, TOTAL, Draws
from synthmed.training.augmentation.geometry import GEOMETRY, place
from synthmed.training.augmentation.warp import warp

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


def noise_shape(batch: int, height: int, width: int, image_planes: int) -> tuple[int, int, int, int]:
    """Return the shape of the standard normal numbers that the operation "noise" reads."""
    return batch, height, width, image_planes


def augment(planes, *, image_planes: int, operations: Iterable[str], probability, numbers, noise=None):
    """Return changed planes, in the shape and number format of `planes`.

    Every operation is linear in the planes or affine, so gradients of every order with respect to them are exact.
    Values for which no gate opens come back exactly.

    Args:
        planes: `(batch, height, width, planes)`, image planes in about [-1, 1], then mask planes; the sizes are static.
        image_planes: How many of them are of the image; 0 to all.
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
        placement = place(draws, operations=operations, size=(planes.shape[1], planes.shape[2]))
        planes = warp(planes, placement, image_planes=image_planes)
    if image_planes and any(name not in (*GEOMETRY, "cutout") for name in operations):
        # The gradient of a split is one concatenation; that of two slices pads both and adds them.
        image, mask = ops.split(planes, [image_planes], axis=-1)
        planes = ops.concatenate([_recolour(image, draws, operations, noise), mask], axis=-1)
    return _cut_out(planes, draws) if "cutout" in operations else planes


def _recolour(image, draws: Draws, operations: tuple[str, ...], noise):
    if any(name in operations for name in intensity.LEVEL):
        image = intensity.level(image, draws, operations=operations)
    if "diff_saturation" in operations:
        image = intensity.saturation(image, draws)
    if "diff_contrast" in operations:
        image = intensity.contrast_about_mean(image, draws)
    if "bands" in operations:
        image = bands(image, draws)
    return intensity.add_noise(image, noise, draws) if "noise" in operations else image


def _cut_out(planes, draws: Draws):
    """Set a square of all planes to 0, whose middle lies anywhere in the slice.

    Mask planes are cut with the image: 0 is no class, so neither says anything about the square. Left whole, the mask
    would name classes where there is no image, in real and generated pairs alike, and a discriminator of masks alone
    would not be augmented at all.
    """
    middle = draws.uniform("cutout")
    near = []
    for axis, side in enumerate(planes.shape[1:3]):
        places = (ops.arange(side, dtype=middle.dtype) + 0.5) / side
        near.append(ops.abs(places[None] - middle[:, axis : axis + 1]) < CUTOUT / 2.0)
    rows, columns = near[0] & draws.gates("cutout"), near[1]
    kept = ops.cast(~(rows[:, :, None] & columns[:, None, :]), planes.dtype)
    return planes * ops.broadcast_to(kept[..., None], planes.shape)
