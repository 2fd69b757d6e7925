import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthmed.training import losses

LOGITS = np.random.default_rng(0).normal(0, 5, (2, 16)).astype(np.float32)


def test_logistic_losses_equal_the_formula():
    """A user would lose the paper's loss."""
    real, fake = LOGITS.astype(np.float64)
    assert float(losses.generator_loss(LOGITS[1])) == pytest.approx(-np.log(1 / (1 + np.exp(-fake))).mean(), rel=1e-5)
    expected = -np.log(1 / (1 + np.exp(-real))).mean() - np.log(1 - 1 / (1 + np.exp(-fake))).mean()
    assert float(losses.discriminator_loss(*LOGITS)) == pytest.approx(expected, rel=1e-5)


def test_relativistic_losses_compare_pairs():
    """A user would train with another loss than R3GAN's."""
    real, fake = LOGITS.astype(np.float64)
    expected = np.log1p(np.exp(fake - real)).mean()
    assert float(losses.relativistic_discriminator_loss(*LOGITS)) == pytest.approx(expected, rel=1e-5)
    assert float(losses.relativistic_generator_loss(*LOGITS[::-1])) == pytest.approx(expected, rel=1e-5)


def test_mismatched_pairs_count_only_where_masks_differ():
    """A user's discriminator would be punished for slices that do belong to their (empty) mask."""
    logits, differs = LOGITS[0][:4], np.array([1.0, 0.0, 1.0, 0.0], np.float32)
    expected = np.log1p(np.exp(logits[[0, 2]].astype(np.float64))).mean()
    assert float(losses.mismatch_loss(logits, differs)) == pytest.approx(expected, rel=1e-5)
    assert float(losses.mismatch_loss(logits, np.zeros(4, np.float32))) == 0.0


def test_regularisers_equal_the_formula():
    """A user would lose R1 or path-length regularisation at the published weight."""
    gradients = np.random.default_rng(1).standard_normal((3, 4, 5, 2)).astype(np.float32)
    expected = 0.5 * 0.7 * np.mean([np.linalg.norm(one) ** 2 for one in gradients])
    assert float(losses.r1_penalty(gradients, 0.7)) == pytest.approx(expected, rel=1e-5)
    styles = np.random.default_rng(2).standard_normal((3, 6, 8)).astype(np.float32)
    lengths = np.array([np.sqrt(np.mean([row @ row for row in one])) for one in styles])
    np.testing.assert_allclose(losses.path_lengths(styles), lengths, rtol=1e-5)
    assert float(losses.path_penalty(lengths, 1.5)) == pytest.approx(np.mean((lengths - 1.5) ** 2), rel=1e-5)


@given(size=st.sampled_from([(8, 8), (16, 4), (32, 32)]))
def test_path_weights_have_one_unit_of_energy_a_plane(size):
    """A user would need another path-length weight for every image size."""
    noise = np.random.default_rng(0).standard_normal((64, *size, 1)).astype(np.float32)
    energy = np.square(np.asarray(losses.path_weights(noise))).sum(axis=(1, 2, 3)).mean()
    assert energy == pytest.approx(1.0, abs=0.15)


@given(every=st.integers(1, 64))
def test_lazy_adam_does_in_more_steps_what_plain_adam_does(every):
    """A user would train at another rate whenever the interval of a regulariser changes."""
    settings = losses.lazy_adam(0.002, every)
    steps = every + 1
    assert settings["learning_rate"] * steps == pytest.approx(0.002 * every)
    assert settings["beta_2"] ** steps == pytest.approx(0.99**every)
    assert settings["beta_1"] == 0.0


@given(batch=st.integers(1, 64), steps=st.integers(1, 10**6))
def test_averaged_generator_forgets_half_in_its_half_life(batch, steps):
    """A user would sample from weights of the start of training."""
    shown = batch * steps
    decay = losses.ema_decay(batch=batch, shown=shown, ema_kimg=10.0, rampup=0.05)
    half_life = min(10_000.0, shown * 0.05)
    assert decay ** (half_life / batch) == pytest.approx(0.5, rel=1e-6)
