"""How well one mask matches another: overlap and boundary distance.

Empty masks are handled as Metrics Reloaded recommends (Maier-Hein et al. 2024, Nature Methods 21, section on missing
values): nothing to find and nothing found is no evidence (NaN, to be left out of means and counted); one empty mask
beside a filled one is the worst possible value, which for a distance is the diagonal of the image.
"""

from collections.abc import Sequence

import numpy as np


def dice(predicted: np.ndarray, reference: np.ndarray) -> float:
    """Return the Dice similarity of two Boolean masks of one shape, in 0..1.

    NaN where both are empty, 0 where one is.
    """
    volume = np.count_nonzero(predicted) + np.count_nonzero(reference)
    if volume == 0:
        return float("nan")
    return 2.0 * np.count_nonzero(predicted & reference) / volume


def hausdorff_95(predicted: np.ndarray, reference: np.ndarray, spacing: Sequence[float]) -> float:
    """Return the 95th percentile of the Hausdorff distance of two Boolean masks, in the unit of `spacing`.

    The larger of the two directed percentiles, between the centres of surface elements: pixels or voxels of the mask
    that share a face with the outside. Axes of length 1 are left out, so that a slice is measured as a slice.

    Args:
        predicted: Boolean mask.
        reference: Boolean mask of the same shape.
        spacing: Distance between the centres of neighbours along each axis.

    Returns:
        The distance; NaN where both masks are empty, the image's diagonal where one is.
    """
    from scipy import ndimage

    if not predicted.any() and not reference.any():
        return float("nan")
    sides = np.asarray(spacing, float)
    if not predicted.any() or not reference.any():
        return float(np.linalg.norm(np.asarray(predicted.shape) * sides))
    kept = [axis for axis, length in enumerate(predicted.shape) if length > 1]
    if not kept:
        return 0.0
    # What is outside the common bounding box is empty in both masks and cannot change a distance between them.
    box = ndimage.find_objects((predicted | reference).astype(np.uint8))[0]
    predicted_surface, reference_surface = (
        _surface(mask[box].reshape([mask[box].shape[axis] for axis in kept])) for mask in (predicted, reference)
    )
    sides = sides[kept]
    to_reference = ndimage.distance_transform_edt(~reference_surface, sampling=sides)[predicted_surface]
    to_predicted = ndimage.distance_transform_edt(~predicted_surface, sampling=sides)[reference_surface]
    return float(max(np.percentile(to_reference, 95), np.percentile(to_predicted, 95)))


def _surface(mask: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    # Faces towards the outside of the image count as surface: the eroded mask is 0 beyond the border.
    return mask & ~ndimage.binary_erosion(mask, border_value=0)
