"""What the operations do on the average is what their table says."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from synthmed.training.augmentation import AUGMENTATIONS, GEOMETRY, augment, numbers_shape
from synthmed.training.transforms import Draws, place

COUNT = 3000
P = 0.3
# Of the shifts of an 8 x 8 slice by up to one pixel, a quarter of the rounded ones stay at 0, 0.
SHARES = {"mirror": P / 2, "quarter_turn": 0.75 * P, "shift": 0.75 * P, "bands": 1 - (1 - P) ** 4}


def drawn(probability, seed=0):
    return Draws(tf.constant(np.random.default_rng(seed).random(numbers_shape(COUNT))), probability)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_share_of_changed_samples_is_the_probability(name):
    """A user would augment more, and so leak, or less, and so overfit, than the controller believes."""
    random = np.random.default_rng(1)
    slices = random.uniform(-1, 1, (COUNT, 8, 8, 3))
    outputs = augment(
        tf.constant(slices),
        image_channels=2,
        operations=[name],
        probability=P,
        numbers=random.random(numbers_shape(COUNT)),
        noise=random.standard_normal((COUNT, 8, 8, 2)),
    )
    share = np.mean(np.any(np.asarray(outputs) != slices, axis=(1, 2, 3)))
    # Four standard deviations of a share of 3000.
    assert share == pytest.approx(SHARES.get(name, P), abs=0.037)


def laws_of(name):
    placement = place(drawn(1.0), operations=(name,), size=(64, 48))
    matrix = placement.matrix
    if name == "scale":
        assert np.allclose(matrix.a, matrix.d)
        return [(-np.log2(matrix.a), stats.norm(0, 0.2))]
    if name == "stretch":
        np.testing.assert_allclose(matrix.a * matrix.d, 1.0)
        return [(np.log2(matrix.a), stats.norm(0, 0.2))]
    if name == "rotation":
        # The sum of two uniform angles, on the circle, is uniform.
        return [(np.arctan2(matrix.c, matrix.a), stats.uniform(-np.pi, 2 * np.pi))]
    rows, columns = placement.after
    return [(rows, stats.norm(0, 64 / 8)), (columns, stats.norm(0, 48 / 8))]


@pytest.mark.parametrize("name", ["scale", "stretch", "rotation", "fractional_shift"])
def test_strengths_follow_the_laws_of_the_paper(name):
    """A user would not have the augmentation that ADA's results were obtained with."""
    for sample, law in laws_of(name):
        assert stats.kstest(np.asarray(sample), law.cdf).pvalue > 1e-3


def test_whole_pixel_shifts_are_whole_and_within_an_eighth():
    """A user would see slices interpolated where none was needed, or anatomy pushed out of the slice."""
    rows, columns = place(drawn(1.0), operations=("shift",), size=(64, 48)).before
    for shifts, side in ((np.asarray(rows), 64), (np.asarray(columns), 48)):
        np.testing.assert_array_equal(shifts, np.round(shifts))
        assert set(shifts) == set(range(-side // 8, side // 8 + 1))


def test_closed_gates_keep_every_pixel_in_its_place():
    """A user would pay for interpolation where nothing is augmented."""
    placement = place(drawn(0.0), operations=GEOMETRY, size=(5, 7))
    rows, columns = np.arange(5)[:, None] - 2.0, np.arange(7)[None] - 3.0
    sources = placement.sources(tf.constant(rows), tf.constant(columns))
    for source, own in zip(sources, (rows, columns), strict=True):
        np.testing.assert_array_equal(source, np.broadcast_to(own, (COUNT, 5, 7)))


def test_rotation_happens_with_the_probability_of_any_other_operation():
    """A user would rotate nearly twice as many slices: there are two rotations, about the stretch."""
    gates = np.asarray(drawn(P).gates("rotation"))
    assert gates.any(axis=1).mean() == pytest.approx(P, abs=0.034)
    assert gates[:, 0].mean() == pytest.approx(gates[:, 1].mean(), abs=0.034)
