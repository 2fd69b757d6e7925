"""What a generator is told of its slices: by the seed, or by whoever asks."""

import numpy as np
import pytest

from synthmed.generation.bundle import GeneratorBundle
from synthmed.generation.generator import RunGenerator
from synthmed.models.generators import item_attributes

SEEDS = np.array([0, 5, 7 * 10**9 + 3, 2**40])


def test_rows_are_drawn_as_often_as_training_slices_have_them(tiny_bundle):
    """A set would show other slices than the training set: too many ends, or no lesion at all."""
    bundle = tiny_bundle("base", conditional=True)
    table = bundle.info.attributes
    told = {name: np.asarray(value) for name, value in bundle.conditioning(np.arange(20000)).items()}
    rows = list(zip(table.middles, table.shown_matrix(3), table.counts, strict=True))
    for middle, shown, count in rows:
        same = np.isclose(told["position"], middle) & (told["shown"] == shown).all(axis=1)
        expected = count / sum(table.counts)
        assert abs(same.mean() - expected) < 5 * np.sqrt(expected * (1 - expected) / 20000)


def test_an_item_is_revealed_by_its_seed_alone(tiny_bundle):
    """The same seed would show another slice in another shard."""
    bundle = tiny_bundle("base", conditional=True)
    whole = item_attributes(np.arange(100), bundle.info.attributes, classes=3)
    one = item_attributes(np.array([71]), bundle.info.attributes, classes=3)
    assert all(np.array_equal(np.asarray(whole[name])[71:72], one[name]) for name in whole)


@pytest.mark.parametrize("variant", ["base", "mask", "cond"])
def test_conditioning_by_hand_equals_that_by_the_seed(tiny_bundle, variant, eager):
    """Whoever asks for a position would get another one, or it would be ignored."""
    generator = RunGenerator(tiny_bundle(variant, conditional=True))
    told = {name: np.asarray(value) for name, value in generator.bundle.conditioning(SEEDS).items()}
    alone, by_hand = generator.sample_seeds(SEEDS, 0.7), generator.sample_seeds(SEEDS, 0.7, None, told)
    other = generator.sample_seeds(SEEDS, 0.7, None, {"position": 1 - told["position"], "shown": 1 - told["shown"]})
    assert np.array_equal(alone.labels, by_hand.labels) and not np.array_equal(alone.labels, other.labels)
    if variant != "mask":
        assert np.array_equal(alone.images, by_hand.images) and not np.array_equal(alone.images, other.images)


def test_the_image_of_a_mask_is_conditional_what_the_mask_shows(tiny_bundle, eager):
    """An image generator would be told of a lesion that its mask does not have, and draw it unlabelled."""
    generator = RunGenerator(tiny_bundle("cond", conditional=True))
    masks = np.zeros((4, 32, 48), np.uint8)
    masks[:, 4:9, 4:9] = 2
    position = np.full(4, 0.3, np.float32)
    drawn = [
        generator.sample_seeds(
            SEEDS, 1.0, masks, {"position": position, "shown": np.full((4, 2), value, np.float32)}
        ).images
        for value in (0, 1)
    ]
    assert np.array_equal(*drawn)
    bundle = generator.bundle
    attributes = bundle.generator.attributes(position, np.tile(np.array([[0.0, 1.0]], np.float32), (4, 1)))
    w = bundle.generator.mapping(bundle.latents(SEEDS), attributes)
    expected = bundle.synthesis(bundle.generator.broadcast(w), SEEDS, masks)["image"]
    assert np.allclose(drawn[0], expected, atol=1e-5)


def test_without_a_seed_the_typical_slice_is_meant(tiny_bundle):
    """`serving_default` would fail for a generator that is told attributes."""
    bundle = tiny_bundle("base", conditional=True)
    z = np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32)
    # Four of thirteen training slices lie in the last quarter and show nothing: more than any others.
    attributes = bundle.generator.attributes(np.full(3, 0.875, np.float32), np.zeros((3, 2), np.float32))
    expected = bundle.generator.broadcast(bundle.generator.mapping(z, attributes))
    assert np.allclose(bundle.mapping(z), expected, atol=1e-6)


def test_a_told_generator_without_a_table_is_refused(tiny_bundle):
    """Its items could not be drawn; the fault would show far from its cause."""
    bundle = tiny_bundle("base", conditional=True)
    with pytest.raises(ValueError, match="table"):
        GeneratorBundle(bundle.info.model_copy(update={"attributes": None}), bundle.generator)
