import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from synthmed.evaluation.distances import (
    BLOCK,
    blocks,
    coarse_vectors,
    nearest_distances,
    neighbour_radii,
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
