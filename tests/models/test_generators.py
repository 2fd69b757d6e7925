import keras
import numpy as np
import pytest

from synthmed.models.discriminator import SliceDiscriminator
from synthmed.models.generators import SliceGenerator, attribute_size, attribute_vector, draw_items, shown_classes

NETWORK = {"size": (32, 32), "channel_base": 128, "channel_max": 16}


def test_every_position_is_named_once_and_neighbours_alike():
    """A user would get volumes whose slices jump, or in which two places look the same."""
    position = np.linspace(0, 1, 101).astype(np.float32)
    vectors = np.asarray(attribute_vector(position))
    assert vectors.shape == (101, attribute_size(position=True, class_presence=False, classes=3))
    distances = np.linalg.norm(vectors[:, None] - vectors[None], axis=-1)
    apart = np.abs(position[:, None] - position[None])
    assert distances[apart > 0.05].min() > distances[np.isclose(apart, 0.01)].max() / 2
    assert distances[np.isclose(apart, 0.01)].max() < 0.25


def test_shown_classes_are_those_of_the_label_map():
    """A user who asks for a lesion would get slices without one."""
    labels = np.zeros((3, 8, 8), np.uint8)
    labels[1, 2, 3] = 2
    labels[2, 4:, :] = 1
    np.testing.assert_array_equal(shown_classes(labels, 3), [[0, 0], [0, 1], [1, 0]])
    vectors = np.asarray(attribute_vector(class_presence=np.array([[1.0, 0.0], [0.5, 0.5]])))
    np.testing.assert_array_equal(vectors, [[1, -1], [0, 0]])


@pytest.mark.parametrize(
    "flags", [{"position": True}, {"class_presence": True}, {"position": True, "class_presence": True}]
)
def test_networks_heed_what_they_are_told(flags):
    """A user would train on attributes that never reach the image or the judgement of it."""
    keras.utils.set_random_seed(1)
    generator = SliceGenerator(
        variant="base", channels=1, classes=3, z_dim=8, w_dim=8, mapping_layers=1, **flags, **NETWORK
    )
    z, noise = np.ones((2, 8), np.float32), [np.zeros((2, *size, 1), np.float32) for size in generator.noise_sizes]
    attributes = generator.attributes(np.array([0.0, 1.0]), np.array([[0.0, 1.0], [1.0, 0.0]]))
    assert attributes.shape == (2, generator.attribute_dim)
    first, second = np.asarray(generator(z, noise, attributes=attributes))
    assert np.abs(first - second).max() > 1e-3
    discriminator = SliceDiscriminator(channels=4, attributes=generator.attribute_dim, **NETWORK)
    logits = np.asarray(discriminator(np.ones((2, 32, 32, 4), np.float32), attributes))
    assert abs(logits[0] - logits[1]) > 1e-4


def test_a_network_that_is_told_nothing_takes_no_attributes():
    """A user's earlier runs would not load."""
    generator = SliceGenerator(variant="mask", channels=1, classes=2, z_dim=8, w_dim=8, mapping_layers=1, **NETWORK)
    assert generator.attributes(np.zeros(2), np.zeros((2, 1))) is None
    assert not [variable.path for variable in generator.variables if "embedding" in variable.path]


SMALL = {"z_dim": 8, "w_dim": 12, "mapping_layers": 2, "channel_base": 256, "channel_max": 16}


def make(variant="base", size=(32, 48), channels=2, classes=3, **more):
    keras.utils.set_random_seed(0)
    return SliceGenerator(variant=variant, size=size, channels=channels, classes=classes, **SMALL, **more)


def one_hot(batch, size, classes, seed=0):
    labels = np.random.default_rng(seed).integers(0, classes, (batch, *size))
    return (2 * np.eye(classes)[labels] - 1).astype(np.float32)


def draw(generator, seeds, psi=1.0, mask_seed=0):
    mask = one_hot(len(seeds), generator.size, generator.classes, mask_seed) if generator.variant == "cond" else None
    return np.asarray(draw_items(generator, np.array(seeds, np.int64), np.full(len(seeds), psi, np.float32), mask))


@pytest.mark.parametrize(
    ("variant", "channels", "classes", "planes"),
    [("base", 1, 2, 3), ("base", 4, 3, 7), ("mask", 4, 5, 5), ("cond", 3, 4, 3)],
)
@pytest.mark.parametrize("size", [(32, 32), (48, 32), (40, 56)])
def test_any_number_of_channels_classes_and_non_square_sizes(variant, channels, classes, planes, size):
    """A user with five sequences or oblong slices would have no generator."""
    generator = make(variant, size=size, channels=channels, classes=classes)
    assert draw(generator, [1, 2]).shape == (2, *size, planes)


@pytest.mark.parametrize("variant", ["base", "mask", "cond"])
def test_keras_file_gives_the_same_generator_back(variant, tmp_path):
    """A user would lose trained weights."""
    generator = make(variant)
    generator.save(tmp_path / "generator.keras")
    restored = keras.models.load_model(tmp_path / "generator.keras")
    np.testing.assert_array_equal(draw(generator, [3, 4]), draw(restored, [3, 4]))


def test_outputs_are_float32_in_low_precision():
    """A user would find eight bits of mantissa in exported images."""
    assert draw(make(precision="mixed_bfloat16"), [1]).dtype == np.float32


def test_cond_follows_its_mask():
    """A user would lose image-mask pairs: the image has to depend on the mask that is given."""
    generator = make("cond")
    assert np.abs(draw(generator, [1], mask_seed=0) - draw(generator, [1], mask_seed=1)).max() > 1e-3


def test_psi_zero_gives_every_item_the_average_style():
    """A user would lose truncation: with psi 0 items differ by their noise alone, whose strength starts at zero."""
    generator = make()
    np.testing.assert_allclose(draw(generator, [1], psi=0.0), draw(generator, [2], psi=0.0), atol=1e-6)
    assert np.abs(draw(generator, [1]) - draw(generator, [2])).max() > 1e-2


def test_an_item_is_the_same_in_any_batch():
    """A user would lose shards that fit together."""
    generator = make()
    np.testing.assert_allclose(draw(generator, [5, 6, 7])[1], draw(generator, [6])[0], atol=1e-5)


def test_unknown_variant_is_refused():
    """A user would train something else than meant."""
    with pytest.raises(ValueError, match="base, mask, cond"):
        make("joint")
