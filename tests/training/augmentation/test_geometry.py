import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from synthmed.training.augmentation import GEOMETRY, augment
from synthmed.training.transforms import COLUMNS, reflect

SIZES = [(16, 16), (12, 9)]


def turn(angle):
    return np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])


def moved(row, column):
    return np.array([[1, 0, row], [0, 1, column], [0, 0, 1]], float)


def reference_maps(size, values):
    """Return for each operation the 3 x 3 matrix from places of the result to where they are read, (row, column, 1)."""
    height, width = size
    normal = {name: stats.norm.ppf(uniform) for name, uniform in values.items()}
    turns = int(4 * values["quarter_turn"][0]) if height == width else 2 * int(2 * values["quarter_turn"][0])
    shift = np.round((2 * values["shift"] - 1) / 8 * [height, width])
    scale = 2 ** (0.2 * normal["scale"][0])
    stretch = 2 ** (0.2 * normal["stretch"][0])
    angles = np.pi * (2 * values["rotation"] - 1)
    fraction = normal["fractional_shift"] / 8 * [height, width]
    return {
        "mirror": np.diag([1, -1 if values["mirror"][0] < 0.5 else 1, 1]),
        "quarter_turn": turn(turns * np.pi / 2),
        "shift": moved(*-shift),
        "scale": np.diag([1 / scale, 1 / scale, 1]),
        "rotation": (turn(angles[0]), turn(angles[1])),
        "stretch": np.diag([stretch, 1 / stretch, 1]),
        "fractional_shift": moved(*-fraction),
    }


def reference(slices, image_channels, matrix):
    """Return one sample read by SciPy through a 3 x 3 matrix about the middle."""
    middle = (np.array(slices.shape[:2]) - 1) / 2
    offset = middle + matrix[:2, 2] - matrix[:2, :2] @ middle
    outputs = [
        ndimage.affine_transform(
            slices[..., channel], matrix[:2, :2], offset, order=1 if channel < image_channels else 0, mode="mirror"
        )
        for channel in range(slices.shape[2])
    ]
    return np.stack(outputs, axis=-1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("operations", [*[(name,) for name in GEOMETRY], GEOMETRY], ids=lambda names: "+".join(names))
def test_every_geometric_operation_equals_scipy(pieces, numbers_for, size, operations):
    """A user would train on anatomy that is bent in ways nobody described."""
    batch = 6
    slices, numbers, _ = pieces((batch, *size, 4), 2)
    ends = dict(zip(COLUMNS, np.cumsum([sum(columns) for columns in COLUMNS.values()]), strict=True))
    drawn = {name: numbers[:, ends[name] - COLUMNS[name].values : ends[name]] for name in GEOMETRY}
    wanted = numbers_for(batch, **{name: drawn[name] for name in operations})
    outputs = augment(tf.constant(slices), image_channels=2, operations=GEOMETRY, probability=0.5, numbers=wanted)
    for sample in range(batch):
        maps = reference_maps(size, {name: values[sample] for name, values in drawn.items()})
        first, second = maps.pop("rotation")
        maps = {
            "mirror": maps["mirror"],
            "quarter_turn": maps["quarter_turn"],
            "shift": maps["shift"],
            "scale": maps["scale"],
            "rotation": first,
            "stretch": maps["stretch"],
            "rotation again": second,
            "fractional_shift": maps["fractional_shift"],
        }
        matrix = np.eye(3)
        for name, step in maps.items():
            if name.removesuffix(" again") in operations:
                matrix = matrix @ step
        np.testing.assert_allclose(outputs[sample], reference(slices[sample], 2, matrix), atol=1e-9)


def test_mirror_and_turns_are_exact_copies_of_pixels(pieces, numbers_for):
    """A user would see sharp slices blurred where nothing had to be interpolated."""
    slices, _, _ = pieces((5, 6, 6, 3), 2)
    uniform = [[0.0], [0.3], [0.6], [0.9], [0.9]]
    numbers = numbers_for(5, quarter_turn=uniform, mirror=[[0.9], [0.9], [0.9], [0.9], [0.1]]).astype(np.float32)
    inputs = tf.constant(slices, tf.float32)
    outputs = augment(inputs, image_channels=2, operations=GEOMETRY, probability=0.5, numbers=numbers)
    for sample in range(5):
        copied = np.asarray(inputs[sample])
        # The mirror comes first.
        copied = copied[:, ::-1] if sample == 4 else copied
        np.testing.assert_array_equal(outputs[sample], np.rot90(copied, -min(sample, 3)))


@settings(max_examples=50, deadline=None)
@given(side=st.integers(1, 20), place=st.floats(-500, 500))
def test_reflection_equals_folding_by_hand(side, place):
    """A user would see black or torn borders where a slice was moved."""
    expected = place
    while side > 1 and not 0 <= expected <= side - 1:
        expected = -expected if expected < 0 else 2 * (side - 1) - expected
    expected = expected if side > 1 else 0.0
    assert float(reflect(tf.constant([place], tf.float64), side)[0]) == pytest.approx(expected, abs=1e-9)
