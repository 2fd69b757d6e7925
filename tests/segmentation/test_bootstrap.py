"""Intervals of paired differences: what they hold, what they pair, what they leave out."""

import numpy as np
import pytest

from synthmed.segmentation.score_table import difference, mean_dice


def simulate(random, *, gain, repetitions=3, patients=30):
    """Return two tables whose patients share their difficulty, and whose trainings differ by luck."""
    difficulty = random.normal(0.8, 0.1, (1, patients, 1))
    luck = random.normal(0, 0.01, (2, repetitions, 1, 1))
    noise = random.normal(0, 0.02, (2, repetitions, patients, 2))
    base, other = difficulty + luck + noise
    return other + gain, base


def test_the_mean_is_that_of_classes_over_patients_that_have_them():
    """A user's table would not agree with `segment score`."""
    values = np.array([[[1.0, np.nan], [0.5, 0.2]]])
    ones = np.ones((1, 1)), np.ones((1, 2))
    assert mean_dice(values, *ones)[0] == pytest.approx((0.75 + 0.2) / 2)
    assert np.isnan(mean_dice(np.full((1, 2, 2), np.nan), *ones)[0])


def test_pairing_removes_what_patients_share():
    """A user would not see a gain that every patient has, because patients differ more than that."""
    values, base = simulate(np.random.default_rng(0), gain=0.03)
    found = difference(values, base, draws=[0, 0, 0])
    assert found.low < found.value < found.high
    assert found.low > 0
    assert found.high - found.low < 0.06
    assert found.error == pytest.approx((found.high - found.low) / 3.92, rel=0.2)


def test_over_patients_alone_it_is_the_standard_error_of_the_mean():
    """A user's interval would be narrower than what the textbook says."""
    values = np.random.default_rng(1).normal(size=(1, 40, 1))
    found = difference(values, np.zeros_like(values), draws=[0], resamples=20000)
    assert found.error == pytest.approx(values.std(ddof=1) / np.sqrt(40), rel=0.03)


def test_with_three_draws_the_variance_is_not_two_thirds():
    """A user with three draws would be told more certainty than three draws give; seeds within a draw go together."""
    luck = np.repeat([0.0, 0.01, 0.05], 2)
    values = np.broadcast_to(luck[:, None, None], (6, 50, 1))
    found = difference(values, np.zeros_like(values), draws=[0, 0, 1, 1, 2, 2], resamples=20000)
    assert found.error == pytest.approx(np.std([0.0, 0.01, 0.05], ddof=1) / np.sqrt(3), rel=0.03)


@pytest.mark.parametrize("draws", [[0, 0, 0], [0, 1, 2]])
def test_intervals_hold_the_truth_about_as_often_as_they_say(draws):
    """A user would be told of gains that are not there."""
    random = np.random.default_rng(2)
    held = []
    for _ in range(150):
        values, base = simulate(random, gain=0.01)
        found = difference(values, base, draws=draws, resamples=300)
        held.append(found.low <= 0.01 <= found.high)
    # Three trainings are few: no percentile interval of three reaches 95 %.
    assert np.mean(held) > 0.7


def test_the_same_seed_gives_the_same_interval():
    """A user's report would change each time it is written."""
    values, base = simulate(np.random.default_rng(3), gain=0.0)
    assert difference(values, base, draws=[0, 1, 2]) == difference(values, base, draws=[0, 1, 2])
