"""Deep supervision: which levels, what they weigh, where their pixels lie."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthmed.models.unet import (
    ConvolutionBlock,
    DeepSupervision,
    InstanceNormalization,
    UNet,
    coarse_labels,
    level_weights,
    levels_for,
    supervised_levels,
    width_for,
)


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


def random_images(*shape, seed=0):
    """Return float32 normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@settings(max_examples=8, deadline=None)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    channels=st.integers(1, 4),
    classes=st.integers(2, 5),
    levels=st.integers(1, 4),
)
def test_logits_have_the_size_of_the_input(size, channels, classes, levels):
    """A user with non-square slices, odd sides or many channels would lose pixels or get an error."""
    images = random_images(2, *size, channels)
    logits = UNet(classes, width=4, levels=levels)(images)
    assert logits.shape == (2, *size, classes)
    assert np.isfinite(np.asarray(logits)).all()


def test_levels_follow_from_the_size():
    """A user would get a network that cannot see far enough, or one whose deepest level is empty."""
    assert [levels_for((side, side)) for side in (3, 8, 32, 64, 128, 4096)] == [1, 2, 4, 5, 6, 7]
    assert levels_for((64, 16)) == levels_for((16, 16))


def test_logits_are_float32_under_mixed_precision():
    """A user of bfloat16 would lose the loss's precision: eight bits cannot hold a small cross-entropy."""
    model = UNet(3, width=4, levels=2, dtype="mixed_bfloat16")
    images = random_images(2, 16, 16, 1)
    logits = model(images)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    assert model.encoder[0].compute_dtype == "bfloat16"
    assert {variable.dtype for variable in model.variables} == {"float32"}
    full = UNet(3, width=4, levels=2)
    full.build(images.shape)
    full.set_weights(model.get_weights())
    np.testing.assert_allclose(np.asarray(logits), np.asarray(full(images)), atol=0.15)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_saved_model_predicts_the_same(tmp_path, policy):
    """A user would lose the trained network if it did not come back from its file as it was."""
    model = UNet(3, width=5, levels=3, max_width=12, encoder_convolutions=1, decoder_convolutions=2, dtype=policy)
    images = random_images(1, 20, 12, 2)
    before = np.asarray(model(images))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == model.get_config()
    np.testing.assert_array_equal(np.asarray(loaded(images)), before)


@pytest.mark.parametrize("layer", [InstanceNormalization(epsilon=1e-3), ConvolutionBlock(3, convolutions=2)])
def test_layers_come_back_from_their_config(layer):
    """A user who puts our blocks into another model could not load that model again."""
    config = keras.saving.serialize_keras_object(layer)
    assert keras.saving.deserialize_keras_object(config).get_config() == layer.get_config()


def test_instance_normalisation_is_group_normalisation_with_one_channel_a_group():
    """A user would train something else than the documented layer."""
    images = 3 * random_images(2, 9, 7, 4) + np.array([0, 1, -2, 5], np.float32)
    ours, reference = InstanceNormalization(), keras.layers.GroupNormalization(groups=-1, epsilon=1e-5)
    ours.build(images.shape)
    reference.build(images.shape)
    weights = [random_images(4, seed=1), random_images(4, seed=2)]
    ours.set_weights(weights)
    reference.set_weights(weights)
    np.testing.assert_allclose(np.asarray(ours(images)), np.asarray(reference(images)), atol=2e-5)


def test_a_constant_image_gives_finite_gradients(tf):
    """A user with empty slices in the batch would see the training turn to NaN."""
    model = UNet(2, width=4, levels=3)
    images = tf.fill((2, 16, 16, 1), -1.0)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(model(images)))
    assert all(np.isfinite(gradient.numpy()).all() for gradient in tape.gradient(loss, model.trainable_variables))


def test_every_weight_takes_part(tf):
    """A user would pay for weights that do nothing if a level were not wired up."""
    model = UNet(2, width=4, levels=3)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(random_images(2, 16, 16, 1))[..., 0] * random_images(2, 16, 16, seed=1))
    gradients = tape.gradient(loss, model.trainable_variables)
    assert all(gradient is not None and np.abs(gradient.numpy()).max() > 0 for gradient in gradients)


def test_width_follows_from_size_and_number_of_slices():
    """A user with many slices would get a network too small for them; one with large slices would wait."""
    widths = [width_for((side, side), count) for side in (48, 512) for count in (100, 5000)]
    assert widths == [24, 32, 16, 24]


@pytest.mark.parametrize(
    "options", [{"classes": 1}, {"classes": 2, "width": 0}, {"classes": 2, "levels": 0}, {"classes": 2, "context": -1}]
)
def test_impossible_options_are_refused(options):
    """A user would otherwise see a shape error from deep inside Keras."""
    with pytest.raises(ValueError, match="at least"):
        UNet(**options)
