"""Synthetic slices drawn from a generator while a U-Net trains: no slice comes twice, and none is kept."""

import queue
import threading
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from synthmed.errors import present
from synthmed.generation.sampler import Sampler
from synthmed.generation.seeds import item_seeds

AHEAD = 4
"""Blocks that are drawn ahead of the training at most."""
_POLL_SECONDS = 0.5


@dataclass
class GeneratedSlices:
    """An endless series of pairs from a generator: slice `i` is the item `i` of a base seed, whoever draws it when.

    Attributes:
        sampler: The generator.
        path: Its run or export.
        psi: Truncation.
        block: Slices drawn at once.
    """

    sampler: Sampler
    path: Path
    psi: float = 1.0
    block: int = 8
    _readers: list["SliceReader"] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the image channels; empty for a generator of label maps alone."""
        return tuple(self.sampler.info.channels)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, background first."""
        return tuple(self.sampler.info.classes)

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of a slice."""
        return self.sampler.info.size

    @property
    def training_hashes(self) -> set[str]:
        """Content hashes of the patients that the generator was trained on."""
        return set(self.sampler.info.training_patients)

    def draw(self, seed: int, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Return images float32 `[n, H, W, C]` in [-1, 1] and labels uint8 `[n, H, W]` of items `start:stop`."""
        samples = self.sampler.sample(item_seeds(seed, start, stop), self.psi)
        images = present(samples.images, "a generator without images is refused before the training")
        return np.clip(images, -1.0, 1.0), samples.labels

    def reader(self, seed: int) -> "SliceReader":
        """Return a reader of the items of a base seed; `close` ends it."""
        reader = SliceReader(self, seed)
        self._readers.append(reader)
        return reader

    def close(self) -> None:
        """End all readers and their threads; new ones may be made."""
        while self._readers:
            self._readers.pop().close()


class SliceReader:
    """Reads `GeneratedSlices` from any position; going on from there, slices are drawn ahead.

    TensorFlow keeps the functions of a data set for ever, and with them this reader: it has to be closed.

    Args:
        source: What to draw.
        seed: Base seed of the items.
    """

    def __init__(self, source: GeneratedSlices, seed: int):
        self._source, self._seed = source, seed
        self._stream: _SliceStream | None = None
        self._next = -1
        self._closed = False

    def take(self, position: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return images and labels of the items from `position` on, waiting until they are drawn.

        Raises:
            Exception: Whatever drawing raised.
        """
        if self._closed:
            raise RuntimeError("the reader of synthetic slices has been closed")
        if self._stream is None or position != self._next:
            if self._stream is not None:
                self._stream.close()
            self._stream = _SliceStream(self._source, seed=self._seed, start=position)
        self._next = position + count
        return self._stream.take(count)

    def close(self) -> None:
        """End the thread that draws; a `take` that waits for it fails."""
        self._closed = True
        if self._stream is not None:
            self._stream.close()


class _SliceStream:
    """Slices in order; a thread draws a few blocks ahead and waits while nobody takes them."""

    def __init__(self, source: GeneratedSlices, *, seed: int, start: int):
        self._images: list[np.ndarray] = []
        self._labels: list[np.ndarray] = []
        self._blocks: queue.Queue = queue.Queue(maxsize=AHEAD)
        closed = threading.Event()
        arguments = (source, seed, start, self._blocks, closed)
        thread = threading.Thread(target=_draw_ahead, args=arguments, name="synthetic slices", daemon=True)
        thread.start()
        # Also at the end of the process, where a thread inside TensorFlow would be torn down with it.
        self.close = weakref.finalize(self, _end, thread, closed)

    def take(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        while len(self._images) < count:
            block = self._next_block()
            if isinstance(block, BaseException):
                raise block
            self._images.extend(block[0])
            self._labels.extend(block[1])
        images, labels = np.stack(self._images[:count]), np.stack(self._labels[:count])
        del self._images[:count], self._labels[:count]
        return images, labels

    def _next_block(self) -> Any:
        while self.close.alive:
            try:
                return self._blocks.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
        raise RuntimeError("the reader of synthetic slices has been closed")


def _draw_ahead(source: GeneratedSlices, seed: int, start: int, blocks: queue.Queue, closed: threading.Event) -> None:
    # A function and no method: a thread that knew its stream would keep it alive for ever.
    while not closed.is_set():
        try:
            block: object = source.draw(seed, start, start + source.block)
        except Exception as error:
            # Belongs to the training, which waits for slices; in this thread nobody would see it.
            block = error
        start += source.block
        while not closed.is_set():
            try:
                blocks.put(block, timeout=_POLL_SECONDS)
                break
            except queue.Full:
                continue
        if isinstance(block, Exception):
            return


def _end(thread: threading.Thread, closed: threading.Event) -> None:
    closed.set()
    if thread is not threading.current_thread():
        thread.join(timeout=60)
