import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import cdist

from synthmed.evaluation.distances import coarse_vectors, nearest_distances, sliced_wasserstein

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


def test_sliced_wasserstein_equals_scipy_in_one_dimension():
    """A user would read a distance that is none."""
    first, second = RANDOM.standard_normal((5000, 1)), RANDOM.normal(0.7, 1.5, (5000, 1))
    expected = stats.wasserstein_distance(first[:, 0], second[:, 0])
    assert sliced_wasserstein(first, second) == pytest.approx(expected, rel=0.02)


def test_sliced_wasserstein_is_small_for_one_distribution_and_grows_with_a_shift():
    """A user would not see that a generator missed the intensities."""
    first, second = RANDOM.standard_normal((2, 800, 20))
    same = sliced_wasserstein(first, second)
    assert same < 0.1
    assert sliced_wasserstein(first, second + 1.0) > 5 * same


def test_nearest_distances_equal_the_full_matrix():
    """A user would miss copies of training images."""
    samples, references = RANDOM.standard_normal((20, 6)), RANDOM.standard_normal((50, 6))
    expected = cdist(samples, references).min(axis=1) / np.sqrt(6)
    np.testing.assert_allclose(nearest_distances(samples, references), expected, rtol=1e-6)
