import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthmed.training import adversarial
from synthmed.training.adversarial import adjust, sign_mean

LOGITS = np.random.default_rng(0).normal(0, 5, (2, 16)).astype(np.float32)


def test_logistic_losses_equal_the_formula():
    """A user would lose the paper's loss."""
    real, fake = LOGITS.astype(np.float64)
    assert float(adversarial.generator_loss(LOGITS[1])) == pytest.approx(
        -np.log(1 / (1 + np.exp(-fake))).mean(), rel=1e-5
    )
    expected = -np.log(1 / (1 + np.exp(-real))).mean() - np.log(1 - 1 / (1 + np.exp(-fake))).mean()
    assert float(adversarial.discriminator_loss(*LOGITS)) == pytest.approx(expected, rel=1e-5)


def test_relativistic_losses_compare_pairs():
    """A user would train with another loss than R3GAN's."""
    real, fake = LOGITS.astype(np.float64)
    expected = np.log1p(np.exp(fake - real)).mean()
    assert float(adversarial.relativistic_discriminator_loss(*LOGITS)) == pytest.approx(expected, rel=1e-5)
    assert float(adversarial.relativistic_generator_loss(*LOGITS[::-1])) == pytest.approx(expected, rel=1e-5)


def test_mismatched_pairs_count_only_where_masks_differ():
    """A user's discriminator would be punished for slices that do belong to their (empty) mask."""
    logits, differs = LOGITS[0][:4], np.array([1.0, 0.0, 1.0, 0.0], np.float32)
    expected = np.log1p(np.exp(logits[[0, 2]].astype(np.float64))).mean()
    assert float(adversarial.mismatch_loss(logits, differs)) == pytest.approx(expected, rel=1e-5)
    assert float(adversarial.mismatch_loss(logits, np.zeros(4, np.float32))) == 0.0


def test_regularisers_equal_the_formula():
    """A user would lose R1 or path-length regularisation at the published weight."""
    gradients = np.random.default_rng(1).standard_normal((3, 4, 5, 2)).astype(np.float32)
    expected = 0.5 * 0.7 * np.mean([np.linalg.norm(one) ** 2 for one in gradients])
    assert float(adversarial.squared_norm(gradients, 0.7)) == pytest.approx(expected, rel=1e-5)
    styles = np.random.default_rng(2).standard_normal((3, 6, 8)).astype(np.float32)
    lengths = np.array([np.sqrt(np.mean([row @ row for row in one])) for one in styles])
    np.testing.assert_allclose(adversarial.lengths_of(styles), lengths, rtol=1e-5)
    assert float(adversarial.path_penalty(lengths, 1.5)) == pytest.approx(np.mean((lengths - 1.5) ** 2), rel=1e-5)


@given(size=st.sampled_from([(8, 8), (16, 4), (32, 32)]))
def test_path_directions_have_one_unit_of_energy_a_channel(size):
    """A user would need another path-length weight for every image size."""
    noise = np.random.default_rng(0).standard_normal((64, *size, 1)).astype(np.float32)
    energy = np.square(np.asarray(adversarial.path_directions(noise))).sum(axis=(1, 2, 3)).mean()
    assert energy == pytest.approx(1.0, abs=0.15)


@given(every=st.integers(1, 64))
def test_lazy_adam_does_in_more_steps_what_plain_adam_does(every):
    """A user would train at another rate whenever the interval of a regulariser changes."""
    settings = adversarial.lazy_adam(0.002, every)
    steps = every + 1
    assert settings["learning_rate"] * steps == pytest.approx(0.002 * every)
    assert settings["beta_2"] ** steps == pytest.approx(0.99**every)
    assert settings["beta_1"] == 0.0


@given(batch=st.integers(1, 64), steps=st.integers(1, 10**6))
def test_averaged_generator_forgets_half_in_its_half_life(batch, steps):
    """A user would sample from weights of the start of training."""
    seen = batch * steps
    decay = adversarial.ema_decay(batch=batch, images_seen=seen, ema_kimg=10.0, rampup=0.05)
    half_life = min(10_000.0, seen * 0.05)
    assert decay ** (half_life / batch) == pytest.approx(0.5, rel=1e-6)


SIGNS = st.floats(-1, 1)
# TensorFlow takes subnormal numbers for 0.
SHARE = st.floats(0, 1, width=32, allow_subnormal=False)


def test_sign_mean_counts_what_the_discriminator_takes_for_real():
    """A user would steer by how large logits are, which differs between data sets and losses."""
    assert float(sign_mean(np.array([3.0, 0.1, -200.0, 0.0], np.float32))) == pytest.approx(0.25)


@given(p=SHARE, mean=SIGNS, target=SIGNS, images=st.integers(1, 10**6), kimg=st.floats(0.1, 1000), maximum=SHARE)
def test_probability_moves_to_the_targets_side_and_stays_a_probability(p, mean, target, images, kimg, maximum):
    """A user would see augmentation grow without end, or shrink while the discriminator overfits."""
    p = min(p, maximum)
    after = float(adjust(p, mean, target=target, images=images, kimg=kimg, maximum=maximum))
    assert 0.0 <= after <= maximum + 1e-6
    side = np.sign(np.float32(mean) - np.float32(target))
    # Numbers too small for float32 are taken for 0.
    assert (after - np.float32(p)) * side >= -1e-37
    if side == 0:
        assert after == pytest.approx(p, abs=1e-6)


@given(images=st.integers(1, 5000), kimg=st.floats(1, 500))
def test_a_step_is_as_long_as_its_images(images, kimg):
    """A user who changes the batch or the interval would change how fast augmentation follows."""
    after = float(adjust(0.0, 1.0, target=0.6, images=images, kimg=kimg, maximum=1.0))
    assert after == pytest.approx(min(images / (kimg * 1000), 1.0), rel=1e-5)


def test_the_result_is_the_next_value_of_a_variable():
    """A user would lose the augmentation strength on resume if it were not a variable of the run."""
    p = keras.Variable(0.0, trainable=False, dtype="float32")
    for _ in range(2000):
        p.assign(adjust(p, 0.9, target=0.6, images=32, kimg=40))
    assert float(p.value) == pytest.approx(0.8)
    for _ in range(250):
        p.assign(adjust(p, 0.3, target=0.6, images=32, kimg=40))
    assert float(p.value) == pytest.approx(0.6, abs=1e-4)
