"""From prepared slices to class probabilities, and how well they match on whole cases."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from synthmed.data.schema import IGNORE, Split
from synthmed.data.store import Store
from synthmed.hardware import thread_count
from synthmed.segmentation.context import with_context
from synthmed.segmentation.metrics import dice

BATCH = 12
"""48 slices of 64 x 64 took a sixth longer in batches of 4 and 3 to 9 % in batches of 8; larger ones pad more."""
AT_ONCE = 3
"""Batches in work at a time: one fills the threads while another waits for an operation's last part."""


class SlicePredictor:
    """Applies a network in batches of one size, so that a slice's result does not depend on what comes with it.

    Args:
        network: Gives logits `[batch, H, W, classes]` for images `[batch, H, W, C]`. A `UNet` that was trained on
            slices with their neighbours is given these from the slices that come in one call.
        batch: Slices at a time; the last batch is padded, of which small batches lose less.
    """

    def __init__(self, network: keras.Model, *, batch: int = BATCH):
        self.batch = batch
        self.context: int = getattr(network, "context", 0)
        self._probabilities = tf.function(lambda images: tf.nn.softmax(network(images, training=False), axis=-1))

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return class probabilities, float32 `[n, H, W, classes]`, of all slices of a case, `[n, H, W, C]`."""
        # Whoever gave TensorFlow one thread, as studies do, is not given more.
        with ThreadPoolExecutor(AT_ONCE if thread_count() > 1 else 1) as pool:
            return np.concatenate(list(pool.map(partial(self._batch, images), range(0, len(images), self.batch))))

    def _batch(self, images: np.ndarray, first: int) -> np.ndarray:
        numbers = np.arange(first, min(first + self.batch, len(images)))
        part = with_context(images, numbers, self.context)
        missing = self.batch - len(part)
        padded = np.concatenate([part, np.zeros((missing, *part.shape[1:]), part.dtype)]) if missing else part
        return self._probabilities(tf.constant(padded, tf.float32)).numpy()[: len(part)]


def validate(predictor: SlicePredictor, store: Store, split: Split) -> dict[str, Any]:
    """Return Dice on whole cases of a split, in the store's geometry.

    Returns:
        "dice": mean over the foreground classes of the mean over cases; "classes": the mean of each; "cases": how many
        cases. A class that is in neither map of a case does not count there (see `metrics`), nor do pixels whose class
        the reference does not know.
    """
    rows = []
    for case in store.cases(split):
        numbers = np.arange(case.first, case.first + case.slices)
        reference = store.labels(numbers)
        predicted = np.where(reference == IGNORE, IGNORE, predictor(store.images(numbers)).argmax(-1))
        rows.append([dice(predicted == index, reference == index) for index in range(1, len(store.classes))])
    table = np.asarray(rows, float)
    known = ~np.isnan(table)
    sums = np.where(known, table, 0.0).sum(0)
    means = [float(total / count) if count else None for total, count in zip(sums, known.sum(0), strict=True)]
    present = [mean for mean in means if mean is not None]
    return {
        "dice": float(np.mean(present)) if present else None,
        "classes": dict(zip(store.classes[1:], means, strict=True)),
        "cases": len(rows),
    }
