import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, rotate

from synthmed.data.phantom import draw_case
from synthmed.evaluation.features import OfflineFeatures, RememberedFeatures
from synthmed.evaluation.metrics import frechet_distance, kid_estimate
from synthmed.evaluation.resampling import Units


def phantom(cases):
    """Slices of phantom patients, float32 `[n, 32, 32, 2]` in [-1, 1]."""
    found = []
    for case in cases:
        images = np.moveaxis(draw_case(case, size=32, channels=2, seed=0)[0], 2, 0).astype(np.float32)[2:-2]
        found.append((images / np.quantile(images, 0.995, axis=(0, 1, 2)) * 2 - 1).clip(-1, 1))
    return np.concatenate(found).astype(np.float32)


@pytest.fixture(scope="module")
def measured():
    """Return a function from slices to their Fréchet and kernel distances to held-out ones, and further slices."""
    space, real = OfflineFeatures(), phantom(range(8, 16))
    space.fit(phantom(range(8)))
    features, units = space(real), Units.of_patients(np.arange(len(real)))

    def measure(images):
        found = space(images.astype(np.float32))
        drawn = Units.of_cases(len(found), seed=0)
        return (
            frechet_distance(found, features),
            kid_estimate(found, features, drawn_units=drawn, real_units=units).value,
        )

    return measure, phantom(range(16, 24))


def blurred(images, grade):
    return gaussian_filter(images, (0, grade, grade, 0))


def noisy(images, grade):
    return images + grade * np.random.default_rng(0).standard_normal(images.shape)


def scrambled(images, grade):
    """The power spectrum stays, and what is made of it goes: texture without edges."""
    noise = np.fft.rfft2(np.random.default_rng(0).standard_normal(images.shape), axes=(1, 2))
    spectrum = np.abs(np.fft.rfft2(images, axes=(1, 2))) * noise / np.abs(noise)
    return (1 - grade) * images + grade * np.fft.irfft2(spectrum, axes=(1, 2), s=images.shape[1:3])


def turned(images, grade):
    return rotate(images, grade, axes=(1, 2), reshape=False, order=1, mode="nearest")


def mixed(images, grade):
    """The second channel is of another patient in a share of the slices."""
    images, count = images.copy(), int(grade * len(images))
    images[:count, ..., 1] = np.roll(images[..., 1], 31, axis=0)[:count]
    return images


def shrunken(images, grade):
    """Anatomy of a wrong size: every slice is squeezed from left to right."""
    width = images.shape[2]
    taken = (np.arange(width) - width / 2) * grade + width / 2
    return images[:, :, taken.round().astype(int).clip(0, width - 1)]


@pytest.mark.parametrize(
    ("corrupt", "grades"),
    [
        (blurred, (0.45, 0.6, 1.0, 2.0)),
        (noisy, (0.05, 0.1, 0.2, 0.4)),
        (scrambled, (0.05, 0.15, 0.4, 1.0)),
        (turned, (5, 20, 45)),
        (mixed, (0.5, 1.0)),
        (shrunken, (1.15, 1.3, 1.6)),
    ],
)
def test_the_worse_the_farther(measured, corrupt, grades):
    """Blur, noise, wrong texture or wrong anatomy would not be seen, and the better generator not be told."""
    measure, images = measured
    found = np.array([measure(images), *(measure(corrupt(images, grade)) for grade in grades)])
    assert (np.diff(found, axis=0) > 0).all(), found


def test_collapse_is_farther_than_real_slices(measured):
    """A generator that draws a few images only would look as good as real patients."""
    measure, images = measured
    assert measure(np.repeat(images[::16], 16, axis=0))[0] > 1.5 * measure(images)[0]


def test_features_do_not_depend_on_blocks_and_follow_the_training_slices():
    """The same slice would have two vectors, or figures of two stores would be compared."""
    images = phantom(range(12))
    space, again, other = OfflineFeatures(), OfflineFeatures(), OfflineFeatures()
    with pytest.raises(RuntimeError, match="fit"):
        space(images)
    for one, training in ((space, images), (again, images), (other, images[:40])):
        one.fit(training)
    assert space.dimension == space(images[:2]).shape[1] == 64
    assert space(images)[70:72] == pytest.approx(space(images[70:72]), abs=1e-3)
    assert space.identity == again.identity != other.identity
    assert len(space.identity) == 64


@pytest.mark.parametrize("shape", [(12, 16, 16, 1), (12, 17, 40, 3), (70, 9, 5, 2)])
def test_any_size_and_number_of_slices(shape):
    """A user with small or oblong slices or few of them would get no figures."""
    images = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    space = OfflineFeatures()
    space.fit(images)
    assert space(images).shape == (shape[0], space.dimension) and space.dimension <= 64
    assert np.isfinite(space(images)).all()


def test_constant_training_slices_give_finite_features():
    """An evaluation would end in not-a-numbers where a channel is empty."""
    space = OfflineFeatures()
    space.fit(np.full((20, 16, 16, 1), -1.0, np.float32))
    found = space(np.random.default_rng(0).uniform(-1, 1, (5, 16, 16, 1)).astype(np.float32))
    assert np.isfinite(found).all() and np.abs(found).max() > 1


class Counting(OfflineFeatures):
    """Counts the slices that vectors are made of."""

    def __init__(self):
        super().__init__()
        self.made = 0

    def __call__(self, images):
        self.made += len(images)
        return super().__call__(images)


def noise(seed):
    return np.random.default_rng(seed).uniform(-1, 1, (20, 16, 16, 1)).astype(np.float32)


def test_a_vector_is_made_once_and_is_the_spaces_own():
    """A report with a large network would take several times as long, or show other figures than the network's."""
    own, counting = OfflineFeatures(), Counting()
    space = RememberedFeatures(counting)
    for one in (own, space):
        one.fit(noise(0))
    assert (space.name, space.identity, space.dimension) == (own.name, own.identity, own.dimension)
    counting.made = 0
    mixed = np.concatenate([noise(1)[::-1], noise(1), noise(2)])
    assert np.allclose(space(mixed), own(mixed), atol=1e-6)
    assert np.array_equal(space(noise(1)), space(mixed)[20:40])
    assert counting.made == 40


def test_what_was_made_before_a_fit_is_forgotten():
    """Vectors of two feature spaces would be compared."""
    space = RememberedFeatures(OfflineFeatures())
    space.fit(noise(0))
    before = space(noise(1))
    space.fit(noise(3))
    own = OfflineFeatures()
    own.fit(noise(3))
    assert np.allclose(space(noise(1)), own(noise(1)), atol=1e-6) and not np.allclose(space(noise(1)), before)
