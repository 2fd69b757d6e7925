import keras
import numpy as np
import pytest

from synthmed.models.discriminator import SliceDiscriminator
from synthmed.models.generators import SliceGenerator, attribute_size, attribute_vector, shown_classes

SMALL = {"size": (32, 32), "channel_base": 128, "channel_max": 16}


def test_every_position_is_named_once_and_neighbours_alike():
    """A user would get volumes whose slices jump, or in which two places look the same."""
    position = np.linspace(0, 1, 101).astype(np.float32)
    vectors = np.asarray(attribute_vector(position))
    assert vectors.shape == (101, attribute_size(position=True, shown=False, classes=3))
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
    told = np.asarray(attribute_vector(shown=np.array([[1.0, 0.0], [0.5, 0.5]])))
    np.testing.assert_array_equal(told, [[1, -1], [0, 0]])


@pytest.mark.parametrize("flags", [{"position": True}, {"shown": True}, {"position": True, "shown": True}])
def test_networks_heed_what_they_are_told(flags):
    """A user would train on attributes that never reach the image or the judgement of it."""
    keras.utils.set_random_seed(1)
    generator = SliceGenerator(
        variant="base", channels=1, classes=3, z_dim=8, w_dim=8, mapping_layers=1, **flags, **SMALL
    )
    z, noise = np.ones((2, 8), np.float32), [np.zeros((2, *size, 1), np.float32) for size in generator.noise_sizes]
    attributes = generator.attributes(np.array([0.0, 1.0]), np.array([[0.0, 1.0], [1.0, 0.0]]))
    assert attributes.shape == (2, generator.attribute_dim)
    first, second = np.asarray(generator(z, noise, attributes=attributes))
    assert np.abs(first - second).max() > 1e-3
    discriminator = SliceDiscriminator(planes=4, attributes=generator.attribute_dim, **SMALL)
    logits = np.asarray(discriminator(np.ones((2, 32, 32, 4), np.float32), attributes))
    assert abs(logits[0] - logits[1]) > 1e-4


def test_a_network_that_is_conditional_nothing_takes_no_attributes():
    """A user's earlier runs would not load."""
    generator = SliceGenerator(variant="mask", channels=1, classes=2, z_dim=8, w_dim=8, mapping_layers=1, **SMALL)
    assert generator.attributes(np.zeros(2), np.zeros((2, 1))) is None
    assert not [variable.path for variable in generator.variables if "embedding" in variable.path]
