"""Blending: the proportion in each batch, the order, and the sets that are refused."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthmed.data.synthetic import SyntheticSet
from synthmed.errors import UserError
from synthmed.segmentation import blend
from synthmed.segmentation.augment import Augmentation
from synthmed.segmentation.blend import batch_parts, blended_batches, fitting_slices

STILL = Augmentation(rotation=0, scale=0, stretch=0, translation=0, intensity=0, sharpness=0, elastic=0)


@given(batch=st.integers(2, 200), ratio=st.floats(0, 50))
def test_parts_fill_the_batch_in_the_nearest_whole_proportion(batch, ratio):
    """A user would compare ratios that were not the ones trained with."""
    real, synthetic = batch_parts(batch, ratio)
    assert real + synthetic == batch
    assert (synthetic == 0) == (ratio == 0)
    assert real >= 1
    if 1 < synthetic < batch - 1:
        assert abs(synthetic - batch * ratio / (1 + ratio)) <= 0.5 + 1e-9


def test_parts_at_the_ends():
    """A user could not ask for synthetic slices alone, or would get none with a tiny batch."""
    assert batch_parts(8, math.inf) == (0, 8)
    assert batch_parts(1, 0) == (1, 0)
    assert batch_parts(32, 1) == (16, 16)
    with pytest.raises(UserError, match="--batch 1"):
        batch_parts(1, 0.5)


@pytest.mark.parametrize("in_memory", [True, False])
def test_each_batch_holds_the_slices_that_its_ratio_says(store, write_synthetic, monkeypatch, in_memory):
    """A user's synthetic slices would never arrive, or crowd out the real ones."""
    monkeypatch.setattr(blend, "MEMORY_LIMIT", 2**30 if in_memory else 0)
    synthetic = fitting_slices(SyntheticSet.open(write_synthetic()), store)
    numbers = store.indices("train")
    real = {image.tobytes() for image in store.images(numbers)}
    drawn = {image.tobytes() for image in synthetic.images(np.arange(len(synthetic)))}

    def origins(start):
        stream = blended_batches(store, numbers, synthetic, batch=6, ratio=0.5, seed=0, augmentation=STILL, start=start)
        found = []
        for batch in stream.take(3).as_numpy_iterator():
            # Undo the rounding of the interpolation, which reproduces each value to a few ulps.
            found.append([_nearest(image, real | drawn) for image in batch["image"]])
        return found

    batches = origins(0)
    for batch in batches:
        assert [image in real for image in batch] == [True] * 4 + [False] * 2
        assert all(image in drawn for image in batch[4:])
    assert origins(1)[:2] == batches[1:]


def _nearest(image, candidates):
    arrays = {key: np.frombuffer(key, np.float32).reshape(image.shape) for key in candidates}
    key = min(arrays, key=lambda key: np.abs(arrays[key] - image).max())
    assert np.abs(arrays[key] - image).max() < 1e-5
    return key


def test_sets_that_do_not_fit_are_refused_with_the_reason(store, write_synthetic):
    """A user would train on slices that mean something else, and on a leak into the test patients."""
    refused = {
        "channels": {"channels": ["CT"]},
        "classes": {"classes": ["background", "other"]},
        "16x16": {"size": (16, 16)},
        "test patients": {"training_patients": store.hashes("test")},
        "validation patients": {"training_patients": store.training_hashes + store.hashes("val")},
    }
    for number, (reason, changes) in enumerate(refused.items()):
        folder = write_synthetic(f"set{number}", **changes)
        with pytest.raises(UserError, match=reason):
            fitting_slices(SyntheticSet.open(folder), store)


def test_a_ratio_without_a_set_is_refused(store):
    """A user who forgets --synthetic would get a real-only training under a blended name."""
    with pytest.raises(UserError, match="--synthetic"):
        blended_batches(store, store.indices("train"), None, batch=4, ratio=1, seed=0, augmentation=STILL)
