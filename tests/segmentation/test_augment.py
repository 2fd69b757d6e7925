"""Augmentation: labels move with images, nothing leaves its range, the same step gives the same slices."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from synthmed.data.schema import IGNORE
from synthmed.segmentation import augment as augmentation
from synthmed.segmentation.augment import AIR, Augmentation, Draws, augment

STILL = Augmentation(rotation=0, scale=0, stretch=0, translation=0, intensity=0, sharpness=0, elastic=0, geometry=1)


def slices(count=6, height=24, width=32):
    """Return two-valued images `[count, height, width, 1]` and the labels that mark their bright part."""
    labels = np.zeros((count, height, width), np.uint8)
    labels[:, 8:16, 10:20] = 2
    return np.where(labels, 1.0, AIR).astype(np.float32)[..., None], labels


def run(options, *, seed=0, step=0, images=None, labels=None):
    """Augment with plain arguments and return NumPy arrays."""
    default = slices()
    images, labels = (default[0] if images is None else images), (default[1] if labels is None else labels)
    changed = augment(
        tf.constant(images), tf.constant(labels), seed=seed, step=tf.constant(step, tf.int64), options=options
    )
    return [np.asarray(part) for part in changed]


def test_nothing_is_changed_where_every_range_is_zero():
    """A user who switches augmentation off would still train on changed slices."""
    images, labels = slices()
    changed = run(STILL)
    np.testing.assert_allclose(changed[0], images, atol=1e-6)
    np.testing.assert_array_equal(changed[1], labels)


def test_labels_move_with_their_images():
    """A user would teach the network boundaries that are beside the anatomy."""
    options = STILL.model_copy(update={"rotation": 40.0, "scale": 0.3, "stretch": 0.2, "translation": 0.1})
    images, labels = run(options)
    assert set(np.unique(labels)) == {0, 2}
    bright = images[..., 0] > 0
    # Bilinear and nearest interpolation may disagree about pixels on the boundary and about no others.
    for image, label in zip(bright, labels == 2, strict=True):
        differing = image ^ label
        edge = ndimage.binary_dilation(label, iterations=2) & ~ndimage.binary_erosion(label, iterations=2)
        assert label.any()
        assert not (differing & ~edge).any()
    assert len({label.tobytes() for label in labels}) == len(labels)


@pytest.mark.parametrize(("option", "axis"), [("flip_rows", 1), ("flip_columns", 2)])
def test_flips_mirror_about_half_of_the_slices(option, axis):
    """A user who allows mirroring along one axis would get the other, or one pixel beside."""
    images = np.random.default_rng(0).uniform(-1, 1, (40, 8, 10, 1)).astype(np.float32)
    labels = np.zeros(images.shape[:3], np.uint8)
    changed = run(STILL.model_copy(update={option: True}), images=images, labels=labels)[0]
    mirrored = [
        np.allclose(one, np.flip(other, axis - 1), atol=1e-5) for one, other in zip(changed, images, strict=True)
    ]
    same = [np.allclose(one, other, atol=1e-5) for one, other in zip(changed, images, strict=True)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 8 < sum(mirrored) < 32


def test_rotation_angle_and_size_factor_stay_within_their_range():
    """A user who allows 20 degrees would get anatomy in impossible positions."""
    bar = np.zeros((40, 64, 64), np.uint8)
    bar[:, 30:34, 8:56] = 1
    images = np.where(bar, 1.0, AIR).astype(np.float32)[..., None]
    turned = run(STILL.model_copy(update={"rotation": 20.0}), images=images, labels=bar)[1]
    angles = []
    for label in turned:
        rows, columns = np.nonzero(label)
        angles.append(np.degrees(np.arctan(np.polyfit(columns, rows, 1)[0])))
    assert max(np.abs(angles)) < 21
    assert max(angles) > 10
    assert min(angles) < -10
    areas = run(STILL.model_copy(update={"scale": 0.2}), images=images, labels=bar)[1].sum((1, 2)) / bar[0].sum()
    assert areas.min() > 0.6
    assert areas.max() < 1.6
    assert areas.max() - areas.min() > 0.3


def test_same_seed_and_step_give_the_same_slices():
    """A user's resumed training would differ from one that was never interrupted."""
    first, again = run(Augmentation(), step=3), run(Augmentation(), step=3)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    for other in (run(Augmentation(), step=4), run(Augmentation(), step=3, seed=1)):
        assert not np.array_equal(first[0], other[0])


def test_intensities_change_without_the_labels():
    """A user would lose robustness to scanners if the intensity part did nothing."""
    images, labels = run(STILL.model_copy(update={"intensity": 1.0}))
    original = slices()
    np.testing.assert_array_equal(labels, original[1])
    assert np.isfinite(images).all()
    assert (np.abs(images - original[0]).max(axis=(1, 2, 3)) > 0.01).all()


def test_elastic_deformation_is_the_interpolation_of_what_it_points_at(monkeypatch):
    """A user would train on images and labels that were moved by different fields, or torn at the edges."""
    count, height, width = 4, 20, 28
    random = np.random.default_rng(0)
    images = random.uniform(-1, 1, (count, height, width, 2)).astype(np.float32)
    labels = random.integers(0, 4, (count, height, width)).astype(np.uint8)
    labels[labels == 3] = IGNORE
    shifts = random.normal(0, 3, (count, height, width, 2)).astype(np.float32)
    monkeypatch.setattr(augmentation, "_displacement", lambda *_: tf.constant(shifts))
    matrix = np.array([[1.1, 0.2, -3.0], [-0.1, 0.9, 2.0]], np.float32)
    transforms = np.repeat(np.array([[*matrix.ravel(), 0, 0]], np.float32), count, axis=0)
    monkeypatch.setattr(augmentation, "_transforms", lambda *_: tf.constant(transforms))
    changed = run(STILL.model_copy(update={"elastic": 1.0}), images=images, labels=labels)
    for number in range(count):
        rows, columns = np.indices((height, width)) + np.moveaxis(shifts[number], -1, 0)
        x, y = (row[0] * columns + row[1] * rows + row[2] for row in matrix)
        for channel in range(2):
            wanted = _interpolated(images[number, ..., channel], (y, x), order=1, outside=AIR)
            np.testing.assert_allclose(changed[0][number, ..., channel], wanted, atol=1e-4)
        wanted = _interpolated(labels[number], (y, x), order=0, outside=0)
        # Points half-way between two pixels may go either way.
        clear = np.minimum(np.abs(y % 1 - 0.5), np.abs(x % 1 - 0.5)) > 1e-4
        np.testing.assert_array_equal(changed[1][number][clear], wanted[clear])
    assert set(np.unique(changed[1])) == {0, 1, 2, IGNORE}


def _interpolated(plane, where, *, order, outside):
    """Return SciPy's interpolation, beyond the border with the value of outside."""
    padded = np.pad(plane, 8, constant_values=outside)
    return ndimage.map_coordinates(padded, [axis + 8 for axis in where], order=order, mode="nearest")


def test_elastic_fields_are_smooth_as_large_as_asked_and_do_not_fold():
    """A user would train on torn anatomy, or on none that is deformed."""
    draws = Draws(0, tf.constant(0, tf.int64))
    fields = np.asarray(augmentation._displacement(200, (40, 64), draws, Augmentation(displacement=0.03)))
    rows, columns = fields[..., 0] / 40, fields[..., 1] / 64
    # The standard deviation of a field is itself evenly spread from 0 to the largest.
    for part in (rows, columns):
        assert part.std() == pytest.approx(0.03 / np.sqrt(3), rel=0.15)
    along_rows, along_columns = np.gradient(fields, axis=(1, 2))
    stretch = (1 + along_rows[..., 0]) * (1 + along_columns[..., 1]) - along_rows[..., 1] * along_columns[..., 0]
    assert stretch.min() > 0


@pytest.mark.parametrize("name", ["blur", "low_resolution"])
def test_softening_matches_scipy_and_leaves_the_level(name):
    """A user's network would be made robust to something else than blur and coarse pixels."""
    image = np.random.default_rng(0).uniform(-1, 1, (24, 32))
    if name == "blur":
        rows, columns = (np.asarray(augmentation._blurring(side, tf.constant([[1.3]])))[0] for side in image.shape)
        # Within the slice; at its border SciPy has no mode that leaves out what is not there.
        wanted = ndimage.gaussian_filter(image, 1.3, truncate=8)[8:-8, 8:-8]
        np.testing.assert_allclose((rows @ image @ columns.T)[8:-8, 8:-8], wanted, atol=1e-4)
    else:
        rows, columns = (np.asarray(augmentation._coarsening(side, tf.constant([[2.0]])))[0] for side in image.shape)
        coarse = image[1::2, 1::2]
        wanted = ndimage.zoom(coarse, 2, order=1, mode="nearest", grid_mode=True)
        np.testing.assert_allclose(rows @ image @ columns.T, wanted, atol=1e-5)
    np.testing.assert_allclose(rows.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(np.asarray(augmentation._coarsening(24, tf.constant([[1.0]])))[0], np.eye(24), atol=1e-6)


def test_gamma_of_inverted_intensities_is_the_mirror_of_gamma():
    """A user would not get the second kind of gamma that nnU-Net trains with."""
    planes = np.linspace(-1, 1, 9, dtype=np.float32)[None]
    gamma = tf.constant([[1.5]])
    plain = np.asarray(augmentation._with_gamma(tf.constant(planes), gamma, tf.constant([[1.0]])))
    inverted = np.asarray(augmentation._with_gamma(tf.constant(-planes), gamma, tf.constant([[-1.0]])))
    np.testing.assert_allclose(plain, 2 * ((planes + 1) / 2) ** 1.5 - 1, atol=1e-6)
    np.testing.assert_allclose(inverted, -plain, atol=1e-6)
