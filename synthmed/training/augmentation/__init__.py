"""Augmentation of what the discriminator sees: image and mask planes of real and generated slices alike.

`ADA_OPERATIONS` with a probability that `adaptive.adjust` steers (arXiv:2006.06676), or `DIFF_OPERATIONS` with
probability 1 (arXiv:2006.10738). Geometric operations are composed into one warp. Gradients with respect to the planes
are exact to every order. N is a normal distribution, U a uniform one.

| operation | strength | image planes | mask planes |
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

from synthmed.training.augmentation.adaptive import adjust, sign_mean
from synthmed.training.augmentation.geometry import GEOMETRY
from synthmed.training.augmentation.pipeline import (
    ADA_OPERATIONS,
    AUGMENTATIONS,
    DIFF_OPERATIONS,
    augment,
    noise_shape,
    numbers_shape,
)

__all__ = [
    "ADA_OPERATIONS",
    "AUGMENTATIONS",
    "DIFF_OPERATIONS",
    "GEOMETRY",
    "adjust",
    "augment",
    "noise_shape",
    "numbers_shape",
    "sign_mean",
]
