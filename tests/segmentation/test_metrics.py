"""Dice and HD95 against brute force and SimpleITK, and what they say of empty masks."""

import math

import numpy as np
import pytest
import SimpleITK
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from synthmed.segmentation.metrics import dice, hausdorff_95

shapes = arrays.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=7)
pairs = shapes.flatmap(lambda shape: st.tuples(*(arrays.arrays(np.bool_, shape) for _ in range(2))))
sides = st.lists(st.floats(0.3, 4.0), min_size=3, max_size=3)


def brute_force_hd95(predicted, reference, spacing):
    """Distances between all pairs of surface elements, found neighbour by neighbour."""

    def surface(mask):
        points = []
        for point in np.argwhere(mask):
            for axis in range(mask.ndim):
                if mask.shape[axis] == 1:
                    continue
                for step in (-1, 1):
                    beside = point.copy()
                    beside[axis] += step
                    inside = 0 <= beside[axis] < mask.shape[axis]
                    if not inside or not mask[tuple(beside)]:
                        points.append(tuple(point))
        return np.array(sorted(set(points))) * np.asarray(spacing)

    a, b = surface(predicted), surface(reference)
    distances = np.linalg.norm(a[:, None] - b[None], axis=-1)
    return max(np.percentile(distances.min(1), 95), np.percentile(distances.min(0), 95))


@settings(max_examples=60, deadline=None)
@given(masks=pairs, spacing=sides)
def test_hd95_matches_brute_force(masks, spacing):
    """A user would publish wrong distances, above all with anisotropic voxels or single slices."""
    predicted, reference = masks
    assume(predicted.any() and reference.any() and max(predicted.shape) > 1)
    spacing = spacing[: predicted.ndim]
    expected = brute_force_hd95(predicted, reference, spacing)
    np.testing.assert_allclose(hausdorff_95(predicted, reference, spacing), expected, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(masks=pairs)
def test_dice_matches_simpleitk(masks):
    """A user's Dice would not be comparable with anybody else's."""
    predicted, reference = masks
    assume(predicted.any() or reference.any())
    measure = SimpleITK.LabelOverlapMeasuresImageFilter()
    measure.Execute(*(SimpleITK.GetImageFromArray(mask.astype(np.uint8)) for mask in (reference, predicted)))
    np.testing.assert_allclose(dice(predicted, reference), measure.GetDiceCoefficient())


@settings(max_examples=30, deadline=None)
@given(masks=pairs, spacing=sides)
def test_both_measures_are_symmetric(masks, spacing):
    """A user who swaps prediction and reference would get another score."""
    predicted, reference = masks
    spacing = spacing[: predicted.ndim]
    np.testing.assert_equal(dice(predicted, reference), dice(reference, predicted))
    np.testing.assert_equal(hausdorff_95(predicted, reference, spacing), hausdorff_95(reference, predicted, spacing))


def test_a_shift_by_two_voxels_is_two_voxels_away():
    """A user would read distances in voxels where millimetres are promised."""
    mask = np.zeros((20, 20, 20), bool)
    mask[5:10, 5:10, 5:10] = True
    for axis, spacing in enumerate((0.5, 1.0, 3.0)):
        shifted = np.roll(mask, 2, axis)
        assert hausdorff_95(mask, shifted, (0.5, 1.0, 3.0)) == pytest.approx(2 * spacing)


def test_empty_masks_follow_metrics_reloaded():
    """A user's mean would be lifted by cases where there was nothing to find, or spared the missed ones."""
    empty, full = np.zeros((3, 4), bool), np.ones((3, 4), bool)
    assert math.isnan(dice(empty, empty))
    assert math.isnan(hausdorff_95(empty, empty, (1, 1)))
    for pair in ((empty, full), (full, empty)):
        assert dice(*pair) == 0
        assert hausdorff_95(*pair, (1, 1)) == 5
    assert (dice(full, full), hausdorff_95(full, full, (1, 1))) == (1, 0)
