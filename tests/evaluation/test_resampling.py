import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthmed.evaluation.resampling import MOST_BLOCKS, Units, interval, mean, median, paired_weights


@given(st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=40))
def test_sums_over_units_are_those_of_a_loop(patients):
    """Every interval would be of other patients than it says."""
    units = Units.of_patients(patients)
    values = np.random.default_rng(0).standard_normal((len(patients), 2))
    expected = [values[np.array(patients) == name].sum(axis=0) for name in sorted(set(patients))]
    assert units.sums(values) == pytest.approx(np.array(expected))
    assert units.sizes.sum() == len(patients)


def test_slices_of_a_patient_stay_together_where_patients_are_many():
    """Intervals would be far too narrow: slices of one patient are alike."""
    patients = [f"p{number // 3}" for number in range(1000)]
    units = Units.of_patients(patients)
    assert units.count == MOST_BLOCKS and set(units.owner) == set(range(MOST_BLOCKS))
    assert all(len(set(units.owner[first : first + 3])) == 1 for first in range(0, 999, 3))


def test_interval_of_a_mean_is_the_textbook_one():
    """A reader would take a chance difference for a real one, or the other way round."""
    values = np.random.default_rng(0).standard_normal((400, 1))
    units, single = Units.of_patients(np.arange(400) % 80), Units.of_patients(["a"])
    weights, ones = paired_weights(units, single, seed=0, resamples=4000)
    assert (ones == 1).all()
    found = interval(0.0, (weights @ units.sums(values))[:, 0] / (weights @ units.sizes))
    assert found.high - found.low == pytest.approx(2 * 1.96 / np.sqrt(400), rel=0.2)


def test_limits_hold_and_no_interval_is_made_of_nothing():
    """A share above 1 would be printed, or an interval of no width."""
    assert interval(0.99, [0.5, 0.9, 1.0], lowest=0, highest=1).high == 1
    assert interval(-0.1, [-1.0, 0.0], lowest=0).low == -0.1
    alone = Units.of_patients(["a"] * 5)
    assert interval(1.0, paired_weights(alone, alone, seed=0)[0].sum(axis=1)).low is None


def test_slices_of_a_unit_are_drawn_together():
    """Slices of one patient are alike: drawn one by one they would give intervals far too narrow."""
    drawn = Units.of_patients([7, 7, 2, 2, 2]).slice_weights(seed=0, resamples=50)
    assert drawn.shape == (51, 5) and (drawn[0] == 1).all() and drawn[1:].std() > 0
    assert (drawn[:, 0] == drawn[:, 1]).all() and (drawn[:, 2:] == drawn[:, 2:3]).all()


def test_median_and_mean_of_slices():
    """A reader would take a chance difference of two medians for a real one, or the other way round."""
    values = np.random.default_rng(0).standard_normal(2000)
    units = Units.of_patients(np.arange(2000) % 80)
    for found, expected, error in (
        (mean(values, units, seed=1), values.mean(), 1.0),
        (median(values, units, seed=1), np.median(values), np.sqrt(np.pi / 2)),
    ):
        assert found.value == pytest.approx(expected)
        assert found.high - found.low == pytest.approx(2 * 1.96 * error / np.sqrt(2000), rel=0.3)
    assert median(values, Units.of_patients(np.zeros(2000)), seed=1).low is None
    assert mean(np.ones(9), Units.of_patients(np.arange(9)), seed=1).high == 1
