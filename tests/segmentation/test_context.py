"""Neighbouring slices: from the same case alone, in their order, the same in training and prediction."""

import numpy as np
import pytest

from synthmed.segmentation.blend import ContextSlices, stacked_channels, widened, with_context
from synthmed.segmentation.predict import SlicePredictor


class Recorder:
    """A stand-in for a network that remembers what it was given."""

    context = 1

    def __init__(self):
        self.seen = []

    def __call__(self, images, *, training):
        self.seen.append(np.array(images))
        return images[..., :2]


@pytest.mark.parametrize("context", [1, 2])
def test_neighbours_come_from_the_same_case(store, context):
    """A user's network would see another patient beyond the first and last slice of a case."""
    source = ContextSlices(store, context)
    channels = len(store.channels)
    assert len(source.channels) == (2 * context + 1) * channels
    for case in store.cases():
        last = case.first + case.slices - 1
        for number in (case.first, case.first + 1, last - 1, last):
            found = source.images(np.array([number]))[0]
            for place, offset in enumerate(range(-context, context + 1)):
                expected = store.images(np.array([min(max(number + offset, case.first), last)]))[0]
                np.testing.assert_array_equal(found[..., place * channels : (place + 1) * channels], expected)
    numbers = np.array([0, 5, 0])
    np.testing.assert_array_equal(source.labels(numbers), store.labels(numbers))


def test_training_and_prediction_stack_alike(store, eager, monkeypatch):
    """A user's network would be applied to channels in another order than it was trained with."""
    case = store.cases("val")[0]
    numbers = np.arange(case.first, case.first + case.slices)
    stacked = ContextSlices(store, 1).images(numbers)
    images = store.images(numbers)
    np.testing.assert_array_equal(with_context(images, np.arange(len(images)), 1), stacked)
    np.testing.assert_array_equal(with_context(images, np.arange(len(images)), 0), images)
    # Batches of one thread come in order.
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")
    network = Recorder()
    SlicePredictor(network, batch=5)(images)
    np.testing.assert_array_equal(np.concatenate(network.seen)[: len(images)], stacked)


def test_slices_without_neighbours_are_repeated(store):
    """A user's synthetic slices would not fit a network that sees neighbours."""
    numbers = np.array([3, 7])
    channels = ContextSlices(store, 1).channels
    images = widened(store.images(numbers), len(channels))
    assert channels == stacked_channels(store.channels, 1) and images.shape[-1] == len(channels)
    for part in np.split(images, 3, axis=-1):
        np.testing.assert_array_equal(part, store.images(numbers))
