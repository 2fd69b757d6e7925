"""Endless streams of a store's slices, read ahead: tf.data for TensorFlow, NumPy arrays from a thread for the rest."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import TYPE_CHECKING, Protocol

import numpy as np

from synthmed.data.selection import SliceOrder

if TYPE_CHECKING:
    import tensorflow as tf

AHEAD = 2
"""Batches that are read before they are asked for."""

Batch = dict[str, np.ndarray]
Reader = Callable[[int], Batch]
"""Returns a batch by where it begins in a stream; the same place always gives the same batch."""


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


def slice_reader(store: SliceSource, indices: np.ndarray, *, batch: int, seed: int) -> Reader:
    """Return what reads shuffled batches by the number of slices before them.

    Args:
        store: Where the slices are.
        indices: Numbers of the slices to draw from, for example `store.indices("train")`.
        batch: Slices a batch.
        seed: Which order (see `SliceOrder`).

    Returns:
        A function to `{"image": float32 [batch, H, W, C] in [-1, 1], "label": uint8 [batch, H, W], "index": int64
        [batch]}`, the last one being the numbers of the slices. For one thread at a time.
    """
    indices = np.asarray(indices, np.int64)
    order = SliceOrder(len(indices), seed)

    def read(position: int) -> Batch:
        chosen = indices[order.take(position, batch)]
        return {"image": store.images(chosen), "label": store.labels(chosen), "index": chosen}

    return read


def as_dataset(read: Reader, *, start: int, step: int = 1) -> "tf.data.Dataset":
    """Return an infinite data set of the batches at `start`, `start + step`, ... of a stream; their shapes are static.

    The first batch is read at once, for the shapes.
    """
    import tensorflow as tf

    first = read(start)
    names = list(first)
    types = [tf.as_dtype(value.dtype) for value in first.values()]

    def fetch(position: np.ndarray) -> list[np.ndarray]:
        batch = read(int(position))
        return [batch[name] for name in names]

    def load(position: "tf.Tensor") -> "dict[str, tf.Tensor]":
        values = tf.numpy_function(fetch, [position], types, stateful=False)
        for name, value in zip(names, values, strict=True):
            value.set_shape(first[name].shape)
        return dict(zip(names, values, strict=True))

    positions = tf.data.Dataset.range(start, np.iinfo(np.int64).max, step, output_type=tf.int64)
    return untuned(positions.map(load, num_parallel_calls=1, deterministic=True).prefetch(AHEAD))


def untuned(dataset: "tf.data.Dataset", *, private_threads: int | None = None) -> "tf.data.Dataset":
    """Return a data set without the tuner of tf.data, which sleeps for up to a minute before it lets an iterator end.

    Args:
        dataset: One whose parallel calls and buffers are given, so that there is nothing to tune.
        private_threads: Threads of its own; None shares those of the process.
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    if private_threads is not None:
        options.threading.private_threadpool_size = private_threads
    return dataset.with_options(options)


class ReadAhead(Iterator[Batch]):
    """Endless batches of a stream, of which a thread reads the next ones while one is used.

    Args:
        read: Reads a batch.
        start: Where the first one begins.
        step: From one to the next.
        ahead: Batches that wait at most.
    """

    def __init__(self, read: Reader, *, start: int, step: int = 1, ahead: int = AHEAD):
        self._read = read
        self._places = count(start, step)
        # One thread, so that the batches are read in order. It ends with `close`, or when nobody holds this any more.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self._waiting: deque[Future[Batch]] = deque()
        for _ in range(ahead):
            self._ask()

    def __next__(self) -> Batch:
        """Return the next batch.

        Raises:
            StopIteration: After `close`.
            Exception: What reading the batch raised.
        """
        if not self._waiting:
            raise StopIteration
        batch = self._waiting.popleft()
        self._ask()
        return batch.result()

    def close(self) -> None:
        """End the thread; a batch that is being read is waited for."""
        self._waiting.clear()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _ask(self) -> None:
        self._waiting.append(self._thread.submit(self._read, next(self._places)))
