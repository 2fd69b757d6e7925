"""Real and synthetic slices in one stream of batches, and the checks before they may meet."""

import math
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from synthmed.data.order import SliceOrder
from synthmed.data.schema import IGNORE, Split
from synthmed.data.selection import select
from synthmed.data.store import Store
from synthmed.data.stream import SliceSource, untuned
from synthmed.data.synthetic import SyntheticSet
from synthmed.errors import UserError
from synthmed.segmentation.augment import Augmentation, augment
from synthmed.segmentation.context import widened
from synthmed.segmentation.on_the_fly import GeneratedSlices, SliceReader
from synthmed.segmentation.schedule import Blending, Schedule

if TYPE_CHECKING:
    import tensorflow as tf

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
