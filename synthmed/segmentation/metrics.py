"""How well one mask matches another: overlap, distance of boundaries, volume.

Empty masks are handled as Metrics Reloaded recommends (Maier-Hein et al. 2024, Nature Methods 21, section on missing
values): nothing to find and nothing found is no evidence (NaN, to be left out of means and counted); one empty mask
beside a filled one is the worst possible value, which for a distance is the diagonal of the image.

The surface of a mask is made of elements: pixels or voxels that share a face with the outside, at their centres, as in
the reference implementation of Metrics Reloaded and in MONAI (which needs PyTorch; SimpleITK has no surface Dice).
DeepMind's surface-distance puts elements between voxels and weights them by area, which is more lenient at tolerances
of about a voxel; it has had one release and imports what SciPy 2 removes. The tests compare with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances from each surface element of one mask to the nearest of the other, in the unit of the spacing.

    Attributes:
        predicted: Of the predicted surface's elements.
        reference: Of the reference surface's elements.
        diagonal: Of the image.
    """

    predicted: np.ndarray
    reference: np.ndarray
    diagonal: float

    def hausdorff(self, percentile: float = 95.0) -> float:
        """Return the larger of the two directed percentiles; NaN without any surface, the diagonal without one."""
        if not len(self.predicted) and not len(self.reference):
            return float("nan")
        if not len(self.predicted) or not len(self.reference):
            return self.diagonal
        return float(max(np.percentile(each, percentile) for each in (self.predicted, self.reference)))

    def surface_dice(self, tolerance: float) -> float:
        """Return the share of both surfaces that lies at most `tolerance` from the other one, in 0..1.

        The normalised surface distance of Nikolov et al. 2018 (arXiv:1809.04430), with elements counted. NaN without
        any surface, 0 without one of them.
        """
        count = len(self.predicted) + len(self.reference)
        if not count:
            return float("nan")
        # Distances are sums of squares in floating point: a voxel away must not be more than a voxel by rounding.
        limit = tolerance * (1 + 1e-6) + 1e-9
        return float(sum(np.count_nonzero(each <= limit) for each in (self.predicted, self.reference)) / count)


def dice(predicted: np.ndarray, reference: np.ndarray) -> float:
    """Return the Dice similarity of two Boolean masks of one shape, in 0..1.

    NaN where both are empty, 0 where one is.
    """
    volume = np.count_nonzero(predicted) + np.count_nonzero(reference)
    if volume == 0:
        return float("nan")
    return 2.0 * np.count_nonzero(predicted & reference) / volume


def relative_volume_difference(predicted: int, reference: int) -> float:
    """Return how much larger the predicted volume is, as a share of the reference's: -1 where nothing is predicted.

    NaN without a reference, to which nothing can be related.
    """
    return (predicted - reference) / reference if reference else float("nan")


def surface_distances(predicted: np.ndarray, reference: np.ndarray, spacing: Sequence[float]) -> SurfaceDistances:
    """Return the distances between the surfaces of two Boolean masks; those to an empty mask are infinite.

    Axes of length 1 are left out, so that a slice is measured as a slice.

    Args:
        predicted: Boolean mask.
        reference: Boolean mask of the same shape.
        spacing: Distance between the centres of neighbours along each axis.
    """
    from scipy import ndimage

    sides = np.asarray(spacing, float)
    diagonal = float(np.linalg.norm(np.asarray(predicted.shape) * sides))
    kept = [axis for axis, length in enumerate(predicted.shape) if length > 1]
    if not predicted.any() and not reference.any():
        return SurfaceDistances(np.empty(0), np.empty(0), diagonal)
    if not kept:
        return SurfaceDistances(np.zeros(np.count_nonzero(predicted)), np.zeros(np.count_nonzero(reference)), diagonal)
    # What is outside the common bounding box is empty in both masks and cannot change a distance between them.
    box = ndimage.find_objects((predicted | reference).astype(np.uint8))[0]
    mine, theirs = (
        _surface(mask[box].reshape([mask[box].shape[axis] for axis in kept])) for mask in (predicted, reference)
    )
    return SurfaceDistances(_to(theirs, sides[kept])[mine], _to(mine, sides[kept])[theirs], diagonal)


def _to(surface: np.ndarray, sides: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    if not surface.any():
        return np.full(surface.shape, np.inf)
    return ndimage.distance_transform_edt(~surface, sampling=sides)


def _surface(mask: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    # Faces towards the outside of the image count as surface: the eroded mask is 0 beyond the border.
    return mask & ~ndimage.binary_erosion(mask, border_value=0)
