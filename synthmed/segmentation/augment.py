"""Augmentation of labelled slices in the graph: spatial and intensity transforms, and the choice of mirroring."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy.spatial.distance import cdist

from synthmed.data.schema import CaseRecord
from synthmed.data.store import Store
from synthmed.errors import check_leak
from synthmed.segmentation.postprocess import Flips

if TYPE_CHECKING:
    import tensorflow as tf

_STREAMS = 64


class Draws:
    """Uniform and normal numbers from one stream per call, keyed by seed and step.

    Args:
        seed: Of the training.
        step: Number of the training step, int64 scalar.
    """

    def __init__(self, seed: int, step: "tf.Tensor"):
        self._seed, self._step, self._calls = seed, step, 0

    def uniform(self, shape: Any, low: float = 0.0, high: float = 1.0) -> "tf.Tensor":
        """Return numbers evenly spread over low..high."""
        import tensorflow as tf

        return tf.random.stateless_uniform(shape, self._key(), low, high)

    def normal(self, shape: Any) -> "tf.Tensor":
        """Return numbers of mean 0 and standard deviation 1."""
        import tensorflow as tf

        return tf.random.stateless_normal(shape, self._key())

    def factor(self, shape: Any, range_: float) -> "tf.Tensor":
        """Return factors from 1 / (1 + range) to 1 + range, as likely to enlarge as to shrink."""
        import tensorflow as tf

        limit = math.log1p(range_)
        return tf.exp(self.uniform(shape, -limit, limit))

    def _key(self) -> "tf.Tensor":
        import tensorflow as tf

        self._calls += 1
        if self._calls >= _STREAMS:
            raise RuntimeError("more draws a step than streams: two of them would share their numbers")
        return tf.stack([tf.constant(self._seed * _STREAMS + self._calls, tf.int64), tf.cast(self._step, tf.int64)])


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


def recolour(image: "tf.Tensor", draws: Draws, options: "Augmentation") -> "tf.Tensor":
    """Change sharpness, gamma, contrast and brightness of each channel by itself, then add noise.

    Each change is worked out for those channels of those slices that it was drawn for, which are the fewer.

    Args:
        image: float32 `[batch, height, width, channels]`, about -1 to 1.
        draws: Random numbers of the step.
        options: How far.
    """
    import tensorflow as tf

    height, width, channels = image.shape[1:]
    # A row for each channel of each slice.
    planes = tf.reshape(tf.transpose(image, (0, 3, 1, 2)), [-1, height * width])
    planes = _soften(planes, (height, width), draws, options)
    planes = _change_curve(planes, draws, options)
    if options.noise:
        sigma = _sometimes(planes, draws, options.intensity, lambda each: draws.uniform(each) * options.noise, 0.0)
        planes = _change(planes, sigma != 0.0, lambda rows, own: rows + own * draws.normal(tf.shape(rows)), sigma)
    return tf.transpose(tf.reshape(planes, [-1, channels, height, width]), (0, 2, 3, 1))


def _change_curve(planes: "tf.Tensor", draws: Draws, options: "Augmentation") -> "tf.Tensor":
    import tensorflow as tf

    gamma = _sometimes(planes, draws, options.intensity, lambda each: draws.factor(each, options.gamma), 1.0)
    sign = tf.where(draws.uniform(tf.shape(gamma)) < options.gamma_inverted, -1.0, 1.0)
    planes = _change(planes, gamma != 1.0, _with_gamma, gamma, sign)
    contrast = _sometimes(planes, draws, options.intensity, lambda each: draws.factor(each, options.contrast), 1.0)
    brightness = _sometimes(
        planes, draws, options.intensity, lambda each: draws.uniform(each, -1.0, 1.0) * options.brightness, 0.0
    )
    return _change(planes, (contrast != 1.0) | (brightness != 0.0), _with_contrast, contrast, brightness)


def _soften(planes: "tf.Tensor", size: tuple[int, int], draws: Draws, options: "Augmentation") -> "tf.Tensor":
    """Blur some planes and draw some on a coarser grid and back; both act along rows and columns one by one.

    Along an axis each is a matrix, so that planes with values of their own are one batched product.
    """
    import tensorflow as tf

    sigma = _sometimes(planes, draws, options.sharpness, lambda each: draws.uniform(each) * options.blur, 0.0)
    factor = _sometimes(
        planes, draws, options.sharpness, lambda each: 1.0 + draws.uniform(each) * options.low_resolution, 1.0
    )

    def soften(rows: "tf.Tensor", sigma: "tf.Tensor", factor: "tf.Tensor") -> "tf.Tensor":
        along_rows, along_columns = (tf.matmul(_coarsening(side, factor), _blurring(side, sigma)) for side in size)
        pictures = tf.reshape(rows, [-1, *size])
        softened = tf.matmul(tf.matmul(along_rows, pictures), along_columns, transpose_b=True)
        return tf.reshape(softened, [-1, size[0] * size[1]])

    return _change(planes, (sigma != 0.0) | (factor != 1.0), soften, sigma, factor)


def _blurring(side: int, sigma: "tf.Tensor") -> "tf.Tensor":
    """Return `[n, side, side]` for deviations `[n, 1]` in pixels: Gaussian weights that sum to 1 in each row."""
    import tensorflow as tf

    places = tf.range(side, dtype=tf.float32)
    distance = (places[:, tf.newaxis] - places) / tf.maximum(sigma, 1e-3)[..., tf.newaxis]
    weights = tf.exp(-0.5 * distance**2)
    return weights / tf.reduce_sum(weights, axis=2, keepdims=True)


def _coarsening(side: int, factor: "tf.Tensor") -> "tf.Tensor":
    """Return `[n, side, side]` for factors `[n, 1]`: nearest pixels of a grid coarser by the factor, then linear."""
    import tensorflow as tf

    last = tf.math.ceil(side / factor) - 1.0
    place = tf.clip_by_value((tf.range(side, dtype=tf.float32) + 0.5) / factor - 0.5, 0.0, last)
    before = tf.floor(place)
    share = (place - before)[..., tf.newaxis]

    def sampled(number: "tf.Tensor") -> "tf.Tensor":
        nearest = tf.floor((tf.minimum(number, last) + 0.5) * factor)
        return tf.one_hot(tf.cast(tf.minimum(nearest, side - 1.0), tf.int32), side)

    return sampled(before) * (1.0 - share) + sampled(before + 1.0) * share


def _sometimes(
    planes: "tf.Tensor",
    draws: Draws,
    probability: float,
    changed: "Callable[[tuple[tf.Tensor, int]], tf.Tensor]",
    unchanged: float,
) -> "tf.Tensor":
    """Return `[planes, 1]`: for each plane the changed value or, more often, the one that changes nothing."""
    import tensorflow as tf

    each = (tf.shape(planes)[0], 1)
    return tf.where(draws.uniform(each) < probability, changed(each), unchanged)


def _change(
    planes: "tf.Tensor", due: "tf.Tensor", how: "Callable[..., tf.Tensor]", *values: "tf.Tensor"
) -> "tf.Tensor":
    import tensorflow as tf

    chosen = tf.where(due[:, 0])
    changed = how(tf.gather_nd(planes, chosen), *(tf.gather_nd(value, chosen) for value in values))
    return tf.tensor_scatter_nd_update(planes, chosen, changed)


def _with_gamma(planes: "tf.Tensor", gamma: "tf.Tensor", sign: "tf.Tensor") -> "tf.Tensor":
    """Raise intensities, or where `sign` is -1 their negative, to a power on the scale of 0..1."""
    import tensorflow as tf

    # The bilinear sum may leave [-1, 1] by rounding, and a negative base has no power. By logarithm and exponential,
    # which are several times faster than tf.pow with an exponent for each row; 0 becomes less than 1e-15.
    positive = tf.clip_by_value((sign * planes + 1.0) / 2.0, 1e-37, 1.0)
    return sign * (2.0 * tf.exp(gamma * tf.math.log(positive)) - 1.0)


def _with_contrast(planes: "tf.Tensor", contrast: "tf.Tensor", brightness: "tf.Tensor") -> "tf.Tensor":
    import tensorflow as tf

    mean = tf.reduce_mean(planes, axis=1, keepdims=True)
    return planes * contrast + (mean * (1.0 - contrast) + brightness)


Mirror = Flips | Literal["auto"]


class Augmentation(BaseModel):
    """How far slices are changed; a range of 0 switches that change off.

    Each change comes with a probability, so that plain slices stay common: interpolation smooths what it moves, and the
    slices that the network is applied to later are not smoothed.

    Attributes:
        geometry: Probability of rotation, scale, stretch and translation, all of them together.
        rotation: Largest angle, degrees, either way.
        scale: Largest relative change of size, either way: 0.2 draws factors from 1 / 1.2 to 1.2.
        stretch: The same for the ratio of the two axes.
        translation: Largest shift, as a share of the side.
        flip_rows: Whether to mirror along the rows in half of the slices. None: where mirrored training slices look
            like those of other patients, see `synthmed.segmentation.augment`; a run's record says what was found.
        flip_columns: The same along the columns.
        elastic: Probability of an elastic deformation, drawn by itself and resampled together with `geometry`.
        displacement: Largest standard deviation of that deformation, as a share of the side.
        sharpness: Probability of each of blur and low resolution.
        blur: Largest standard deviation of Gaussian blur, pixels.
        low_resolution: By how much more than 1 the grid may be coarser on which a slice is drawn and back: 1 goes from
            1 to 2.
        intensity: Probability of each of brightness, contrast, gamma and noise.
        brightness: Largest shift of intensities (whose range is -1 to 1), either way.
        contrast: Largest relative change about the slice's mean, either way.
        gamma: Largest relative change of the exponent, either way.
        gamma_inverted: Share of the changes of gamma that work on inverted intensities, as nnU-Net has it.
        noise: Largest standard deviation of Gaussian noise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    geometry: float = Field(0.5, ge=0, le=1)
    rotation: float = Field(20.0, ge=0, le=180)
    scale: float = Field(0.2, ge=0)
    stretch: float = Field(0.1, ge=0)
    translation: float = Field(0.06, ge=0, le=1)
    flip_rows: bool | None = None
    flip_columns: bool | None = None
    elastic: float = Field(0.2, ge=0, le=1)
    displacement: float = Field(0.03, ge=0)
    sharpness: float = Field(0.15, ge=0, le=1)
    blur: float = Field(1.0, ge=0)
    low_resolution: float = Field(1.0, ge=0)
    intensity: float = Field(0.3, ge=0, le=1)
    brightness: float = Field(0.2, ge=0)
    contrast: float = Field(0.3, ge=0)
    gamma: float = Field(0.4, ge=0)
    gamma_inverted: float = Field(0.25, ge=0, le=1)
    noise: float = Field(0.15, ge=0)


def with_mirror(mirror: Mirror | None, begun: Augmentation | None = None) -> Augmentation | None:
    """Return an augmentation that mirrors slices as told, or None where nothing is told.

    Args:
        mirror: Along what, or "auto" to let the training patients decide; None for what `begun` has.
        begun: What all else is taken from; None for the defaults.
    """
    if mirror is None:
        return begun
    flips = {"flip_rows": mirror in ("rows", "both"), "flip_columns": mirror in ("columns", "both")}
    undecided = dict.fromkeys(flips, None)
    return (begun or Augmentation()).model_copy(update=undecided if mirror == "auto" else flips)


def mirrored(augmentation: Augmentation) -> Flips:
    """Return along what slices are mirrored."""
    if augmentation.flip_rows and augmentation.flip_columns:
        return "both"
    return "rows" if augmentation.flip_rows else "columns" if augmentation.flip_columns else "none"


def augment(
    image: "tf.Tensor", label: "tf.Tensor", *, seed: int, step: "tf.Tensor", options: Augmentation
) -> "tuple[tf.Tensor, tf.Tensor]":
    """Return changed slices and their equally changed labels.

    Args:
        image: float32 `[batch, height, width, channels]` in [-1, 1].
        label: uint8 `[batch, height, width]` of class indices.
        seed: Of the training.
        step: Number of the training step, int64 scalar.
        options: How far.
    """
    draws = Draws(seed, step)
    image, label = move(image, label, draws, options)
    return recolour(image, draws, options), label


LIKE_OTHERS = 1.1
"""How much farther from other patients' slices mirrored ones may be.

Measured: brains mirrored left to right 0.99 to 1.03 (nine draws of 3 to 12 patients), retinas of both eyes 1.06, brains
upside down 1.0 to 1.4, hippocampi, which lean to one side, 1.6 and more along either axis.
"""
GRID = 8
"""Blocks a side whose means are compared; the sides of a slice are multiples of it."""
MOST_ASKED = 512
MOST_COMPARED = 4096


@dataclass(frozen=True)
class Symmetry:
    """How far mirrored slices are from those of other patients, relative to slices as they are.

    Attributes:
        rows: Ratio of the mean distances of slices mirrored along the rows (upside down) and of slices as they are;
            infinity where it cannot be told.
        columns: The same, mirrored along the columns.
    """

    rows: float
    columns: float


def symmetry(store: Store, cases: list[CaseRecord]) -> Symmetry:
    """Compare each slice, mirrored and as it is, with the nearest slice of another patient.

    Args:
        store: Where the slices are.
        cases: Training cases; those of fewer than two patients tell nothing.
    """
    check_leak(all(case.split == "train" for case in cases), "mirroring may be fitted to training patients alone")
    indices = store.training_indices(cases)
    # Evenly spaced, so that each patient has a share, and the same slices answer every time.
    indices = indices[np.linspace(0, len(indices) - 1, min(len(indices), MOST_COMPARED)).astype(int)]
    names = {index: case.patient for case in cases for index in range(case.first, case.first + case.slices)}
    patients = np.array([names[index] for index in indices])
    if len(set(patients)) < 2:
        return Symmetry(np.inf, np.inf)
    coarse = _block_means(store, indices)
    asked = np.linspace(0, len(indices) - 1, min(len(indices), MOST_ASKED)).astype(int)
    same = patients[asked][:, None] == patients[None]

    def nearest(slices: np.ndarray) -> np.ndarray:
        # Each asked slice's distance to the nearest of those that are not of its own patient.
        distances = cdist(slices.reshape(len(slices), -1), coarse.reshape(len(coarse), -1))
        return np.where(same, np.inf, distances).min(axis=1)

    plain = nearest(coarse[asked]).mean()
    if not plain:
        return Symmetry(np.inf, np.inf)
    rows, columns = (float(nearest(np.flip(coarse[asked], axis)).mean() / plain) for axis in (1, 2))
    return Symmetry(rows, columns)


def decided(augmentation: Augmentation, store: Store, cases: list[CaseRecord]) -> Augmentation:
    """Return the augmentation with what was left open decided by training cases: mirroring along rows and columns."""
    asked = [name for name in ("flip_rows", "flip_columns") if getattr(augmentation, name) is None]
    if not asked:
        return augmentation
    found = symmetry(store, cases)
    likely = {"flip_rows": found.rows <= LIKE_OTHERS, "flip_columns": found.columns <= LIKE_OTHERS}
    return augmentation.model_copy(update={name: likely[name] for name in asked})


def _block_means(store: Store, indices: np.ndarray) -> np.ndarray:
    """Return `[n, GRID, GRID, channels]`."""
    height, width = store.size
    means = [
        store.images(part).reshape(len(part), GRID, height // GRID, GRID, width // GRID, -1).mean(axis=(2, 4))
        for part in np.array_split(indices, max(1, len(indices) // 64))
    ]
    return np.concatenate(means)
