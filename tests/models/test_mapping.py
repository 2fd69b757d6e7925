import numpy as np
import pytest

from synthmed.models.mapping import MappingNetwork


def test_styles_do_not_depend_on_the_length_of_z():
    """A user would lose the normalisation of z that keeps styles on one shell."""
    mapping = MappingNetwork(6, layers=2)
    z = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    np.testing.assert_allclose(mapping(z), mapping(10 * z), atol=1e-4)


def test_average_follows_the_mean_style_with_its_decay():
    """A user would lose truncation towards the real average."""
    mapping = MappingNetwork(4)
    mapping.build((None, 4))
    mapping.track_average(np.full(4, 2.0, np.float32))
    np.testing.assert_allclose(mapping.w_average, 2.0 * (1 - mapping.AVERAGE_DECAY), rtol=1e-4)


@pytest.mark.parametrize("psi", [0.0, 0.3, 1.0])
def test_truncation_is_linear_between_average_and_style(psi):
    """A user would get another psi than asked for."""
    mapping = MappingNetwork(3)
    mapping.build((None, 3))
    mapping.w_average.assign([1.0, -2.0, 0.5])
    w = np.array([[3.0, 3.0, 3.0]], np.float32)
    expected = (1 - psi) * np.array([[1.0, -2.0, 0.5]]) + psi * w
    np.testing.assert_allclose(mapping.truncate(w, np.array([psi], np.float32)), expected, atol=1e-6)
