"""Fréchet and kernel distances, precision, recall, density and coverage beside formulas written out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist

from synthmed.errors import UserError
from synthmed.evaluation.metrics import (
    SCALE_WEIGHTS,
    density_coverage,
    frechet_distance,
    frechet_estimate,
    kid,
    kid_estimate,
    manifold_estimates,
    ms_ssim,
    ms_ssim_estimate,
    precision_recall,
    scales_for,
)
from synthmed.evaluation.resampling import Units


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def slices(seed, count=40, size=(32, 32), channels=1):
    rough = np.random.default_rng(seed).standard_normal((count, *size, channels))
    return (1.5 * gaussian_filter(rough, (0, 1.5, 1.5, 0))).astype(np.float32).clip(-1, 1)


def cases(images):
    return Units.of_cases(len(images), seed=0)


def units(drawn, real):
    return {"drawn_units": Units.of_cases(len(drawn), seed=0), "real_units": Units.of_patients(np.arange(len(real)))}


@settings(deadline=None, max_examples=15)
@given(st.integers(3, 60), st.integers(3, 60), st.integers(1, 12), st.integers(0, 99))
def test_frechet_distance_is_the_formula_with_a_matrix_root(count, other, dimension, seed):
    """Figures would not be those of the literature; fewer slices than features included."""
    first = normal(seed, count, dimension).astype(float)
    second = 1 + 2 * normal(seed + 1, other, dimension).astype(float)
    covariances = [np.atleast_2d(np.cov(part, rowvar=False)) for part in (first, second)]
    root = sqrtm(covariances[0] @ covariances[1] + 0j).real
    expected = np.sum((first.mean(0) - second.mean(0)) ** 2) + np.trace(covariances[0] + covariances[1] - 2 * root)
    # The reference takes the root of a singular matrix where there are few samples: it is the less exact one.
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-4, abs=1e-3)


def test_frechet_distance_of_known_gaussians():
    """The distance would have another scale than the one that is published."""
    mean, deviation = 3.0, 2.0
    found = frechet_distance(normal(0, 20000, 2), mean + deviation * normal(1, 20000, 2))
    assert found == pytest.approx(2 * (mean**2 + (deviation - 1) ** 2), rel=0.02)
    assert frechet_distance(normal(0, 50, 3), normal(0, 50, 3)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("count", "dimension"), [(40, 4), (12, 30), (30, 400)])
def test_frechet_interval_holds_the_value_and_resamples_agree_with_repeated_slices(count, dimension):
    """A reader would be given an interval of another figure."""
    drawn, real = normal(0, count, dimension), normal(1, count + 3, dimension)
    found = frechet_estimate(drawn, real, **units(drawn, real))
    assert found.value == frechet_distance(drawn, real)
    assert found.low < found.value < found.high
    from synthmed.evaluation.metrics import _frechet_distances, _resampled_moments

    each = Units.of_patients(np.arange(count))
    weights = np.random.default_rng(0).multinomial(count, [1 / count] * count, size=3).astype(float)
    plain = Units.of_patients(np.arange(count + 3))
    ones = _resampled_moments(real.astype(float), plain, np.ones((3, count + 3)))
    pairs = _frechet_distances(_resampled_moments(drawn.astype(float), each, weights), ones)
    for one, row in zip(pairs, weights, strict=True):
        assert one == pytest.approx(frechet_distance(np.repeat(drawn, row.astype(int), axis=0), real), rel=1e-5)


def test_kernel_distance_is_the_formula_over_all_pairs():
    """Figures would not be those of the literature."""
    drawn, real = normal(0, 31, 5), 0.5 + normal(1, 23, 5)
    among, other, between = (
        (a.astype(float) @ b.T / 5 + 1) ** 3 for a, b in ((drawn, drawn), (real, real), (drawn, real))
    )
    expected = (among.sum() - np.trace(among)) / (31 * 30) + (other.sum() - np.trace(other)) / (23 * 22)
    found = kid_estimate(drawn, real, **units(drawn, real))
    assert found.value == pytest.approx(expected - 2 * between.mean(), rel=1e-4)
    assert found.low < found.value < found.high
    grouped = Units.of_patients(np.arange(23) % 4)
    same = kid_estimate(drawn, real, drawn_units=Units.of_cases(31, seed=1), real_units=grouped)
    assert same.value == pytest.approx(found.value, rel=1e-4) and kid(drawn, real) == pytest.approx(
        found.value, rel=1e-4
    )


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_doubling_the_slices_moves_the_kernel_distance_within_its_interval(shift):
    """Figures of a small and of a large set could not be compared."""
    for seed in range(5):
        drawn, real = shift + normal(seed, 1200, 16), normal(100 + seed, 1200, 16)
        small = kid_estimate(drawn[:600], real[:600], **units(drawn[:600], real[:600]))
        large = kid_estimate(drawn, real, **units(drawn, real))
        assert small.low <= large.value <= small.high
        assert large.high - large.low < small.high - small.low


def brute_force(drawn, real):
    """Precision, recall, density and coverage from whole matrices, by their published definitions."""
    mixed, among, own = cdist(drawn, real), cdist(real, real), cdist(drawn, drawn)

    def radius(distances, k):
        # The nearest is the point itself.
        return np.sort(distances, axis=1)[:, k]

    inside = mixed <= radius(among, 5)
    return {
        "precision": (mixed <= radius(among, 3)).any(axis=1).mean(),
        "recall": (radius(own, 3) >= mixed.T).any(axis=1).mean(),
        "density": inside.sum() / (5 * len(drawn)),
        "coverage": inside.any(axis=0).mean(),
    }


@settings(deadline=None, max_examples=15)
@given(st.integers(10, 80), st.integers(10, 80), st.integers(1, 9), st.floats(0, 3), st.integers(0, 99))
def test_manifold_figures_are_those_of_whole_matrices(count, other, dimension, shift, seed):
    """Blocks or units would lose neighbours, and figures would not be those of the literature."""
    drawn, real = normal(seed, count, dimension), shift + normal(seed + 1, other, dimension)
    groups = Units.of_patients(np.random.default_rng(seed).integers(0, 4, other))
    found = manifold_estimates(drawn, real, drawn_units=Units.of_cases(count, seed=0), real_units=groups)
    for name, expected in brute_force(drawn, real).items():
        estimate = found[name]
        assert estimate.value == pytest.approx(expected, abs=1e-9), name
        assert estimate.low <= estimate.value <= estimate.high
    plain = (*precision_recall(drawn, real), *density_coverage(drawn, real))
    assert plain == pytest.approx([found[name].value for name in ("precision", "recall", "density", "coverage")])


@pytest.mark.parametrize("measure", [kid, precision_recall, density_coverage])
@pytest.mark.parametrize("shape", [(1, 3), (9, 4), (9,)])
def test_features_that_do_not_fit_are_refused_with_their_shapes(measure, shape):
    """Who calls these from a notebook would get an error from the depths of NumPy, or a figure of nothing."""
    with pytest.raises(UserError, match=r"\(9, 3\)"):
        measure(np.zeros(shape), np.zeros((9, 3)))


def figures(drawn, real):
    found = manifold_estimates(drawn, real, **units(drawn, real))
    return [found[name].value for name in ("precision", "recall", "density", "coverage")]


def test_manifold_figures_of_distributions_with_known_answers():
    """A collapse would pass for diversity, or nonsense for fidelity."""
    real = normal(0, 400, 4)
    precision, recall, density, coverage = figures(real, real)
    assert (precision, recall, coverage) == (1, 1, 1)
    # Of a set with itself each ball holds its centre and five others.
    assert density == pytest.approx(6 / 5)
    assert figures(real + 100, real) == [0, 0, 0, 0]
    two = np.concatenate([real[:200], real[200:] + 50])
    precision, recall, density, coverage = figures(normal(1, 400, 4), two)
    assert precision > 0.85 and recall == pytest.approx(0.5, abs=0.08) and coverage == pytest.approx(0.5, abs=0.05)
    assert density == pytest.approx(1, abs=0.2)


def test_one_odd_real_slice_raises_precision_and_not_density():
    """The figure that is robust to odd slices would not be the one that is told to be."""
    real = np.concatenate([normal(0, 300, 4), np.full((1, 4), 40, np.float32)])
    around = 20 + normal(1, 300, 4)
    precision, _, density, _ = figures(around, real)
    assert precision > 0.9 and density < 0.25


def test_equal_slices_do_not_break_neighbours():
    """Constant slices would end an evaluation with a division by zero."""
    flat, real = np.zeros((20, 3), np.float32), normal(0, 20, 3)
    assert np.isfinite(figures(flat, flat)).all() and np.isfinite(figures(flat, real)).all()
    assert figures(flat, flat)[0] == 1
    assert frechet_distance(flat, flat) == 0
    assert kid_estimate(flat, flat, **units(flat, flat)).value == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("size", "scales"), [((16, 16), 1), ((32, 48), 2), ((70, 50), 3), ((176, 192), 5)])
def test_ms_ssim_is_that_of_tensorflow(size, scales):
    """Similarities could not be compared with those of papers."""
    import tensorflow as tf

    first = slices(0, 4, size, 2)
    second = (first + 0.3 * slices(1, 4, size, 2)).clip(-1, 1)
    assert scales_for(size) == scales
    weights = np.array(SCALE_WEIGHTS[:scales]) / sum(SCALE_WEIGHTS[:scales])
    reference = tf.image.ssim_multiscale(first + 1, second + 1, 2.0, power_factors=weights.tolist()).numpy()
    # TensorFlow has no switch for the range's origin: the mean's term sees intensities as they are given.
    assert ms_ssim(first + 1, second + 1) == pytest.approx(reference, abs=2e-4)
    assert ms_ssim(first, first) == pytest.approx(1)


def test_collapsed_samples_are_alike_and_constant_or_tiny_ones_do_no_harm():
    """A generator that draws one image again and again would pass."""
    real = slices(0, 60)
    usual = ms_ssim_estimate(real, cases(real))
    assert usual.low < usual.value < usual.high < 0.6
    same = np.repeat(real[:1], 60, axis=0) + 0.01 * slices(1, 60)
    assert ms_ssim_estimate(same, cases(same)).value > 0.95
    assert ms_ssim_estimate(np.zeros_like(real), cases(real)).value == pytest.approx(1)
    assert np.isfinite(ms_ssim(real[:2, :7, :5], real[2:4, :7, :5])).all()


def test_pairs_are_of_different_patients():
    """Neighbouring slices of a patient are alike by nature, and would make the real baseline too high."""
    real = np.repeat(slices(0, 12), 10, axis=0)
    patients = Units.of_patients(np.repeat(np.arange(12), 10))
    assert ms_ssim_estimate(real, patients).value < 0.6
    assert ms_ssim_estimate(real, Units.of_patients(["a"] * 120)) is None
