import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthmed.errors import UserError
from synthmed.models.synthesis import make_pyramid


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
