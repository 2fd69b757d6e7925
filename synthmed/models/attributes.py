"""What networks are told of a slice beside its mask: where it lies along its case, and which classes it shows."""

import math

from keras import ops

HARMONICS = 4


def attribute_size(*, position: bool, shown: bool, classes: int) -> int:
    """Return the length of an attribute vector; 0 where nothing is told.

    Args:
        position: Whether the position along the slicing axis is told.
        shown: Whether it is told which classes a slice shows.
        classes: Number of classes, background included.
    """
    return (HARMONICS if position else 0) + (classes - 1 if shown else 0)


def attribute_vector(position=None, shown=None):
    """Return `(batch, attribute_size)` numbers in [-1, 1], float32.

    The position is given by cosines of it: smooth, so that neighbouring slices are told nearly the same, and the first
    alone names each position once.

    Args:
        position: `(batch,)`, 0 at one end of the case and 1 at the other; None where it is not told.
        shown: `(batch, classes - 1)`, 1 where a foreground class is in the slice, 0 where not and 0.5 where nobody
            knows; None where it is not told.
    """
    parts = []
    if position is not None:
        angles = ops.cast(position, "float32")[:, None] * ops.arange(1, HARMONICS + 1, dtype="float32") * math.pi
        parts.append(ops.cos(angles))
    if shown is not None:
        parts.append(2.0 * ops.cast(shown, "float32") - 1.0)
    return ops.concatenate(parts, axis=-1)


def shown_classes(labels, classes: int):
    """Return `(batch, classes - 1)`: 1 for each foreground class that label maps `(batch, height, width)` show."""
    planes = ops.one_hot(ops.cast(labels, "int32"), classes, dtype="float32")
    return ops.max(planes, axis=(1, 2))[:, 1:]
