import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from synthmed.training.augmentation import (
    ADA_OPERATIONS,
    AUGMENTATIONS,
    DIFF_OPERATIONS,
    GEOMETRY,
    augment,
    noise_shape,
    numbers_shape,
)

INTENSITY = [name for name in AUGMENTATIONS if name not in (*GEOMETRY, "cutout")]


def is_one_hot(mask):
    return np.all((mask == -1.0) | (mask == 1.0)) and np.all((mask == 1.0).sum(axis=-1) == 1)


@settings(max_examples=20, deadline=None)
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    image_channels=st.integers(0, 4),
    mask_channels=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_probability_zero_changes_nothing(pieces, height, width, image_channels, mask_channels, seed):
    """A user would compare augmentations with a baseline that is not the paper's."""
    shape = (3, height, width, max(image_channels + mask_channels, 1))
    slices, numbers, noise = pieces(shape, min(image_channels, shape[3]), seed)
    slices, numbers = slices.astype(np.float32), numbers.astype(np.float32)
    # The smallest number that can be drawn.
    numbers[0] = 0.0
    arguments = {"image_channels": min(image_channels, shape[3]), "operations": AUGMENTATIONS, "noise": noise}
    outputs = augment(tf.constant(slices), probability=0.0, numbers=tf.constant(numbers), **arguments)
    np.testing.assert_array_equal(outputs, slices)


def test_a_compiled_step_does_the_same_with_a_variable_probability(pieces):
    """A user would train with another augmentation than the tested one, or with a probability that stands still."""
    slices, numbers, noise = (part.astype(np.float32) for part in pieces((4, 16, 24, 5), 2))

    def step(probability):
        return augment(
            tf.constant(slices),
            image_channels=2,
            operations=AUGMENTATIONS,
            probability=probability,
            numbers=tf.constant(numbers),
            noise=tf.constant(noise),
        )

    compiled = tf.function(step)
    np.testing.assert_array_equal(compiled(tf.constant(0.0)), slices)
    changed = compiled(tf.constant(0.7))
    assert changed.dtype == tf.float32
    np.testing.assert_allclose(changed, step(0.7), atol=1e-4)
    assert np.abs(changed - slices).max() > 0.1


@settings(max_examples=20, deadline=None)
@given(
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    image_channels=st.sampled_from([0, 1, 4]),
    seed=st.integers(0, 99),
)
def test_one_hot_masks_stay_one_hot_in_every_geometry(pieces, height, width, image_channels, seed):
    """A user would teach the discriminator that masks have half classes, which real masks never have."""
    slices, numbers, _ = pieces((4, height, width, image_channels + 3), image_channels, seed)
    assert is_one_hot(slices[..., image_channels:])
    for operations in [*[(name,) for name in GEOMETRY], GEOMETRY]:
        outputs = augment(
            tf.constant(slices), image_channels=image_channels, operations=operations, probability=1.0, numbers=numbers
        )
        assert is_one_hot(np.asarray(outputs)[..., image_channels:])


def test_image_and_mask_move_together(pieces):
    """A user would lose what image-mask pairs are for: outlines beside the anatomy that they outline."""
    _, numbers, _ = pieces((24, 1, 1, 1), 0)
    rows, columns = np.mgrid[:48, :64]
    blob = np.exp(-((rows - 20) ** 2) / 150 - (columns - 38) ** 2 / 300) + np.exp(
        -((rows - 36) ** 2 + (columns - 12) ** 2) / 80
    )
    steepest = np.hypot(*np.gradient(blob)).max()
    mask = np.where(blob > 0.5, 1.0, -1.0)
    slices = np.repeat(np.stack([blob, -mask, mask], axis=-1)[None], 24, axis=0)
    outputs = np.asarray(
        augment(tf.constant(slices), image_channels=1, operations=GEOMETRY, probability=0.7, numbers=numbers)
    )
    image, moved = outputs[..., 0], outputs[..., 2] > 0
    # The nearest pixel is at most half a diagonal away from the place that the image is read from.
    apart = np.abs(image - 0.5) > np.sqrt(0.5) * steepest
    assert np.mean(apart) > 0.5
    np.testing.assert_array_equal((image > 0.5)[apart], moved[apart])


@pytest.mark.parametrize("name", INTENSITY)
@pytest.mark.parametrize("image_channels", [0, 1, 2, 4])
def test_intensity_operations_leave_masks_alone(pieces, name, image_channels):
    """A user would see classes fade with the brightness of the scan."""
    slices, numbers, noise = pieces((3, 6, 8, image_channels + 3), image_channels)
    outputs = np.asarray(
        augment(
            tf.constant(slices),
            image_channels=image_channels,
            operations=[name],
            probability=1.0,
            numbers=numbers,
            noise=noise,
        )
    )
    np.testing.assert_array_equal(outputs[..., image_channels:], slices[..., image_channels:])
    one_is_too_few = image_channels == 1 and name in ("channel_gain", "diff_saturation")
    if image_channels and not one_is_too_few:
        changed = np.abs(outputs - slices)[..., :image_channels].max(axis=(1, 2, 3))
        assert changed.min() > 1e-3
    else:
        np.testing.assert_allclose(outputs, slices, atol=1e-12)


def test_cutout_is_a_square_of_half_the_sides_in_all_planes(pieces, numbers_for):
    """A user would keep outlines of what the discriminator cannot see."""
    slices, _, _ = pieces((3, 16, 24, 4), 1)
    middle = np.array([[0.5, 0.5], [0.0, 0.25], [0.9, 1.0 - 1e-9]])
    numbers = numbers_for(3, cutout=middle)
    outputs = np.asarray(
        augment(tf.constant(slices), image_channels=1, operations=["cutout"], probability=0.5, numbers=numbers)
    )
    expected = slices.copy()
    expected[0, 4:12, 6:18] = 0.0
    expected[1, :4, :12] = 0.0
    expected[2, 10:, 18:] = 0.0
    # 0.9 of 16 rows is 14.4: the middles of rows 10.4 to 18.4 lie in the square.
    np.testing.assert_array_equal(outputs, expected)


def test_an_operation_does_the_same_whatever_else_is_done(pieces):
    """A user who switches one operation off would change all the others, and compare nothing."""
    slices, numbers, noise = pieces((4, 8, 8, 3), 2)
    arguments = {"image_channels": 2, "probability": 0.5, "numbers": numbers, "noise": noise}
    together = augment(tf.constant(slices), operations=("noise", "contrast"), **arguments)
    first = augment(tf.constant(slices), operations=("contrast",), **arguments)
    np.testing.assert_array_equal(together, augment(first, operations=("noise",), **arguments))


def test_presets_name_operations_and_shapes_fit():
    """A user would get a preset with a typing error only once training has begun."""
    assert set(ADA_OPERATIONS) | set(DIFF_OPERATIONS) == set(AUGMENTATIONS)
    assert noise_shape(2, 3, 4, 5) == (2, 3, 4, 5)
    assert numbers_shape(7)[0] == 7


def test_wrong_calls_are_refused(pieces):
    """A user would train without the augmentation that was asked for."""
    slices, numbers, _ = pieces((2, 4, 4, 2), 1)
    arguments = {"image_channels": 1, "probability": 1.0, "numbers": numbers}
    with pytest.raises(ValueError, match="no augmentation 'miror'"):
        augment(tf.constant(slices), operations=["miror"], **arguments)
    with pytest.raises(ValueError, match="pass noise"):
        augment(tf.constant(slices), operations=["noise"], **arguments)


@pytest.mark.parametrize("extreme", [0.0, np.nextafter(np.float32(1), np.float32(0))])
def test_the_rarest_numbers_give_finite_planes(pieces, extreme):
    """A user would lose a run to the one draw in sixteen million that is exactly 0."""
    slices, numbers, noise = pieces((2, 6, 6, 4), 2)
    numbers = np.full_like(numbers, extreme, dtype=np.float32)
    outputs = augment(
        tf.constant(slices, tf.float32),
        image_channels=2,
        operations=AUGMENTATIONS,
        probability=1.0,
        numbers=numbers,
        noise=noise,
    )
    assert np.isfinite(outputs).all()
