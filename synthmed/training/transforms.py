"""The operations of augmentation: the random numbers each reads, spatial transforms as one warp, intensities, bands."""

import math
from functools import cache
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
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

        The value that changes nothing stands for a closed gate, so that channels need no second selection. The numbers
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


def spread(values, channels):
    """Spread `(batch, 1)` or `(batch, n)` values over `(batch, height, width, n)` channels, in their number format.

    TensorFlow multiplies tensors of equal shape faster than ones that it has to broadcast, twice so in the gradient.
    """
    values = ops.cast(values, channels.dtype)
    return ops.broadcast_to(values[:, None, None, :], channels.shape)


GEOMETRY = ("mirror", "quarter_turn", "shift", "scale", "rotation", "stretch", "fractional_shift")

SHIFT = 0.125
"""Largest whole-pixel shift, and standard deviation of the fractional one, as a share of the side."""

SCALE_OCTAVES = 0.2
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
        inverse = 1.0 / draws.gated("scale", draws.log_normal("scale", SCALE_OCTAVES), 1.0)[:, 0]
        matrix = Matrix(inverse, still[0], still[0], inverse)
    if "rotation" in wanted:
        matrix = matrix.times(_rotation(draws, 0))
    if "stretch" in wanted:
        ratio = draws.gated("stretch", draws.log_normal("stretch", SCALE_OCTAVES), 1.0)[:, 0]
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


def warp(channels, placement: Placement, *, image_channels: int):
    """Transform `(batch, height, width, channels)`; what lies outside is a reflection about the outermost pixels.

    Args:
        channels: Image channels, then mask channels.
        placement: Where each pixel of the result comes from.
        image_channels: How many of the channels are read by linear interpolation; the others by nearest neighbour.
    """
    batch, height, width, count = channels.shape
    dtype = placement.matrix.a.dtype
    middle = (height - 1) / 2.0, (width - 1) / 2.0
    rows = ops.arange(height, dtype=dtype)[:, None] - middle[0]
    columns = ops.arange(width, dtype=dtype)[None, :] - middle[1]
    row, column = placement.sources(rows, columns)
    above, down = _neighbours(row + middle[0], height)
    before, right = _neighbours(column + middle[1], width)
    # Tensors of equal shape multiply several times faster than ones that TensorFlow has to broadcast, twice so in the
    # gradient: hence the fractions are spread over the channels first.
    shares = (_shares_by_channel(share, image_channels, count) for share in (down, right))
    down, right = (ops.cast(share, channels.dtype) for share in shares)
    up, left = 1.0 - down, 1.0 - right

    first = (ops.arange(batch, dtype="int32") * height)[:, None, None]
    corner = (first + above) * width + before
    # A side of one pixel has no second neighbour; its fraction is 0.
    step_row, step_column = width * (height > 1), int(width > 1)
    flat = ops.reshape(channels, (batch * height * width, count))
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


def _shares_by_channel(share, image_channels: int, count: int):
    """Return `(batch, height, width, channels)` shares: as they are for image channels, rounded for mask channels."""
    linear = np.arange(count) < image_channels
    share = share[..., None]
    return ops.where(linear, share, ops.floor(share + 0.5))


LEVEL = ("brightness", "contrast", "channel_gain", "diff_brightness")
"""What `level` does, in its order."""

NOISE = 0.1
"""Standard deviation of the half-normal standard deviation of the noise (arXiv:2006.06676, appendix B)."""

BRIGHTNESS = 0.2
"""Standard deviation of the sum, where images lie in [-1, 1] (the same)."""

CONTRAST_OCTAVES = 0.5
"""Standard deviation of the logarithm to base 2 of the factor (the same)."""

CHANNEL_OCTAVES = 0.5
"""The same for the gains of channels beside each other; the paper has no such operation."""


def level(image, draws: Draws, *, operations: tuple[str, ...]):
    """Do the operations of `LEVEL` as one gain and one sum, at the cost of one.

    Args:
        image: `(batch, height, width, channels)`.
        draws: Random numbers.
        operations: Names; others are passed over.
    """
    gain = ops.ones_like(draws.uniform("brightness"))
    offset = ops.zeros_like(gain)
    if "brightness" in operations:
        offset = draws.gated("brightness", BRIGHTNESS * draws.normal("brightness"), 0.0)
    if "contrast" in operations:
        # About 0, the middle of the range.
        factor = draws.gated("contrast", draws.log_normal("contrast", CONTRAST_OCTAVES), 1.0)
        gain, offset = gain * factor, offset * factor
    if "channel_gain" in operations:
        factor = draws.gated("channel_gain", _channel_gains(draws, image.shape[-1]), 1.0)
        gain, offset = gain * factor, offset * factor
    if "diff_brightness" in operations:
        offset = offset + draws.gated("diff_brightness", draws.uniform("diff_brightness") - 0.5, 0.0)
    return image * spread(gain, image) + spread(offset, image)


def saturation(image, draws: Draws):
    """Multiply the distance of each channel to the mean of the channels, at each pixel, with one U(0, 2)."""
    if image.shape[-1] < 2:
        return image
    factor = draws.gated("diff_saturation", 2.0 * draws.uniform("diff_saturation"), 1.0)
    return _scale_about(ops.mean(image, axis=3, keepdims=True), image, factor)


def contrast_about_mean(image, draws: Draws):
    """Multiply the distance to the mean of the sample with one U(0.5, 1.5)."""
    factor = draws.gated("diff_contrast", draws.uniform("diff_contrast") + 0.5, 1.0)
    return _scale_about(ops.mean(image, axis=(1, 2, 3), keepdims=True), image, factor)


def add_noise(image, noise, draws: Draws):
    """Add `noise`, standard normal in the shape of `image`, times the absolute value of one N(0, 0.1 ** 2)."""
    sigma = draws.gated("noise", NOISE * ops.abs(draws.normal("noise")), 0.0)
    return image + spread(sigma, image) * ops.cast(noise, image.dtype)


def _scale_about(middle, image, factor):
    # Not middle + (image - middle) * factor, which rounds where the factor is 1.
    return image * spread(factor, image) + middle * spread(1.0 - factor, middle)


def _channel_gains(draws: Draws, channels: int):
    """Return `(batch, channels)`: each channel's 2 ** N(0, 0.5 ** 2) over their geometric mean.

    What all channels share is left to the contrast; one channel alone stays as it is. Any number of channels is served
    by two numbers u and v: the fractional parts of u + c v are uniform for each channel c and independent by pairs.
    """
    base, step = ops.split(draws.uniform("channel_gain"), 2, axis=1)
    phase = base + step * ops.arange(channels, dtype=base.dtype)
    logs = CHANNEL_OCTAVES * normal_of(phase - ops.floor(phase))
    return ops.exp(math.log(2.0) * (logs - ops.mean(logs, axis=1, keepdims=True)))


BAND_OCTAVES = 1.0
"""Standard deviation of the logarithm to base 2 of a gain."""

POWER = np.array([1.0, 1.0, 1.0, 10.0]) / 13.0
"""Expected share of the power in each band, finest first: the paper's, for a spectrum that falls as 1 / f ** 2."""


def bands(image, draws: Draws):
    """Multiply each of four bands with a 2 ** N(0, 1), each behind a gate of its own, at constant expected power.

    Args:
        image: `(batch, height, width, channels)`.
        draws: Random numbers.
    """
    gains = draws.gated("bands", draws.log_normal("bands", BAND_OCTAVES), 1.0)
    power = ops.sum(ops.square(gains) * ops.convert_to_tensor(POWER, gains.dtype), axis=1, keepdims=True)
    # Rounding makes the power of four gains of 1 not quite 1.
    gains = ops.where(ops.any(draws.gates("bands"), axis=1, keepdims=True), gains / ops.sqrt(power), gains)
    gains = ops.cast(gains, image.dtype)[:, :, None, None, None]
    # Channels first: rows and columns are then the sides of matrices.
    image = ops.transpose(image, (0, 3, 1, 2))
    outputs = image * gains[:, 0]
    for number, low in enumerate(_low_passes(image), start=1):
        # Summed by low-passes instead of bands: each is the coarse end of one band and the fine end of the next.
        outputs = outputs + low * (gains[:, number] - gains[:, number - 1])
    return ops.transpose(outputs, (0, 2, 3, 1))


def _low_passes(image):
    """Yield `(batch, channels, height, width)` filtered once, twice and three times."""
    height, width = image.shape[2:]
    for down, across in zip(_matrices(height), _matrices(width), strict=True):
        down, across = (ops.convert_to_tensor(matrix, image.dtype) for matrix in (down, across.T))
        yield ops.matmul(ops.matmul(down, image), across)


@cache
def _matrices(side: int) -> list[np.ndarray]:
    """Return the matrices `(side, side)` of the three low-passes along an axis, "mirror" at its ends."""
    matrices, total = [], np.eye(side)
    for distance in (1, 2, 4):
        step = np.zeros((side, side))
        for offset, weight in ((-distance, 0.25), (0, 0.5), (distance, 0.25)):
            step[np.arange(side), _mirrored(np.arange(side) + offset, side)] += weight
        total = step @ total
        matrices.append(total)
    return matrices


def _mirrored(index: np.ndarray, side: int) -> np.ndarray:
    period = max(2 * (side - 1), 1)
    index = np.abs(index) % period
    return np.minimum(index, period - index) if side > 1 else index * 0
