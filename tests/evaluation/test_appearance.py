"""Sliced Wasserstein distance, spectrum, histograms and MS-SSIM beside references."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance

from synthmed.evaluation import appearance
from synthmed.evaluation.appearance import (
    INTENSITY_BINS,
    INTENSITY_EDGES,
    PatchDistance,
    band_frequencies,
    histogram_figures,
    intensity_counts,
    radial_power,
    spectrum_figures,
)
from synthmed.evaluation.resampling import Units


def slices(seed, count=40, size=(32, 32), channels=1, smooth=1.5):
    rough = np.random.default_rng(seed).standard_normal((count, *size, channels))
    return (1.5 * gaussian_filter(rough, (0, smooth, smooth, 0))).astype(np.float32).clip(-1, 1)


def cases(images):
    return Units.of_cases(len(images), seed=0)


def patch_distances(first, second, training):
    measure = PatchDistance(training)
    counts = [measure.counts(one, cases(one)) for one in (first, second)]
    return measure.distances(*counts, first_units=cases(first), second_units=cases(second))


def test_patch_distance_is_that_of_scipy_on_the_same_projections(monkeypatch):
    """Counting in bins would give another distance."""
    first, second = slices(0, 60), slices(1, 60, smooth=1.2)
    measure, kept = PatchDistance(first), []
    plain = appearance._patches
    monkeypatch.setattr(appearance, "_patches", lambda band, random: kept.append(plain(band, random)) or kept[-1])
    found = measure.distances(
        *(measure.counts(one, Units.of_patients(["all"] * 60)) for one in (first, second)),
        first_units=Units.of_patients(["all"] * 60),
        second_units=Units.of_patients(["all"] * 60),
    )
    assert [level.side for level in measure.levels] == [32, 16]
    # One block a set holds all 60 slices: its levels come in turn.
    for number, level in enumerate(measure.levels):
        one, two = kept[number] @ level.directions, kept[number + 2] @ level.directions
        expected = np.mean([wasserstein_distance(one[:, axis], two[:, axis]) for axis in range(one.shape[1])])
        assert found[str(level.side)].value == pytest.approx(expected, rel=0.03)
    assert found["mean"].value == pytest.approx((found["32"].value + found["16"].value) / 2)
    assert found["mean"].low is None


def test_blur_and_noise_are_far_at_the_finest_level_and_equal_sets_nowhere():
    """Texture that is wrong would not show."""
    real, other = slices(0), slices(1)
    assert patch_distances(real, real, real)["mean"].value == 0
    near = patch_distances(other, real, real)
    assert near["32"].low <= near["32"].value <= near["32"].high
    blurred = patch_distances(gaussian_filter(other, (0, 1, 1, 0)), real, real)
    noisy = patch_distances(other + 0.1 * slices(2, smooth=0.1), real, real)
    assert blurred["32"].value > 3 * near["32"].value and noisy["32"].value > 3 * near["32"].value


def test_spectrum_is_that_of_a_plain_transform():
    """The curve would not be the power of the slices."""
    images = slices(0, 3, (20, 33), 2)
    centred = images - images.mean(axis=(1, 2), keepdims=True)
    window = np.outer(np.hanning(22)[1:-1], np.hanning(35)[1:-1])[None, :, :, None]
    window = window / np.sqrt(np.mean(window**2))
    power = np.abs(np.fft.fft2(centred * window, axes=(1, 2))) ** 2 / (20 * 33)
    radius = np.hypot(np.fft.fftfreq(20)[:, None], np.fft.fftfreq(33)[None, :])
    edges = np.linspace(0, 0.5, 11)
    for band, (low, high) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        ring = (radius > low) & (radius <= high)
        assert radial_power(images)[:, band] == pytest.approx(power[:, ring].mean(axis=1), rel=1e-3)
    assert band_frequencies((20, 33)) == pytest.approx((edges[1:] + edges[:-1]) / 2)


def test_white_noise_has_its_variance_in_every_band():
    """Decibels would be of no unit that anyone could check."""
    noise = 0.1 * np.random.default_rng(0).standard_normal((200, 32, 32, 1)).astype(np.float32)
    assert radial_power(noise).mean(axis=0)[1:] == pytest.approx(0.01, rel=0.1)


def spectrum(drawn, real):
    pair = radial_power(drawn), radial_power(real)
    return spectrum_figures(*pair, drawn_units=cases(drawn), real_units=cases(real), size=real.shape[1:3])


def test_highest_band_falls_with_blur_and_rises_with_noise():
    """Blur, the commonest fault of small generators, would not be named."""
    # Smooth slices alone have no power there but that of being cut off at -1 and 1.
    real, other = (slices(seed, 60) + 0.02 * slices(seed + 9, 60, smooth=0.1) for seed in (0, 1))
    assert abs(spectrum(other, real).highest.value) < 1
    blurs = [spectrum(gaussian_filter(other, (0, s, s, 0)), real).highest.value for s in (0.4, 0.6, 0.9)]
    assert 0 > blurs[0] > blurs[1] > blurs[2]
    assert spectrum(other + 0.1 * slices(2, 60, smooth=0.1), real).highest.low > 0
    double = spectrum(2 * other, other)
    assert double.difference.value == pytest.approx(20 * np.log10(2), abs=0.01)
    constant = spectrum(np.zeros_like(real), real)
    assert np.isfinite([constant.highest.value, constant.difference.value]).all()


def test_histogram_distances_are_those_of_scipy():
    """Intensities that are off would be told in no unit."""
    first, second = slices(0, 30, channels=2), 0.8 * slices(1, 30, channels=2) + 0.1
    counts = [intensity_counts(one, cases(one)) for one in (first, second)]
    found = histogram_figures(*counts, drawn_units=cases(first), real_units=cases(second))
    middles = (INTENSITY_EDGES[1:] + INTENSITY_EDGES[:-1]) / 2
    for channel in range(2):
        one, two = (
            np.histogram(images[..., channel].clip(-1, 0.9999), INTENSITY_EDGES)[0] for images in (first, second)
        )
        assert counts[0].sum(axis=0)[channel] == pytest.approx(one, abs=3)
        expected = wasserstein_distance(middles, middles, one, two)
        assert found[channel].wasserstein.value == pytest.approx(expected, rel=1e-2)
        assert found[channel].wasserstein.value == pytest.approx(
            wasserstein_distance(first[..., channel].ravel(), second[..., channel].ravel()), abs=4 / INTENSITY_BINS / 2
        )
        assert found[channel].divergence.value == pytest.approx(jensenshannon(one, two, base=2) ** 2, rel=1e-2)


def test_disjoint_histograms_are_one_bit_apart():
    """The scale of the divergence would not be the one that is told."""
    dark, light = (np.full((12, 8, 8, 1), value, np.float32) for value in (-1.5, 1.0))
    counts = [intensity_counts(one, cases(one)) for one in (dark, light)]
    found = histogram_figures(*counts, drawn_units=cases(dark), real_units=cases(light))[0]
    assert found.divergence.value == pytest.approx(1) and found.wasserstein.value == pytest.approx(2, abs=0.01)
