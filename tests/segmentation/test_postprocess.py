"""Mirrored slices and largest pieces."""

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from synthmed.segmentation.postprocess import FlippedPredictor, largest_components


def left_half(images):
    """Stand in for a network that finds class 1 in the left half, brighter pixels with more certainty."""
    probability = np.clip(images[..., 0], 0, 1) * (np.arange(images.shape[2]) < images.shape[2] // 2)
    return np.stack([1 - probability, probability], axis=-1).astype(np.float32)


def test_flips_are_undone_and_averaged():
    """A user's average would mix pixels of different places."""
    images = np.random.default_rng(0).uniform(size=(3, 6, 8, 1)).astype(np.float32)
    plain = left_half(images)
    np.testing.assert_array_equal(FlippedPredictor(left_half)(images), plain)
    # What is found in a mirrored picture's left half lies in the right half of the picture.
    other = np.zeros_like(plain[..., 1])
    other[:, :, 4:] = images[:, :, 4:, 0]
    for flips, expected in (
        ("rows", plain[..., 1]),
        ("columns", (plain[..., 1] + other) / 2),
        ("both", (plain[..., 1] + other) / 2),
    ):
        found = FlippedPredictor(left_half, flips)(images)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found[..., 1], expected, atol=1e-6)
        np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)


def test_a_pixel_wise_predictor_is_not_changed_by_flips():
    """A user's prediction would move by a pixel."""
    images = np.random.default_rng(1).uniform(size=(2, 5, 7, 3)).astype(np.float32)
    for flips in ("rows", "columns", "both"):
        np.testing.assert_allclose(FlippedPredictor(lambda batch: batch, flips)(images), images, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    labels=arrays.arrays(np.uint8, arrays.array_shapes(min_dims=3, max_dims=3, max_side=6), elements=st.integers(0, 2))
)
def test_the_largest_piece_of_each_class_is_that_of_simpleitk(labels):
    """A user would lose the organ and keep the speck."""
    cleaned = largest_components(labels)
    for index in (1, 2):
        mask = (labels == index).astype(np.uint8)
        pieces = SimpleITK.ConnectedComponent(SimpleITK.GetImageFromArray(mask), True)
        sizes = np.bincount(SimpleITK.GetArrayFromImage(pieces).ravel())[1:]
        kept = np.count_nonzero(cleaned == index)
        assert kept == (sizes.max() if len(sizes) else 0)
        assert (mask[cleaned == index] == 1).all()
    assert set(np.unique(cleaned)) <= set(np.unique(labels)) | {0}


@pytest.mark.parametrize("shape", [(7, 9), (7, 9, 1), (4, 5, 6)])
def test_pictures_and_volumes_alike(shape):
    """A user with pictures would get an error; one with volumes the largest piece of each slice."""
    labels = np.zeros(shape, np.uint8)
    labels[0, :2] = 1
    labels[3, :3] = 1
    cleaned = largest_components(labels)
    assert not cleaned[0].any() and (cleaned[3] == labels[3]).all()
