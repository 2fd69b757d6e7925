import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthmed.training.augmentation import adjust, sign_mean

SIGNS = st.floats(-1, 1)
SHARE = st.floats(0, 1)


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
    after = float(adjust(0.0, 1.0, images=images, kimg=kimg, maximum=1.0))
    assert after == pytest.approx(min(images / (kimg * 1000), 1.0), rel=1e-5)


def test_the_result_is_the_next_value_of_a_variable():
    """A user would lose the augmentation strength on resume if it were not a variable of the run."""
    p = keras.Variable(0.0, trainable=False, dtype="float32")
    for _ in range(2000):
        p.assign(adjust(p, 0.9, images=32, kimg=40))
    assert float(p.value) == pytest.approx(0.8)
    for _ in range(250):
        p.assign(adjust(p, 0.3, images=32, kimg=40))
    assert float(p.value) == pytest.approx(0.6, abs=1e-4)
