"""The random numbers of an augmentation: which of the uniform ones each operation reads, and the laws made of them.

Whoever calls draws the uniform numbers, from seed and step, so that a resumed training sees the same ones. Every
operation reads columns of its own: switching one off does not change what the others do.
"""

import math
from itertools import accumulate
from typing import NamedTuple

from keras import ops


class Columns(NamedTuple):
    """How many numbers an operation reads a sample: `gates` say whether it is done, `values` how far it goes."""

    gates: int
    values: int


COLUMNS = {
    "mirror": Columns(1, 1),
    "quarter_turn": Columns(1, 1),
    "shift": Columns(1, 2),
    "scale": Columns(1, 1),
    "rotation": Columns(2, 2),
    "stretch": Columns(1, 1),
    "fractional_shift": Columns(1, 2),
    "brightness": Columns(1, 1),
    "contrast": Columns(1, 1),
    "channel_gain": Columns(1, 2),
    "diff_brightness": Columns(1, 1),
    "diff_saturation": Columns(1, 1),
    "diff_contrast": Columns(1, 1),
    "bands": Columns(4, 4),
    "noise": Columns(1, 1),
    "cutout": Columns(1, 2),
}
"""The operations, in the order in which they are applied."""

_ENDS = dict(zip(COLUMNS, accumulate(sum(columns) for columns in COLUMNS.values()), strict=True))
TOTAL = sum(sum(columns) for columns in COLUMNS.values())
"""Uniform numbers a sample."""


class Draws:
    """The uniform numbers of one call, handed out by operation.

    Args:
        numbers: `(batch, TOTAL)` in [0, 1), float32 or float64.
        probability: Of each operation in each sample; a float or a scalar tensor.
    """

    def __init__(self, numbers, probability):
        self._numbers = numbers
        self._probability = ops.cast(probability, numbers.dtype)

    def gated(self, name: str, values, otherwise: float):
        """Return `(batch, n)` values where the gate of an operation is open, `otherwise` where it is closed.

        The value that changes nothing stands for a closed gate, so that planes need no second selection. The numbers
        are below 1 and never below 0: probability 0 closes every gate and 1 opens it. Operations with several gates
        have one a column of `values`.
        """
        return ops.where(self.gates(name), values, ops.full_like(values, otherwise))

    def gates(self, name: str):
        """Return bools `(batch, gates)`: which gates of an operation are open."""
        probability = self._probability
        if name == "rotation":
            # Two rotations: with this probability of each, at least one happens with the probability asked for.
            probability = 1.0 - ops.sqrt(ops.maximum(1.0 - probability, 0.0))
        start = _ENDS[name] - sum(COLUMNS[name])
        return self._numbers[:, start : start + COLUMNS[name].gates] < probability

    def uniform(self, name: str):
        """Return `(batch, values)` in [0, 1)."""
        return self._numbers[:, _ENDS[name] - COLUMNS[name].values : _ENDS[name]]

    def normal(self, name: str):
        """Return `(batch, values)` standard normal numbers."""
        return normal_of(self.uniform(name))

    def log_normal(self, name: str, octaves: float):
        """Return `(batch, values)` factors 2 ** N(0, octaves ** 2): as likely to halve as to double."""
        return ops.exp(math.log(2.0) * octaves * self.normal(name))


def normal_of(uniform):
    """Turn uniform numbers in [0, 1) into standard normal ones, up to 4.8 either way."""
    return math.sqrt(2.0) * ops.erfinv(2.0 * ops.clip(uniform, 1e-6, 1.0 - 1e-6) - 1.0)


def for_planes(values, planes):
    """Spread `(batch, 1)` or `(batch, n)` values over `(batch, height, width, n)` planes, in their number format.

    TensorFlow multiplies tensors of equal shape faster than ones that it has to broadcast, twice so in the gradient.
    """
    values = ops.cast(values, planes.dtype)
    return ops.broadcast_to(values[:, None, None, :], planes.shape)
