"""Batches of real and synthetic slices: context slices, slices drawn while training, and how both are blended."""

import math
import queue
import threading
import weakref
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthmed.data.schema import IGNORE, Split
from synthmed.data.selection import SliceOrder, select
from synthmed.data.store import Store
from synthmed.data.stream import SliceSource, untuned
from synthmed.data.synthetic import SyntheticSet
from synthmed.errors import UserError, present
from synthmed.generation.generator import Generator, item_seeds
from synthmed.segmentation.augment import Augmentation, augment
from synthmed.segmentation.schedule import Blending, Schedule

if TYPE_CHECKING:
    import tensorflow as tf


def with_context(images: np.ndarray, chosen: np.ndarray, context: int) -> np.ndarray:
    """Return chosen slices of one case with their neighbours.

    Args:
        images: All slices of the case in their order, `[n, H, W, C]`.
        chosen: Numbers of the slices wanted, `[m]` in 0..n-1.
        context: Neighbours on each side; beyond the first and the last slice these are repeated.

    Returns:
        `[m, H, W, (2 * context + 1) * C]`: the channels of the slice furthest before first.
    """
    return _stacked(images[_neighbours(chosen, 0, len(images) - 1, context)])


class ContextSlices:
    """A store whose slices come with their neighbours in the case.

    Args:
        store: The slices.
        context: Neighbours on each side, at least 1.

    Attributes:
        size: Rows and columns of a slice.
        channels: The store's channels once for each of the slices that are stacked.
    """

    def __init__(self, store: Store, context: int):
        self.store = store
        self.context = context
        self.size = store.size
        self.channels = stacked_channels(store.channels, context)
        cases = store.cases()
        self._first = np.array([case.first for case in cases], np.int64)
        self._last = np.array([case.first + case.slices - 1 for case in cases], np.int64)

    def images(self, indices: np.ndarray) -> np.ndarray:
        """Return float32 `[n, H, W, (2 * context + 1) * C]`, ordered as by `with_context`."""
        indices = np.asarray(indices, np.int64)
        case = np.searchsorted(self._first, indices, side="right") - 1
        wanted = _neighbours(indices, self._first[case][:, None], self._last[case][:, None], self.context)
        gathered = self.store.images(wanted.ravel())
        return _stacked(gathered.reshape(*wanted.shape, *gathered.shape[1:]))

    def labels(self, indices: np.ndarray) -> np.ndarray:
        """Return the class indices of the slices themselves, uint8 `[n, H, W]`."""
        return self.store.labels(indices)


def widened(images: np.ndarray, channels: int) -> np.ndarray:
    """Return slices `[n, H, W, C]` repeated in the place of neighbours until they have `channels`, a multiple of C."""
    return images if images.shape[-1] == channels else np.tile(images, (1, 1, 1, channels // images.shape[-1]))


def stacked_channels(channels: tuple[str, ...], context: int) -> tuple[str, ...]:
    """Return the names of the channels of a slice and of its neighbours: `T1-1`, `T1`, `T1+1`."""
    offsets = [f"{offset:+d}" if offset else "" for offset in range(-context, context + 1)]
    return tuple(f"{channel}{offset}" for offset in offsets for channel in channels)


def _neighbours(chosen: np.ndarray, first, last, context: int) -> np.ndarray:
    return np.clip(np.asarray(chosen)[:, None] + np.arange(-context, context + 1), first, last)


def _stacked(slices: np.ndarray) -> np.ndarray:
    """Turn `[n, neighbours, H, W, C]` into `[n, H, W, neighbours * C]`."""
    moved = np.moveaxis(slices, 1, 3)
    return np.ascontiguousarray(moved.reshape(*moved.shape[:3], -1))


AHEAD = 4
"""Blocks that are drawn ahead of the training at most."""
_POLL_SECONDS = 0.5


@dataclass
class GeneratedSlices:
    """An endless series of pairs from a generator: slice `i` is the item `i` of a base seed, whoever draws it when.

    Attributes:
        generator: The generator.
        path: Its run or export.
        psi: Truncation.
        block: Slices drawn at once.
    """

    generator: Generator
    path: Path
    psi: float = 1.0
    block: int = 8
    _readers: list["SliceReader"] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the image channels; empty for a generator of label maps alone."""
        return tuple(self.generator.info.channels)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, background first."""
        return tuple(self.generator.info.classes)

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of a slice."""
        return self.generator.info.size

    @property
    def training_hashes(self) -> set[str]:
        """Content hashes of the patients that the generator was trained on."""
        return set(self.generator.info.training_patients)

    def draw(self, seed: int, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Return images float32 `[n, H, W, C]` in [-1, 1] and labels uint8 `[n, H, W]` of items `start:stop`."""
        samples = self.generator.sample_seeds(item_seeds(seed, start, stop), self.psi)
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


MEMORY_LIMIT = 2**30
"""Synthetic sets up to this many bytes are held in memory; reading a file for each slice would slow the steps down."""
_SYNTHETIC_SEEDS = 2**31
"""Added to the seed for the order of synthetic slices, which then shares no stream with that of real ones."""


class SyntheticSlices:
    """The slices of a synthetic set that has been found to fit a store.

    Args:
        source: The set.
        size: Rows and columns of its slices.
    """

    def __init__(self, source: SyntheticSet, *, size: tuple[int, int]):
        self.source = source
        self.size = size
        self.channels = source.channels
        self._memory: tuple[np.ndarray, np.ndarray] | None = None
        if len(source) * (4 * len(source.channels) + 1) * math.prod(size) <= MEMORY_LIMIT:
            self._memory = source.images().astype(np.float32), source.labels().astype(np.uint8)

    def __len__(self) -> int:
        return len(self.source)

    @property
    def in_memory(self) -> bool:
        """Whether all slices are held in memory."""
        return self._memory is not None

    def images(self, indices: np.ndarray) -> np.ndarray:
        """Return float32 `[n, H, W, C]` in [-1, 1]."""
        return np.clip(self._memory[0][indices] if self._memory else self.source.images(indices), -1.0, 1.0)

    def labels(self, indices: np.ndarray) -> np.ndarray:
        """Return class indices as uint8 `[n, H, W]`."""
        return self._memory[1][indices] if self._memory else self.source.labels(indices)

    @cached_property
    def class_counts(self) -> np.ndarray:
        """Pixels of each class in each slice, int64 `[n, classes]`, background first; `IGNORE` counts nowhere.

        Raises:
            UserError: If a label map names a class that the set does not have.
        """
        counts = np.zeros((len(self), len(self.source.classes)), np.int64)
        for number in range(len(self)):
            values, pixels = np.unique(self.labels(np.array([number])), return_counts=True)
            known = values != IGNORE
            if known.any() and values[known].max() >= counts.shape[1]:
                raise UserError(
                    f"case {self.source.cases[number]} in {self.source.folder} has a label map with class "
                    f"{values[known].max()}, the store's last is {counts.shape[1] - 1}: generate it again"
                )
            counts[number, values[known]] = pixels[known]
        return counts


def check_fits(synthetic: SyntheticSet | GeneratedSlices, store: Store) -> None:
    """Do nothing where synthetic slices may be blended with the store's, as far as one label map and sidecars tell.

    Raises:
        UserError: If channels, classes or size differ, or they come from a generator that was trained on a patient of
            the store's validation or test split.
    """
    where = synthetic.path if isinstance(synthetic, GeneratedSlices) else synthetic.folder
    for what, own, wanted in (
        ("channels", synthetic.channels, store.channels),
        ("classes", synthetic.classes, store.classes),
    ):
        if tuple(own) != tuple(wanted):
            raise UserError(
                f"{where} has the {what} {', '.join(own) or 'none'}, the store {store.path} {', '.join(wanted)}: "
                "generate from a model trained on this store"
            )
    size = tuple(
        synthetic.size if isinstance(synthetic, GeneratedSlices) else synthetic.labels(np.array([0])).shape[1:]
    )
    if size != tuple(store.size):
        raise UserError(
            f"{where} has slices of {size[0]}x{size[1]}, the store {store.path} {store.size[0]}x{store.size[1]}: "
            "generate from a model trained on this store"
        )
    refuse_leaks(where, synthetic.training_hashes, store)


def fitting_slices(synthetic: SyntheticSet | GeneratedSlices, store: Store) -> SyntheticSlices | GeneratedSlices:
    """Return synthetic slices, held in memory where they are few, after checking that they fit the store.

    Raises:
        UserError: As `check_fits`, and if a file of a set in memory cannot be read or names a class too many.
    """
    check_fits(synthetic, store)
    if isinstance(synthetic, GeneratedSlices):
        return synthetic
    slices = SyntheticSlices(synthetic, size=store.size)
    if slices.in_memory:
        _ = slices.class_counts
    return slices


def refuse_leaks(where: Path, taught_by: set[str], store: Store) -> None:
    """Do nothing where a model was taught by no case that scores are taken on.

    Args:
        where: What came from the model, or the model.
        taught_by: Content hashes of its training cases.
        store: Whose validation and test cases count.

    Raises:
        UserError: If it was.
    """
    held_out: dict[str, Split] = {"test": "test", "validation": "val"}
    for name, split in held_out.items():
        leaked = taught_by & set(store.hashes(split))
        if leaked:
            raise UserError(
                f"{where} comes from a model trained on {len(leaked)} of the {name} cases of {store.path}: "
                "scores would be too good; train one on this store's training patients"
            )


def offered(class_counts: np.ndarray, numbers: np.ndarray, blending: Blending, *, seed: int) -> np.ndarray:
    """Return the slices that one round over them offers, int64, those of rare classes repeated where asked for.

    Args:
        class_counts: Pixels of each class in each slice, `[slices, classes]`, background first.
        numbers: Slices to choose from; what the store's plan repeats is repeated by `sampling="balanced"` afresh.
        blending: Its `sampling` says how.
        seed: Of the random rounding of repeats.
    """
    if blending.sampling == "uniform":
        return numbers
    each = np.unique(numbers)
    if not (class_counts[each, 1:] > 0).any():
        return numbers
    return each[select(class_counts[each], "balanced", seed=seed)]


def blended_batches(
    real: SliceSource,
    indices: np.ndarray,
    synthetic: SyntheticSlices | GeneratedSlices | None,
    *,
    batch: int,
    ratio: float,
    seed: int,
    augmentation: Augmentation,
    blending: Blending | None = None,
    steps: int = 1,
    start: int = 0,
) -> "tf.data.Dataset":
    """Return an infinite stream of augmented batches, the real slices first in each.

    Args:
        real: The store.
        indices: Its slices to train on.
        synthetic: Slices to blend in; needed unless no step has any.
        batch: Slices a batch.
        ratio: Synthetic slices for each real one, see `batch_parts`.
        seed: Of order and augmentation.
        augmentation: What is done to each slice.
        blending: Schedule of the ratio, weight and sampling; None for a constant ratio and equal weights.
        steps: Steps of the whole training, to which the schedule refers.
        start: Batches consumed already; a resumed training passes its step.

    Returns:
        A data set of `{"image": float32 [batch, H, W, C], "label": uint8 [batch, H, W], "weight": float32 [batch],
        "synthetic": bool [batch]}`, the last saying which slices are no real ones.
    """
    import tensorflow as tf

    blending = blending or Blending()
    schedule = Schedule(batch=batch, ratio=ratio, steps=steps, blending=blending)
    sources: list[_Ordered | SliceReader | None] = [_Ordered(real, indices, seed) if schedule.uses_real else None, None]
    if schedule.uses_synthetic:
        if synthetic is None:
            raise UserError(f"--ratio {ratio:g} needs synthetic slices: give --synthetic DIR")
        sources[1] = _synthetic_source(synthetic, blending, seed + _SYNTHETIC_SEEDS)

    def fetch(step: np.ndarray) -> tuple[np.ndarray, ...]:
        counts, before = schedule.parts(int(step)), schedule.before(int(step))
        parts = [
            source.take(first, count)
            for source, first, count in zip(sources, before, counts, strict=True)
            if source is not None and count
        ]
        image = np.concatenate([widened(image, len(real.channels)) for image, _ in parts])
        return image, np.concatenate([label for _, label in parts]), np.repeat([False, True], counts)

    def load(step: "tf.Tensor") -> "tuple[tf.Tensor, ...]":
        image, label, drawn = tf.numpy_function(fetch, [step], [tf.float32, tf.uint8, tf.bool], stateful=False)
        image.set_shape((batch, *real.size, len(real.channels)))
        label.set_shape((batch, *real.size))
        drawn.set_shape((batch,))
        return step, image, label, drawn

    def change(step: "tf.Tensor", image: "tf.Tensor", label: "tf.Tensor", drawn: "tf.Tensor") -> "dict[str, tf.Tensor]":
        image, label = augment(image, label, seed=seed, step=step, options=augmentation)
        weight = tf.where(drawn, tf.constant(blending.synthetic_weight, tf.float32), 1.0)
        return {"image": image, "label": label, "weight": weight, "synthetic": drawn}

    numbers = tf.data.Dataset.range(start, np.iinfo(np.int64).max)
    loaded = numbers.map(load, num_parallel_calls=1, deterministic=True).prefetch(2)
    batches = loaded.map(change, num_parallel_calls=2, deterministic=True).prefetch(2)
    # `load` may wait for slices that a thread draws with TensorFlow: the two must not wait for the same threads.
    return untuned(batches, private_threads=4 if isinstance(synthetic, GeneratedSlices) else None)


def _synthetic_source(
    synthetic: SyntheticSlices | GeneratedSlices, blending: Blending, seed: int
) -> "_Ordered | SliceReader":
    if isinstance(synthetic, GeneratedSlices):
        return synthetic.reader(seed)
    everything = np.arange(len(synthetic))
    if blending.sampling == "balanced":
        everything = offered(synthetic.class_counts, everything, blending, seed=seed)
    return _Ordered(synthetic, everything, seed)


class _Ordered:
    """Slices that lie somewhere, round after round in new orders."""

    def __init__(self, source: SliceSource, indices: np.ndarray, seed: int):
        self._source, self._indices = source, np.asarray(indices, np.int64)
        self._order = SliceOrder(len(self._indices), seed)

    def take(self, position: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = self._indices[self._order.take(position, count)]
        return self._source.images(chosen), self._source.labels(chosen)
