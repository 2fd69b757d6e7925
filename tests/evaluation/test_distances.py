import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance

from synthmed.evaluation import distances as distance
from synthmed.evaluation.distances import (
    BLOCK,
    blocks,
    coarse_vectors,
    joint_channels,
    nearest_distances,
    neighbour_radii,
    slice_distance,
    sliced_wasserstein,
    squared_distances,
)

RANDOM = np.random.default_rng(0)


@settings(max_examples=20, deadline=None)
@given(height=st.integers(4, 40), width=st.integers(4, 40))
def test_coarse_vectors_keep_the_mean_of_equal_cells(height, width):
    """A user would compare pictures that were shifted or scaled on the way."""
    slices = RANDOM.standard_normal((2, height, width, 3)).astype(np.float32)
    vectors = coarse_vectors(slices).reshape(2, min(16, height), min(16, width), 3)
    if height % 16 == 0 and width % 16 == 0:
        cells = slices.reshape(2, 16, height // 16, 16, width // 16, 3).mean(axis=(2, 4))
        np.testing.assert_allclose(vectors, cells, atol=1e-5)
    np.testing.assert_allclose(coarse_vectors(np.ones_like(slices)), 1.0, atol=1e-6)


def test_nearest_distances_equal_the_full_matrix():
    """A user would miss copies of training images."""
    samples, references = RANDOM.standard_normal((20, 6)), RANDOM.standard_normal((50, 6))
    expected = cdist(samples, references).min(axis=1) / np.sqrt(6)
    np.testing.assert_allclose(nearest_distances(samples, references), expected, rtol=1e-6)


def test_neighbours_in_blocks_are_those_of_a_matrix():
    """Neighbours across blocks would be lost."""
    points = RANDOM.standard_normal((BLOCK + 40, 6)).astype(np.float32)
    expected = np.sort(cdist(points, points), axis=1)[:, [1, 4]].T ** 2
    np.testing.assert_allclose(neighbour_radii(points, (1, 4)), expected, rtol=1e-3)
    assert (np.diag(squared_distances(points, points, slack=True)) == 0).all()
    assert [points[block].shape[0] for block in blocks(len(points))] == [BLOCK, 40]


NORMAL = np.random.default_rng(0)


def slices(seed, count=96, shift=0.0):
    random = np.random.default_rng(seed)
    smooth = gaussian_filter(random.standard_normal((count, 64, 48, 2)), (0, 4, 4, 0)) * 10
    return (smooth + 0.3 * random.standard_normal((count, 64, 48, 2)) + shift).astype(np.float32)


def test_same_distribution_is_nearer_than_a_changed_one():
    """A user would keep a checkpoint at random."""
    reference = slices(0)
    floor = slice_distance(reference, slices(1))["mean"]
    blurred = gaussian_filter(slices(1), (0, 1, 1, 0))
    for changed in (slices(1, shift=1.0), blurred, np.repeat(slices(1, 1), 96, axis=0)):
        assert slice_distance(reference, changed.astype(np.float32))["mean"] > 2 * floor


def test_blur_shows_at_the_fine_level_and_a_shift_at_the_coarse_one():
    """A user would not see from the log what is wrong with the images."""
    reference = slices(0)
    blurred = slice_distance(reference, gaussian_filter(slices(1), (0, 1, 1, 0)).astype(np.float32))
    shifted = slice_distance(reference, slices(1, shift=1.0))
    assert list(blurred) == ["mean", "48", "24"]
    assert blurred["48"] > 5 * blurred["24"]
    assert shifted["24"] > 5 * shifted["48"]


@given(scale=st.floats(0.01, 100))
@settings(max_examples=5, deadline=None)
def test_units_of_a_plane_do_not_matter(scale):
    """A user's masks would count for nothing beside images, or the other way round."""
    plain = slice_distance(slices(0, 16), slices(1, 16))["mean"]
    scaled = slice_distance(slices(0, 16) * np.float32(scale), slices(1, 16) * np.float32(scale))["mean"]
    assert scaled == pytest.approx(plain, rel=0.02)


def test_one_direction_is_scipys_wasserstein_distance(monkeypatch):
    """A user would compare figures that are no Wasserstein distance."""
    monkeypatch.setattr(distance, "PATCH", 1)
    monkeypatch.setattr(distance, "DIRECTIONS", 1)
    random = np.random.default_rng(0)
    first = random.standard_normal((200, 16, 16, 1)).astype(np.float32)
    second = first * 2 + 1
    found = slice_distance(first, second)["mean"]
    mean, deviation = first.mean(), first.std()
    expected = wasserstein_distance((first.ravel() - mean) / deviation, (second.ravel() - mean) / deviation)
    assert found == pytest.approx(expected, rel=0.05)


def test_joint_channels_hold_image_and_one_hot_mask():
    """A user would choose a generator whose images do not follow their masks."""
    labels = np.array([[[0, 1], [2, 0]]])
    slices = joint_channels(np.full((1, 2, 2, 1), 7.0, np.float32), labels, 3)
    np.testing.assert_array_equal(slices[0, 0, 1], [7, 0, 1, 0])
    np.testing.assert_array_equal(joint_channels(None, labels, 3)[0, 1, 0], [0, 0, 1])


def test_sliced_wasserstein_equals_scipy_in_one_dimension():
    """A user would read a distance that is none."""
    first, second = NORMAL.standard_normal((5000, 1)), NORMAL.normal(0.7, 1.5, (5000, 1))
    expected = wasserstein_distance(first[:, 0], second[:, 0])
    assert sliced_wasserstein(first, second) == pytest.approx(expected, rel=0.02)


def test_sliced_wasserstein_is_small_for_one_distribution_and_grows_with_a_shift():
    """A user would not see that a generator missed the intensities."""
    first, second = NORMAL.standard_normal((2, 800, 20))
    same = sliced_wasserstein(first, second)
    assert same < 0.1
    assert sliced_wasserstein(first, second + 1.0) > 5 * same
