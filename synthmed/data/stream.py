"""tf.data over a store's slices."""

from typing import TYPE_CHECKING, Protocol

import numpy as np

from synthmed.data.order import SliceOrder

if TYPE_CHECKING:
    import tensorflow as tf


class SliceSource(Protocol):
    """Whatever gives slices by their numbers: a store, or a synthetic set beside it."""

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of a slice."""

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the image channels."""

    def images(self, indices: np.ndarray) -> np.ndarray:
        """Return slices as float32 `[n, H, W, C]` in [-1, 1]."""

    def labels(self, indices: np.ndarray) -> np.ndarray:
        """Return class indices as uint8 `[n, H, W]`."""


def slice_batches(
    store: SliceSource, indices: np.ndarray, *, batch: int, seed: int, start: int = 0
) -> "tf.data.Dataset":
    """Return an infinite stream of shuffled batches.

    Args:
        store: Where the slices are.
        indices: Numbers of the slices to draw from, for example `store.indices("train")`.
        batch: Slices a batch.
        seed: Which order (see `SliceOrder`).
        start: Slices consumed already; a resumed training passes what it has seen.

    Returns:
        A data set of `{"image": float32 [batch, H, W, C] in [-1, 1], "label": uint8 [batch, H, W], "index": int64
        [batch]}`, the last one being the numbers of the slices.
    """
    import tensorflow as tf

    indices = np.asarray(indices, np.int64)
    order = SliceOrder(len(indices), seed)

    def fetch(position: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        chosen = indices[order.take(int(position), batch)]
        return store.images(chosen), store.labels(chosen), chosen

    def load(position: "tf.Tensor") -> "dict[str, tf.Tensor]":
        image, label, index = tf.numpy_function(fetch, [position], [tf.float32, tf.uint8, tf.int64], stateful=False)
        image.set_shape((batch, *store.size, len(store.channels)))
        label.set_shape((batch, *store.size))
        index.set_shape((batch,))
        return {"image": image, "label": label, "index": index}

    positions = tf.data.Dataset.range(start, np.iinfo(np.int64).max, batch, output_type=tf.int64)
    return positions.map(load, num_parallel_calls=1, deterministic=True).prefetch(2)
