"""The batches of a generator's training: slices, their conditioning, and unlabelled ones among them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from synthmed.backend import backend_name
from synthmed.data.store import Store
from synthmed.data.stream import Batch, ReadAhead, Reader, as_dataset, slice_reader
from synthmed.errors import UserError, present
from synthmed.training.options import ResolvedOptions

if TYPE_CHECKING:
    import tensorflow as tf

# Keeps the order of unlabelled slices apart from that of labelled ones.
UNLABELLED_SEEDS = 2**31
UNKNOWN = 0.5


class GeneratorBatches:
    """The slices of a run's batches, in an order that follows from the seed and the step alone.

    Args:
        options: Options of the run.
        store: Its training slices are read.
        unlabelled: Store of which the images alone are used; half of each batch where it is given.

    Raises:
        UserError: If there is nothing to train on, or the unlabelled store does not fit.
    """

    def __init__(self, options: ResolvedOptions, store: Store, unlabelled: Store | None = None):
        self.options = options
        self.store = store
        self.unlabelled = unlabelled
        self.indices = store.training_indices(fully_labelled=True)
        if not len(self.indices):
            raise UserError(f"{store.path} has no training slices: prepare it with another --split")
        self.count_unlabelled = 0
        if unlabelled is not None:
            _check_unlabelled(store, unlabelled)
            self.count_unlabelled = options.batch // 2

    def batches(self, step: int) -> "Iterator[Batch] | tf.data.Dataset":
        """Return the endless batches from a step on: a tf.data set under TensorFlow, else a `ReadAhead`.

        Each is a dictionary of "image" float32 `[batch, H, W, C]` and "label" uint8 `[batch, H, W]`, and where the run
        uses them, "position" float32 `[batch]`, "class_presence" float32 `[batch, classes - 1]` and "labelled" float32
        `[batch]`. Their order and content are the same under every backend.
        """
        if backend_name() == "tensorflow":
            return as_dataset(self.reader(), start=step)
        return ReadAhead(self.reader(), start=step)

    def reader(self) -> Reader:
        """Return what reads the batch of a step, for one thread at a time."""
        count, seed = self.options.batch - self.count_unlabelled, self.options.seed
        labelled = slice_reader(self.store, self.indices, batch=count, seed=seed)
        if self.unlabelled is None:
            return lambda step: self._parts(labelled(step * count))
        indices, size = self.unlabelled.indices("train"), self.count_unlabelled
        images = slice_reader(self.unlabelled, indices, batch=size, seed=seed + UNLABELLED_SEEDS)

        def read(step: int) -> Batch:
            first, second = self._parts(labelled(step * count)), self._unlabelled_parts(images(step * size))
            # In two blocks: replicas and the groups of the minibatch statistic take every n-th slice, and get of both.
            return {key: np.concatenate([first[key], second[key]]) for key in first}

        return read

    def conditioning(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Return what may condition a generator of slices of the store: "label", "position", "class_presence"."""
        return {
            "label": self.store.labels(indices),
            "position": self.store.slice_position[indices],
            "class_presence": self.store.slice_shown[indices],
        }

    def _parts(self, batch: Batch) -> Batch:
        parts = {"image": batch["image"], "label": batch["label"]}
        if self.options.position:
            parts["position"] = self.store.slice_position[batch["index"]]
        if self.options.class_presence:
            parts["class_presence"] = self.store.slice_shown[batch["index"]]
        if self.unlabelled is not None:
            parts["labelled"] = np.ones(len(batch["index"]), np.float32)
        return parts

    def _unlabelled_parts(self, batch: Batch) -> Batch:
        unlabelled = present(self.unlabelled, "these are its slices")
        count = len(batch["index"])
        parts = {"image": batch["image"], "label": np.zeros_like(batch["label"])}
        if self.options.position:
            parts["position"] = unlabelled.slice_position[batch["index"]]
        if self.options.class_presence:
            parts["class_presence"] = np.full((count, len(self.store.classes) - 1), UNKNOWN, np.float32)
        parts["labelled"] = np.zeros(count, np.float32)
        return parts


def _check_unlabelled(store: Store, unlabelled: Store) -> None:
    if (unlabelled.size, tuple(unlabelled.channels)) != (store.size, tuple(store.channels)):
        raise UserError(
            f"{unlabelled.path} holds {unlabelled.size[0]}x{unlabelled.size[1]} slices of "
            f"{', '.join(unlabelled.channels)}, {store.path} {store.size[0]}x{store.size[1]} of "
            f"{', '.join(store.channels)}: prepare both alike"
        )
    if not len(unlabelled.indices("train")):
        raise UserError(f"{unlabelled.path} has no training slices: prepare it with --split 1,0,0")
    if store.held_out_hashes & set(unlabelled.training_hashes):
        raise UserError(
            f"{unlabelled.path} holds patients that {store.path} keeps for validation or test: leave them out"
        )
