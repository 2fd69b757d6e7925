"""Moving slices and their labels inside tf.data: affine changes, mirroring, elastic deformation."""

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from synthmed.segmentation.draws import Draws

if TYPE_CHECKING:
    import tensorflow as tf

    from synthmed.segmentation.augment import Augmentation

AIR = -1.0
"""Prepared intensity outside an image."""
SPANS = 5
"""Control points of the elastic deformation lie a fifth of a side apart: the largest default displacement, 0.03 of a
side, then has slopes of 0.18 (one standard deviation), so that folds, which begin at 1, do not occur in practice."""


def move(
    image: "tf.Tensor", label: "tf.Tensor", draws: Draws, options: "Augmentation"
) -> "tuple[tf.Tensor, tf.Tensor]":
    """Move those slices that are drawn to be moved, each with its labels; the others pass as they are.

    Elastic deformation and affine change of a slice are one resampling. Labels are those of the nearest pixel, `IGNORE`
    among them; what comes from outside is air and background.

    Args:
        image: float32 `[batch, height, width, channels]` in [-1, 1].
        label: uint8 `[batch, height, width]`.
        draws: Random numbers of the step.
        options: How far.
    """
    import tensorflow as tf

    count, (height, width) = tf.shape(image)[0], image.shape[1:3]
    transforms = _transforms(count, (height, width), draws, options)
    bent = tf.zeros([count], tf.bool)
    if options.elastic and options.displacement:
        bent = draws.uniform([count]) < options.elastic
    moved = tf.reduce_any(transforms != tf.constant([1.0, 0, 0, 0, 1, 0, 0, 0]), axis=1)
    changes: list[tuple[tf.Tensor, Callable]] = [(tf.where(moved & ~bent), _affine)]
    if options.elastic and options.displacement:
        chosen = tf.where(bent)
        shifts = _displacement(tf.shape(chosen)[0], (height, width), draws, options)
        changes.append((chosen, partial(_dense, shifts=shifts)))
    for chosen, change in changes:
        parts = change(*(tf.gather_nd(values, chosen) for values in (image, label, transforms)))
        image = tf.tensor_scatter_nd_update(image, chosen, parts[0])
        label = tf.tensor_scatter_nd_update(label, chosen, parts[1])
    return image, label


def _transforms(count: "tf.Tensor", size: tuple[int, int], draws: Draws, options: "Augmentation") -> "tf.Tensor":
    """Return `[count, 8]` projective transforms from output to input pixels (x is the column, y the row)."""
    import tensorflow as tf

    height, width = size
    moved = tf.cast(draws.uniform([count]) < options.geometry, tf.float32)
    angle = draws.uniform([count], -1.0, 1.0) * math.radians(options.rotation) * moved
    scale = draws.factor([count], options.scale) ** moved
    stretch = draws.factor([count], options.stretch) ** (moved / 2.0)
    shift_x = draws.uniform([count], -1.0, 1.0) * options.translation * width * moved
    shift_y = draws.uniform([count], -1.0, 1.0) * options.translation * height * moved
    mirror_x = _signs(draws.uniform([count]), bool(options.flip_columns))
    mirror_y = _signs(draws.uniform([count]), bool(options.flip_rows))
    along_x, along_y = mirror_x * scale * stretch, mirror_y * scale / stretch
    cos, sin = tf.cos(angle), tf.sin(angle)
    a, b = cos * along_x, -sin * along_y
    c, d = sin * along_x, cos * along_y
    # Turn and scale about the middle of the slice, then shift.
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    e = centre_x - a * centre_x - b * centre_y + shift_x
    f = centre_y - c * centre_x - d * centre_y + shift_y
    zero = tf.zeros([count])
    return tf.stack([a, b, e, c, d, f, zero, zero], axis=1)


def _signs(uniform: "tf.Tensor", flips: bool) -> "tf.Tensor":
    import tensorflow as tf

    return tf.where(uniform < 0.5, -1.0, 1.0) if flips else tf.ones_like(uniform)


def _affine(image: "tf.Tensor", label: "tf.Tensor", transforms: "tf.Tensor") -> "tuple[tf.Tensor, tf.Tensor]":
    import tensorflow as tf

    common = {"transforms": transforms, "output_shape": image.shape[1:3], "fill_mode": "CONSTANT"}
    # No gradient flows through augmentation, so this op's wrong gradient does not matter here, and it is fast.
    moved = tf.raw_ops.ImageProjectiveTransformV3(images=image, interpolation="BILINEAR", fill_value=AIR, **common)
    moved_label = tf.raw_ops.ImageProjectiveTransformV3(
        images=label[..., tf.newaxis], interpolation="NEAREST", fill_value=0.0, **common
    )
    return moved, moved_label[..., 0]


def _displacement(count: "tf.Tensor", size: tuple[int, int], draws: Draws, options: "Augmentation") -> "tf.Tensor":
    """Return smooth displacements `[count, height, width, 2]` (row, column) in pixels: cubic B-splines."""
    import tensorflow as tf

    rows, columns = (tf.constant(_spline_basis(side)) for side in size)
    points = draws.normal([count, SPANS + 3, SPANS + 3, 2])
    strength = draws.uniform([count, 1, 1, 1]) * options.displacement
    shifts = tf.einsum("hp,npqd,wq->nhwd", rows, points * strength, columns)
    return shifts * tf.constant([float(size[0]), float(size[1])])


def _spline_basis(side: int) -> np.ndarray:
    """Return float32 `[side, SPANS + 3]`: weights by which unit normal control points give unit variance."""
    from scipy.interpolate import BSpline

    places = (np.arange(side) + 0.5) / side * SPANS
    basis = BSpline.design_matrix(places, np.arange(-3.0, SPANS + 4.0), 3).toarray()
    return (basis / np.sqrt((basis**2).sum(axis=1).mean())).astype(np.float32)


def _dense(
    image: "tf.Tensor", label: "tf.Tensor", transforms: "tf.Tensor", shifts: "tf.Tensor"
) -> "tuple[tf.Tensor, tf.Tensor]":
    """Resample where affine change after displacement points: bilinear the images, nearest the labels."""
    import tensorflow as tf

    height, width, channels = image.shape[1:]
    y = tf.range(height, dtype=tf.float32)[:, tf.newaxis] + shifts[..., 0]
    x = tf.range(width, dtype=tf.float32) + shifts[..., 1]
    a, b, e, c, d, f = (part[:, tf.newaxis] for part in tf.split(transforms[:, :6], 6, axis=1))
    # A frame of one pixel of air, and coordinates held within it, stand for all that is outside.
    from_x = tf.clip_by_value(a * x + b * y + e, -1.0, float(width)) + 1.0
    from_y = tf.clip_by_value(c * x + d * y + f, -1.0, float(height)) + 1.0
    framed = tf.pad(image, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=AIR)
    framed_label = tf.pad(label, [[0, 0], [1, 1], [1, 1]])
    first = tf.range(tf.shape(image)[0])[:, tf.newaxis, tf.newaxis] * ((height + 2) * (width + 2))

    def place(row: "tf.Tensor", column: "tf.Tensor") -> "tf.Tensor":
        return first + tf.cast(row, tf.int32) * (width + 2) + tf.cast(column, tf.int32)

    nearest = tf.gather(tf.reshape(framed_label, [-1]), place(tf.floor(from_y + 0.5), tf.floor(from_x + 0.5)))
    top, left = tf.minimum(tf.floor(from_y), height), tf.minimum(tf.floor(from_x), width)
    down, right = (from_y - top)[..., tf.newaxis], (from_x - left)[..., tf.newaxis]
    pixels, corner = tf.reshape(framed, [-1, channels]), place(top, left)
    upper, lower = (
        tf.gather(pixels, start) * (1.0 - right) + tf.gather(pixels, start + 1) * right
        for start in (corner, corner + width + 2)
    )
    return upper * (1.0 - down) + lower * down, nearest
