"""Figures on plain arrays, each a float: overlap of masks, and how sets of features or images compare."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from synthmed.evaluation.metrics import frechet_distance, kid, ms_ssim, precision_recall
from synthmed.segmentation import metrics as masks

__all__ = ["dice", "frechet_distance", "hd95", "kid", "ms_ssim", "precision_recall", "surface_dice"]


def dice(predicted: ArrayLike, reference: ArrayLike) -> float:
    """Return the Dice similarity of two masks of one shape, in 0..1; NaN where both are empty.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> sm.metrics.dice([0, 1, 1], [0, 0, 1])
        0.6666666666666666
    """
    return float(masks.dice(*_two(predicted, reference)))


def hd95(predicted: ArrayLike, reference: ArrayLike, spacing: Sequence[float] | None = None) -> float:
    """Return the larger 95th percentile of the distances between two masks' surfaces, in the unit of the spacing.

    NaN where both masks are empty, the diagonal of the image where one is.

    Args:
        predicted: A mask.
        reference: A mask of the same shape.
        spacing: Distance between neighbours along each axis; 1 by default.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> sm.metrics.hd95([[0, 1, 0, 0]], [[0, 0, 0, 1]], spacing=(1.0, 0.5))
        1.0
    """
    first, second = _two(predicted, reference)
    return masks.surface_distances(first, second, spacing or (1.0,) * first.ndim).hausdorff()


def surface_dice(
    predicted: ArrayLike, reference: ArrayLike, tolerance: float, spacing: Sequence[float] | None = None
) -> float:
    """Return the share of both surfaces that lies at most `tolerance` from the other one, in 0..1.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> sm.metrics.surface_dice([[0, 1, 0, 0]], [[0, 0, 1, 0]], tolerance=1.0)
        1.0
    """
    first, second = _two(predicted, reference)
    return masks.surface_distances(first, second, spacing or (1.0,) * first.ndim).surface_dice(tolerance)


def _two(predicted: ArrayLike, reference: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.asarray(predicted).astype(bool), np.asarray(reference).astype(bool)
    if first.shape != second.shape:
        raise ValueError(f"masks have the shapes {first.shape} and {second.shape}: give two of one shape")
    return first, second
