"""Classical augmentation of slices inside tf.data, the same for real and synthetic ones.

Every random number follows from (seed, step), so that a resumed training sees what an undisturbed one would have seen.
"""

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from synthmed.segmentation.draws import Draws
from synthmed.segmentation.postprocess import Flips
from synthmed.segmentation.recolour import recolour
from synthmed.segmentation.warp import move

if TYPE_CHECKING:
    import tensorflow as tf


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
            like those of other patients, see `synthmed.segmentation.symmetry`; a run's record says what was found.
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
