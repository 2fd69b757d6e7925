import numpy as np

from synthmed.evaluation.features import OfflineFeatures, RememberedFeatures


class Counting(OfflineFeatures):
    """Counts the slices that vectors are made of."""

    def __init__(self):
        super().__init__()
        self.made = 0

    def __call__(self, images):
        self.made += len(images)
        return super().__call__(images)


def slices(seed):
    return np.random.default_rng(seed).uniform(-1, 1, (20, 16, 16, 1)).astype(np.float32)


def test_a_vector_is_made_once_and_is_the_spaces_own():
    """A report with a large network would take several times as long, or show other figures than the network's."""
    own, counting = OfflineFeatures(), Counting()
    space = RememberedFeatures(counting)
    for one in (own, space):
        one.fit(slices(0))
    assert (space.name, space.identity, space.dimension) == (own.name, own.identity, own.dimension)
    counting.made = 0
    mixed = np.concatenate([slices(1)[::-1], slices(1), slices(2)])
    assert np.allclose(space(mixed), own(mixed), atol=1e-6)
    assert np.array_equal(space(slices(1)), space(mixed)[20:40])
    assert counting.made == 40


def test_what_was_made_before_a_fit_is_forgotten():
    """Vectors of two feature spaces would be compared."""
    space = RememberedFeatures(OfflineFeatures())
    space.fit(slices(0))
    before = space(slices(1))
    space.fit(slices(3))
    own = OfflineFeatures()
    own.fit(slices(3))
    assert np.allclose(space(slices(1)), own(slices(1)), atol=1e-6) and not np.allclose(space(slices(1)), before)
