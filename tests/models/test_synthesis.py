import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthmed.errors import UserError
from synthmed.models.synthesis import leaky_clip, make_pyramid


@given(height=st.integers(4, 9), width=st.integers(4, 9), doublings=st.integers(3, 6))
def test_levels_double_up_to_the_size(height, width, doublings):
    """A user would get slices of another size than the store's."""
    size = (height << doublings, width << doublings)
    pyramid = make_pyramid(size, channel_base=2048, channel_max=128)
    assert pyramid.sizes[-1] == size
    assert min(pyramid.sizes[0]) >= 4
    assert all(b == (2 * a[0], 2 * a[1]) for a, b in zip(pyramid.sizes, pyramid.sizes[1:], strict=False))
    assert all(16 <= channels <= 128 for channels in pyramid.channels)


@pytest.mark.parametrize("size", [(50, 50), (64, 20), (7, 64)])
def test_sizes_that_cannot_be_halved_are_refused_with_the_mend(size):
    """A user would get an error from inside TensorFlow."""
    with pytest.raises(UserError, match="--size"):
        make_pyramid(size, channel_base=2048, channel_max=128)


def test_mask_channels_are_nearly_flat_beyond_one_and_never_without_gradient(tf):
    """A user would get empty masks: a generator that saturates once never learns again."""
    values = tf.constant([-30.0, -1.5, -0.5, 0.0, 0.7, 2.0, 50.0])
    with tf.GradientTape() as tape:
        tape.watch(values)
        clipped = leaky_clip(values)
    np.testing.assert_allclose(clipped, [-3.9, -1.05, -0.5, 0.0, 0.7, 1.1, 5.9], rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(clipped, values), [0.1, 0.1, 1, 1, 1, 0.1, 0.1], rtol=1e-5)


def test_largest_plane_stays_the_largest():
    """A user would get other labels than the generator meant."""
    planes = np.random.default_rng(0).normal(0, 3, (100, 5)).astype(np.float32)
    np.testing.assert_array_equal(np.asarray(leaky_clip(planes)).argmax(axis=-1), planes.argmax(axis=-1))
    assert float(leaky_clip(np.float32(1.0))) == pytest.approx(1.0)
