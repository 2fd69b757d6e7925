"""One warp for image and mask planes, made of gathers.

Gathers have exact gradients of every order with respect to what they gather; bilinear resizing and Keras' affine
transform have not. The four neighbours of a place are read once, for all planes: image planes weigh them by the
distance, mask planes take the nearest, so that one-hot planes stay one-hot.

Images are read at their own resolution and without a filter; arXiv:2006.06676 doubles the resolution and filters, for
photographs. Reading between pixels is a low-pass by itself, and only a slice drawn smaller can alias: by 1.3 times at
two standard deviations of the scale. Prepared slices have been interpolated before (of the power of hippocampus slices,
without their mean, 1 % lies above 1 / 1.3 of the highest frequency), and real and generated slices alias alike. The
filters would cost several times as much as the warp.
"""

import numpy as np
from keras import ops

from synthmed.training.augmentation.geometry import Placement


def warp(planes, placement: Placement, *, image_planes: int):
    """Move `(batch, height, width, planes)`; what lies outside is a reflection about the outermost pixels.

    Args:
        planes: Image planes, then mask planes.
        placement: Where each pixel of the result comes from.
        image_planes: How many of the planes are read by linear interpolation; the others by nearest neighbour.
    """
    batch, height, width, count = planes.shape
    dtype = placement.matrix.a.dtype
    middle = (height - 1) / 2.0, (width - 1) / 2.0
    rows = ops.arange(height, dtype=dtype)[:, None] - middle[0]
    columns = ops.arange(width, dtype=dtype)[None, :] - middle[1]
    row, column = placement.sources(rows, columns)
    above, down = _neighbours(row + middle[0], height)
    before, right = _neighbours(column + middle[1], width)
    # Tensors of equal shape multiply several times faster than ones that TensorFlow has to broadcast, twice so in the
    # gradient: hence the fractions are spread over the planes first.
    down, right = (ops.cast(_spread(share, image_planes, count), planes.dtype) for share in (down, right))
    up, left = 1.0 - down, 1.0 - right

    first = (ops.arange(batch, dtype="int32") * height)[:, None, None]
    corner = (first + above) * width + before
    # A side of one pixel has no second neighbour; its fraction is 0.
    step_row, step_column = width * (height > 1), int(width > 1)
    flat = ops.reshape(planes, (batch * height * width, count))
    upper = ops.take(flat, corner, axis=0) * left + ops.take(flat, corner + step_column, axis=0) * right
    corner = corner + step_row
    lower = ops.take(flat, corner, axis=0) * left + ops.take(flat, corner + step_column, axis=0) * right
    return upper * up + lower * down


def reflect(places, side: int):
    """Fold places along an axis into [0, side - 1], as `d c b | a b c d | c b a` (scipy's "mirror")."""
    if side == 1:
        return ops.zeros_like(places)
    period = 2.0 * (side - 1)
    places = ops.abs(places)
    places = places - period * ops.floor(places / period)
    return ops.clip((side - 1) - ops.abs(places - (side - 1)), 0.0, side - 1.0)


def _neighbours(places, side: int):
    """Return the pixel before each place (int32, never the last one) and the share of the pixel after it."""
    places = reflect(places, side)
    before = ops.minimum(ops.floor(places), max(side - 2, 0))
    return ops.cast(before, "int32"), places - before


def _spread(share, image_planes: int, count: int):
    """Return `(batch, height, width, planes)` shares: as they are for image planes, rounded for mask planes."""
    linear = np.arange(count) < image_planes
    share = share[..., None]
    return ops.where(linear, share, ops.floor(share + 0.5))
