"""Class probabilities of a case's slices."""

import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from synthmed.segmentation import predict as inference
from synthmed.segmentation.engine import SegmentationEngine
from synthmed.segmentation.options import SegmentOptions
from synthmed.segmentation.predict import SlicePredictor


@pytest.fixture(scope="module")
def network():
    options = SegmentOptions(batch=2, width=4, levels=2)
    network = SegmentationEngine(options, size=(16, 16), channels=1, classes=3, policy="float32").average
    random = np.random.default_rng(0)
    for weight in network.weights:
        weight.assign(random.normal(0, 0.5, weight.shape))
    return network


def test_batches_in_work_together_give_what_one_after_the_other_gives(network, monkeypatch):
    """Else a prediction depended on what else the processor did."""
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "2")
    images = np.random.default_rng(1).uniform(-1, 1, (23, 16, 16, 1)).astype(np.float32)
    together = SlicePredictor(network, batch=4)(images)
    monkeypatch.setattr(inference, "AT_ONCE", 1)
    np.testing.assert_array_equal(SlicePredictor(network, batch=4)(images), together)
    slice_by_slice = [tf.nn.softmax(network(image[None], training=False), axis=-1)[0] for image in images]
    np.testing.assert_allclose(together, slice_by_slice, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
def test_as_many_batches_at_once_as_threads_were_allowed(network, monkeypatch, threads):
    """A study gives each training one thread, and runs others beside it."""
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", str(threads))
    predictor, lock = SlicePredictor(network, batch=4), threading.Lock()
    now, most = 0, 0

    def slow(images):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.05)
        with lock:
            now -= 1
        return tf.fill([*images.shape[:3], 3], 1 / 3)

    monkeypatch.setattr(predictor, "_probabilities", slow)
    assert predictor(np.zeros((24, 16, 16, 1), np.float32)).shape == (24, 16, 16, 3)
    assert most == (1 if threads == 1 else inference.AT_ONCE)
