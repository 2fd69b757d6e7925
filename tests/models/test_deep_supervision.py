"""Deep supervision: which levels, what they weigh, where their pixels lie."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthmed.models.unet import DeepSupervision, UNet, coarse_labels, level_weights, supervised_levels


@pytest.mark.parametrize(("levels", "supervised"), [(1, 1), (2, 1), (3, 1), (4, 2), (5, 3), (7, 5)])
def test_weights_halve_and_sum_to_1(levels, supervised):
    """A user would get another balance of resolutions than nnU-Net's."""
    assert supervised_levels(levels) == supervised
    weights = level_weights(supervised)
    assert sum(weights) == pytest.approx(1)
    assert [a / b for a, b in zip(weights[:-1], weights[1:], strict=True)] == [2] * (supervised - 1)


@settings(max_examples=6, deadline=None)
@given(size=st.tuples(st.integers(8, 40), st.integers(8, 40)))
def test_logits_of_a_level_lie_on_its_labels(size):
    """A user with sides that are no power of two would get an error, or labels beside the anatomy."""
    network = UNet(3, width=2, levels=5)
    heads = DeepSupervision(3, count=2)
    features = network.features(np.zeros((1, *size, 1), np.float32))
    for level, logits in enumerate(heads(features[1:3], size=size), start=1):
        labels = coarse_labels(np.zeros((1, *size), np.uint8), level)
        assert logits.shape == (*labels.shape, 3)


def test_a_coarse_label_is_the_one_nearest_to_its_middle():
    """A user's lower levels would be taught anatomy shifted by pixels."""
    rows = np.broadcast_to(np.arange(16)[None, :, None], (1, 16, 16))
    for level in (1, 2, 3):
        found = coarse_labels(rows, level)[0, :, 0]
        middles = 2**level * np.arange(len(found)) + (2**level - 1) / 2
        assert np.abs(found - middles).max() == 0.5


def test_heads_are_float32_and_no_part_of_the_network():
    """A user's exported network would carry weights that nothing uses, or lose precision of the loss."""
    network = UNet(3, width=2, levels=5, dtype="mixed_bfloat16")
    heads = DeepSupervision(3, count=2, dtype="mixed_bfloat16")
    images = np.random.default_rng(0).standard_normal((1, 32, 32, 1)).astype(np.float32)
    before = len(network(images).shape), len(network.weights)
    found = heads(network.features(images)[1:3], size=(32, 32))
    assert {keras.backend.standardize_dtype(logits.dtype) for logits in found} == {"float32"}
    assert before == (4, len(network.weights))
    assert len(heads.weights) == 4
    config = keras.saving.serialize_keras_object(heads)
    assert keras.saving.deserialize_keras_object(config).get_config() == heads.get_config()
