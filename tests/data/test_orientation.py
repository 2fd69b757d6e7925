"""Tests of synthmed.data.geometry."""

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest

from synthmed.data.geometry import VIEWS, axis_codes, turn, turn_affine, turn_shape

ALL_CODES = ["".join(code) for axes in permutations(("LR", "PA", "IS")) for code in product(*axes)]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("codes", ALL_CODES)
def test_every_voxel_keeps_its_place_in_the_world(codes, view, affine_of):
    """Labels would be drawn over the wrong side of the body."""
    affine = affine_of((1.0, 2.0, 3.0), codes)
    volume = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    turned = turn(volume, source=codes, target=view)
    moved = turn_affine(affine, volume.shape, source=codes, target=view)
    assert turned.shape == turn_shape(volume.shape, source=codes, target=view)
    assert axis_codes(moved) == view
    for index in [(0, 0, 0), (3, 0, 2), (1, 4, 5)]:
        where = np.argwhere(turned == volume[index])[0]
        np.testing.assert_allclose(nib.affines.apply_affine(moved, where), nib.affines.apply_affine(affine, index))
    np.testing.assert_array_equal(turn(turned, source=view, target=codes), volume)


def test_an_affine_without_direction_is_refused():
    """A broken header would be taken for an orientation."""
    with pytest.raises(ValueError, match="no direction"):
        axis_codes(np.diag([1.0, 0.0, 1.0, 1.0]))
