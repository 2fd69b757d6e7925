"""Geometric operations as one map from the pixels of the result to the places they are read from.

Points are (row, column) in pixels from the middle of the slice. Strengths: arXiv:2006.06676, appendix B.
"""

import math
from typing import Any, NamedTuple

from keras import ops

from synthmed.training.augmentation.draws import Draws

GEOMETRY = ("mirror", "quarter_turn", "shift", "scale", "rotation", "stretch", "fractional_shift")

SHIFT = 0.125
"""Largest whole-pixel shift, and standard deviation of the fractional one, as a share of the side."""

OCTAVES = 0.2
"""Standard deviation of the logarithm to base 2 of the scale and of the stretch."""


class Matrix(NamedTuple):
    """2 x 2 matrices ((a, b), (c, d)), one a sample; each entry is `(batch,)`.

    Products are written out: a matrix product would round the coordinates to ten bits on a GPU with TensorFloat-32.
    """

    a: Any
    b: Any
    c: Any
    d: Any

    def times(self, other: "Matrix") -> "Matrix":
        """Return the matrix product."""
        first, second = self.apply(other.a, other.c), self.apply(other.b, other.d)
        return Matrix(first[0], second[0], first[1], second[1])

    def apply(self, row, column):
        """Return the image of a point."""
        return self.a * row + self.b * column, self.c * row + self.d * column


class Placement(NamedTuple):
    """Where the pixels of the result come from: `matrix` times (place - `after`), minus `before`, then `turn`.

    Attributes:
        turn: Inverse of mirror and quarter turns: entries are exactly -1, 0 or 1.
        before: (row, column) shift in whole pixels, between `turn` and `matrix`; each `(batch,)`.
        matrix: Inverse of scale, rotations and stretch.
        after: (row, column) shift in fractions of a pixel; each `(batch,)`.
    """

    turn: Matrix
    before: tuple[Any, Any]
    matrix: Matrix
    after: tuple[Any, Any]

    def sources(self, rows, columns):
        """Return the (row, column) that each place of the result is read from.

        Args:
            rows: Of the places, `(height, 1)`, from the middle of the slice.
            columns: The same, `(1, width)`.
        """
        turn = Matrix(*(entry[:, None, None] for entry in self.turn))
        matrix = Matrix(*(entry[:, None, None] for entry in self.matrix))
        before, after = ([shift[:, None, None] for shift in pair] for pair in (self.before, self.after))
        row, column = matrix.apply(rows - after[0], columns - after[1])
        return turn.apply(row - before[0], column - before[1])


def place(draws: Draws, *, operations: tuple[str, ...], size: tuple[int, int]) -> Placement:
    """Return the placement of each sample; where no gate is open it is exactly each pixel's own place.

    Args:
        draws: Random numbers.
        operations: Names; those that are not geometric are passed over.
        size: (height, width) in pixels.
    """
    wanted = [name for name in GEOMETRY if name in operations]
    one = ops.ones_like(draws.uniform("mirror")[:, 0])
    still = (0.0 * one, 0.0 * one)
    turn = matrix = Matrix(one, 0.0 * one, 0.0 * one, one)
    before = after = still
    if "mirror" in wanted:
        turn = turn.times(_mirror(draws, one))
    if "quarter_turn" in wanted:
        turn = turn.times(_quarter_turn(draws, square=size[0] == size[1]))
    if "shift" in wanted:
        shares = draws.gated("shift", SHIFT * (2.0 * draws.uniform("shift") - 1.0), 0.0)
        before = (ops.round(shares[:, 0] * size[0]), ops.round(shares[:, 1] * size[1]))
    if "scale" in wanted:
        inverse = 1.0 / draws.gated("scale", draws.log_normal("scale", OCTAVES), 1.0)[:, 0]
        matrix = Matrix(inverse, still[0], still[0], inverse)
    if "rotation" in wanted:
        matrix = matrix.times(_rotation(draws, 0))
    if "stretch" in wanted:
        ratio = draws.gated("stretch", draws.log_normal("stretch", OCTAVES), 1.0)[:, 0]
        matrix = matrix.times(Matrix(ratio, still[0], still[0], 1.0 / ratio))
    if "rotation" in wanted:
        matrix = matrix.times(_rotation(draws, 1))
    if "fractional_shift" in wanted:
        shares = draws.gated("fractional_shift", SHIFT * draws.normal("fractional_shift"), 0.0)
        after = (shares[:, 0] * size[0], shares[:, 1] * size[1])
    return Placement(turn, before, matrix, after)


def _mirror(draws: Draws, one) -> Matrix:
    mirrored = draws.gates("mirror")[:, 0] & (draws.uniform("mirror")[:, 0] < 0.5)
    return Matrix(one, 0.0 * one, 0.0 * one, ops.where(mirrored, -one, one))


def _quarter_turn(draws: Draws, *, square: bool) -> Matrix:
    # A quarter of a slice that is not square does not fit into it: only half turns then.
    uniform = draws.uniform("quarter_turn")
    turns = ops.floor(4.0 * uniform) if square else 2.0 * ops.floor(2.0 * uniform)
    angle = draws.gated("quarter_turn", turns, 0.0)[:, 0] * (math.pi / 2.0)
    cos, sin = ops.round(ops.cos(angle)), ops.round(ops.sin(angle))
    return Matrix(cos, -sin, sin, cos)


def _rotation(draws: Draws, which: int) -> Matrix:
    angles = draws.gated("rotation", math.pi * (2.0 * draws.uniform("rotation") - 1.0), 0.0)
    cos, sin = ops.cos(angles[:, which]), ops.sin(angles[:, which])
    return Matrix(cos, -sin, sin, cos)
