"""Tests of synthmed.data.intensities, foreground and bias."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthmed.data import intensities
from synthmed.data.intensities import body_mask, content_box, correct_bias, fit_normalisation, normalise
from synthmed.data.schema import Scaling

ZSCORE = Scaling(method="zscore", low=-4, high=4)


def _axes(shape: tuple[int, ...]) -> list[np.ndarray]:
    """Return coordinates from -1 to 1, along short axes near 0."""
    ends = [1.0 if extent > 3 else 0.1 * (extent - 1) for extent in shape]
    lines = (np.linspace(-end, end, extent) for end, extent in zip(ends, shape, strict=True))
    return list(np.meshgrid(*lines, indexing="ij"))


def _head(shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return a noisy image of two tissues in air, and the tissues (1 and 2)."""
    axes = _axes(shape)
    within = np.sqrt(sum(axis**2 for axis in axes)) < 0.85
    tissue = within.astype(int) + (within & (np.hypot(axes[0] - 0.2, axes[1]) < 0.4))
    rng = np.random.default_rng(0)
    signal = np.array([0.0, 400.0, 700.0])[tissue]
    return np.hypot(signal + rng.normal(0, 8, shape), rng.normal(0, 8, shape)).astype(np.float32), tissue


def test_zscores_are_those_of_the_body():
    """The same tissue would look brighter the more air there is around the patient."""
    image, tissue = _head((40, 40, 24))
    body = image[tissue > 0].astype(np.float64)
    padded = np.zeros((80, 80, 24), np.float32)
    padded[:] = np.abs(np.random.default_rng(1).normal(0, 8, padded.shape))
    padded[20:60, 20:60] = image
    for values in (image, padded):
        fitted = fit_normalisation(values[..., np.newaxis], (ZSCORE,))
        assert fitted.offset[0] == pytest.approx(body.mean(), rel=0.02)
        assert fitted.scale[0] == pytest.approx(4 * body.std(), rel=0.05)


def test_the_body_is_found_where_there_is_no_air():
    """A crop from within the body would be scaled by its brightest tissue alone."""
    inside = np.random.default_rng(0).normal(500, 50, (20, 20, 20)).astype(np.float32)
    inside[0, 0, 0] = 1.7e6
    assert body_mask(inside).all()
    stripped = np.where(np.indices(inside.shape).sum(axis=0) < 30, inside, 0)
    np.testing.assert_array_equal(body_mask(stripped), stripped > 0)
    assert body_mask(np.full((3, 3, 3), 7.0, np.float32)).all()


def test_much_background_does_not_take_the_bright_tissue_away():
    """In a brain that fills a tenth of its image, a twentieth of the voxels would be clipped to white."""
    image = np.zeros((40, 40, 40), np.float32)
    rng = np.random.default_rng(0)
    image[10:28, 10:28, 10:28] = rng.normal(500, 80, (18, 18, 18))
    brain = image[image > 0]
    scaled, fitted = normalise(image[..., np.newaxis], (Scaling(),))
    assert np.mean(scaled[image > 0] == 1.0) == pytest.approx(0.005, abs=0.001)
    assert fitted.offset[0] + fitted.scale[0] == pytest.approx(np.percentile(brain, 99.5), rel=1e-6)
    assert np.all(scaled[image == 0] == -1.0) and fitted.offset[0] - fitted.scale[0] == pytest.approx(0.0, abs=1e-3)


@settings(deadline=None, max_examples=30)
@given(
    values=st.lists(st.integers(-1024, 3071), min_size=8, max_size=8),
    rows=st.integers(1, 9),
    window=st.tuples(st.integers(-1024, 0), st.integers(1, 3071)),
)
def test_hounsfield_units_return_exactly_within_the_window(values, rows, window):
    """A restored CT would not have whole HU any more, or another density."""
    images = np.resize(np.array(values, np.float32), (rows, 3, 2, 1))
    scaled, fitted = normalise(images, (Scaling(method="window", low=window[0], high=window[1]),))
    back = np.round(scaled * fitted.scale[0] + fitted.offset[0])
    np.testing.assert_array_equal(back, np.clip(images, *window))


def test_blocks_do_not_show(monkeypatch):
    """A large case would be scaled otherwise than a small one."""
    images = np.random.default_rng(0).normal(0, 1000, (9, 5, 4, 2)).astype(np.float32)
    whole, _ = normalise(images, (Scaling(), ZSCORE))
    monkeypatch.setattr(intensities, "_BLOCK", 40)
    np.testing.assert_array_equal(normalise(images, (Scaling(), ZSCORE))[0], whole)


@settings(deadline=None, max_examples=60)
@given(
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    channels=st.integers(1, 3),
    background=st.sampled_from([-1024.0, 0.0, 7.0]),
    seed=st.integers(0, 1000),
)
def test_the_content_is_what_any_channel_shows(shape, channels, background, seed):
    """Anatomy that one channel alone shows would be cut off."""
    rng = np.random.default_rng(seed)
    images = np.full((*shape, channels), background)
    images[rng.random(images.shape) < 0.05] = background + 5
    places = np.argwhere((images > images.min(axis=(0, 1, 2))).any(axis=-1))
    expected = tuple(zip(places.min(axis=0), places.max(axis=0) + 1, strict=True)) if len(places) else None
    assert content_box(images) == expected


@pytest.mark.parametrize("shape", [(40, 40, 20), (64, 64, 1), (40, 40, 2)])
def test_a_known_shading_is_taken_away(shape):
    """Near the coil a tissue would stay brighter than far from it, and a generator would learn the coil."""
    image, tissue = _head(shape)
    axes = _axes(shape)
    shading = np.exp(0.35 * axes[0] - 0.35 * axes[1] + 0.2 * axes[2] + 0.25 * axes[1] ** 2)
    shaded = (image * shading).astype(np.float32)
    corrected = correct_bias(shaded, (1.0, 1.0, 2.0))
    assert corrected.dtype == np.float32 and corrected.shape == shape

    def variation(values: np.ndarray) -> float:
        return float(values[tissue == 1].std() / values[tissue == 1].mean())

    assert variation(corrected) < 0.5 * variation(shaded)
    assert corrected[tissue > 0].mean() == pytest.approx(shaded[tissue > 0].mean(), rel=0.02)
    np.testing.assert_array_equal(corrected, correct_bias(shaded, (1.0, 1.0, 2.0)))


@pytest.mark.parametrize("values", [np.zeros((5, 6, 7)), np.full((2, 2, 2), 3.0), np.full((30, 30, 4), -5.0)])
def test_bias_correction_leaves_alone_what_shows_nothing(values):
    """An empty channel would become NaN."""
    np.testing.assert_array_equal(correct_bias(values.astype(np.float32), (1.0, 1.0, 1.0)), values)
