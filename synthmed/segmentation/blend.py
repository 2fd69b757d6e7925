"""Real and synthetic slices in one stream of batches, in a fixed proportion, and the checks before they may meet."""

import math
from typing import TYPE_CHECKING

import numpy as np

from synthmed.data.store import Store
from synthmed.data.stream import SliceSource, slice_batches
from synthmed.data.synthetic import SyntheticSet
from synthmed.errors import UserError
from synthmed.segmentation.augment import Augmentation, augment

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

    def images(self, indices: np.ndarray) -> np.ndarray:
        """Return float32 `[n, H, W, C]` in [-1, 1]."""
        return np.clip(self._memory[0][indices] if self._memory else self.source.images(indices), -1.0, 1.0)

    def labels(self, indices: np.ndarray) -> np.ndarray:
        """Return class indices as uint8 `[n, H, W]`."""
        return self._memory[1][indices] if self._memory else self.source.labels(indices)


def fitting_slices(synthetic: SyntheticSet, store: Store) -> SyntheticSlices:
    """Return the slices of a synthetic set after checking that they may be blended with the store's.

    Raises:
        UserError: If channels, classes or size differ, or the set comes from a generator that was trained on a
            patient of the store's validation or test split.
    """
    where = synthetic.folder
    for what, own, wanted in (
        ("channels", synthetic.channels, store.channels),
        ("classes", synthetic.classes, store.classes),
    ):
        if tuple(own) != tuple(wanted):
            raise UserError(
                f"{where} has the {what} {', '.join(own) or 'none'}, the store {store.path} {', '.join(wanted)}: "
                "generate from a model trained on this store"
            )
    size = tuple(synthetic.labels(np.array([0])).shape[1:])
    if size != tuple(store.size):
        raise UserError(
            f"{where} has slices of {size[0]}x{size[1]}, the store {store.path} {store.size[0]}x{store.size[1]}: "
            "generate from a model trained on this store"
        )
    for split, name in (("test", "test"), ("val", "validation")):
        leaked = synthetic.training_hashes & set(store.hashes(split))  # type: ignore[arg-type]
        if leaked:
            raise UserError(
                f"{where} comes from a generator trained on {len(leaked)} of the {name} patients of {store.path}: "
                "scores would be too good; train a generator on this store's training patients"
            )
    slices = SyntheticSlices(synthetic, size=store.size)
    highest = int(slices.labels(np.arange(len(slices))).max()) if slices._memory else 0
    if highest >= len(store.classes):
        raise UserError(f"{where} has a label map with class {highest}, the store's last is {len(store.classes) - 1}")
    return slices


def batch_parts(batch: int, ratio: float) -> tuple[int, int]:
    """Return how many real and how many synthetic slices a batch holds: `ratio` synthetic ones for each real one.

    A batch has whole slices, so the proportion is the nearest that it allows, with at least one of each kind unless
    the ratio is 0 or infinite.

    Raises:
        UserError: If a batch of 1 would have to hold both.
    """
    if ratio == 0:
        return batch, 0
    if math.isinf(ratio):
        return 0, batch
    if batch < 2:
        raise UserError("--batch 1 cannot hold real and synthetic slices: choose at least 2")
    synthetic = min(max(round(batch * ratio / (1 + ratio)), 1), batch - 1)
    return batch - synthetic, synthetic


def blended_batches(
    real: SliceSource,
    indices: np.ndarray,
    synthetic: SyntheticSlices | None,
    *,
    batch: int,
    ratio: float,
    seed: int,
    augmentation: Augmentation,
    start: int = 0,
) -> "tf.data.Dataset":
    """Return an infinite stream of augmented batches, the real slices first in each.

    Args:
        real: The store.
        indices: Its slices to train on.
        synthetic: Slices to blend in; needed unless `ratio` is 0.
        batch: Slices a batch.
        ratio: Synthetic slices for each real one, see `batch_parts`.
        seed: Of order and augmentation.
        augmentation: What is done to each slice.
        start: Batches consumed already; a resumed training passes its step.

    Returns:
        A data set of `{"image": float32 [batch, H, W, C], "label": uint8 [batch, H, W]}`.
    """
    import tensorflow as tf

    parts = []
    count_real, count_synthetic = batch_parts(batch, ratio)
    if count_real:
        parts.append(slice_batches(real, indices, batch=count_real, seed=seed, start=start * count_real))
    if count_synthetic:
        if synthetic is None:
            raise UserError(f"--ratio {ratio:g} needs synthetic slices: give --synthetic DIR")
        everything = np.arange(len(synthetic))
        order = seed + _SYNTHETIC_SEEDS
        first = start * count_synthetic
        parts.append(slice_batches(synthetic, everything, batch=count_synthetic, seed=order, start=first))
    steps = tf.data.Dataset.range(start, np.iinfo(np.int64).max)

    def join(step: "tf.Tensor", parts: "tuple[dict[str, tf.Tensor], ...]") -> "dict[str, tf.Tensor]":
        image = tf.concat([part["image"] for part in parts], axis=0)
        label = tf.concat([part["label"] for part in parts], axis=0)
        image, label = augment(image, label, seed=seed, step=step, options=augmentation)
        return {"image": image, "label": label}

    return tf.data.Dataset.zip((steps, tuple(parts))).map(join, num_parallel_calls=2, deterministic=True).prefetch(2)
