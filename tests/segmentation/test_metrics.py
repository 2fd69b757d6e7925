"""Dice, HD95 and surface Dice against brute force, SimpleITK and surface-distance, and what they say of empty masks."""

import math

import numpy as np
import pytest
import SimpleITK
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from synthmed.segmentation.metrics import dice, relative_volume_difference, surface_distances

shapes = arrays.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=7)
pairs = shapes.flatmap(lambda shape: st.tuples(*(arrays.arrays(np.bool_, shape) for _ in range(2))))
sides = st.lists(st.floats(0.3, 4.0), min_size=3, max_size=3)


def hausdorff_95(predicted, reference, spacing):
    """HD95 as the table of scores has it."""
    return surface_distances(predicted, reference, spacing).hausdorff()


def surface_dice(predicted, reference, spacing, tolerance):
    """Surface Dice as the table of scores has it."""
    return surface_distances(predicted, reference, spacing).surface_dice(tolerance)


def brute_force_distances(predicted, reference, spacing):
    """Distances of each surface element to the nearest of the other mask, both ways, found neighbour by neighbour."""

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
    return distances.min(1), distances.min(0)


@settings(max_examples=60, deadline=None)
@given(masks=pairs, spacing=sides)
def test_hd95_matches_brute_force(masks, spacing):
    """A user would publish wrong distances, above all with anisotropic voxels or single slices."""
    predicted, reference = masks
    assume(predicted.any() and reference.any() and max(predicted.shape) > 1)
    spacing = spacing[: predicted.ndim]
    there, back = brute_force_distances(predicted, reference, spacing)
    expected = max(np.percentile(there, 95), np.percentile(back, 95))
    np.testing.assert_allclose(hausdorff_95(predicted, reference, spacing), expected, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(masks=pairs, spacing=sides, tolerance=st.floats(0, 5))
def test_surface_dice_matches_brute_force(masks, spacing, tolerance):
    """A user would publish a share of the surface that nobody can count again."""
    predicted, reference = masks
    assume(predicted.any() and reference.any() and max(predicted.shape) > 1)
    spacing = spacing[: predicted.ndim]
    distances = np.concatenate(brute_force_distances(predicted, reference, spacing))
    assume(np.abs(distances - tolerance).min() > 1e-4)
    found = surface_dice(predicted, reference, spacing, tolerance)
    assert found == pytest.approx(np.mean(distances <= tolerance))


@pytest.mark.filterwarnings("ignore:Please import")
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 1.0, 2.5)])
@pytest.mark.parametrize("tolerance", [0.5, 1.0, 2.0])
def test_surface_dice_is_near_that_of_surface_distance(spacing, tolerance):
    """A user's figures could not be set beside those of papers, which weight surface elements by their area."""
    surface_distance = pytest.importorskip("surface_distance")
    grid = np.stack(np.meshgrid(*(np.arange(40) * side for side in spacing), indexing="ij"), -1)
    middle = 20 * np.asarray(spacing)
    ball = np.linalg.norm(grid - middle, axis=-1) < 11
    other = np.linalg.norm((grid - middle - 0.7) / (1.0, 1.1, 0.9), axis=-1) < 11.5
    theirs = surface_distance.compute_surface_distances(ball, other, spacing)
    expected = surface_distance.compute_surface_dice_at_tolerance(theirs, tolerance)
    # Their elements lie between voxels, ours at voxels: ours is never more lenient, and as good as theirs from two
    # voxels on.
    found = surface_dice(ball, other, spacing, tolerance)
    assert expected - (0.2 if tolerance < 2 else 0.05) < found <= expected
    assert hausdorff_95(ball, other, spacing) == pytest.approx(
        surface_distance.compute_robust_hausdorff(theirs, 95), abs=max(spacing)
    )


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
        assert surface_dice(*pair, (1, 1), 100.0) == 0
    assert (dice(full, full), hausdorff_95(full, full, (1, 1))) == (1, 0)
    assert math.isnan(surface_dice(empty, empty, (1, 1), 1.0))
    assert surface_dice(full, full, (1, 1), 0.0) == 1
    assert math.isnan(relative_volume_difference(3, 0))
    assert (relative_volume_difference(0, 4), relative_volume_difference(6, 4)) == (-1, 0.5)


@pytest.mark.parametrize("side", [0.1, 0.3, 0.7])
def test_a_voxel_away_is_within_a_voxel(side):
    """A user would lose the whole surface because a square root rounds upwards."""
    mask = np.zeros((9, 9, 9), bool)
    mask[3:6, 3:6, 3:6] = True
    assert surface_dice(mask, np.roll(mask, 1, 0), (side, side, side), side) == 1
