"""What a training step is fed: slices, what is told of them, and unlabelled ones among them."""

from typing import TYPE_CHECKING, Any

import numpy as np

from synthmed.data.store import Store
from synthmed.data.stream import slice_batches
from synthmed.errors import UserError
from synthmed.training.options import TrainOptions

if TYPE_CHECKING:
    import tensorflow as tf

# Keeps the order of unlabelled slices apart from that of labelled ones.
UNLABELLED_SEEDS = 2**31
UNKNOWN = 0.5


class Feed:
    """The slices of a run's batches, in an order that follows from the seed and the step alone.

    Args:
        options: Resolved options.
        store: Its training slices are fed.
        unlabelled: Store of which the images alone are used; half of each batch where it is given.

    Raises:
        UserError: If there is nothing to train on, or the unlabelled store does not fit.
    """

    def __init__(self, options: TrainOptions, store: Store, unlabelled: Store | None = None):
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

    def batches(self, step: int) -> "tf.data.Dataset":
        """Return the endless batches from a step on.

        Each is a dictionary of "image" float32 `[batch, H, W, C]` and "label" uint8 `[batch, H, W]`, and where the run
        uses them, "position" float32 `[batch]`, "shown" float32 `[batch, classes - 1]` and "labelled" float32
        `[batch]`.
        """
        import tensorflow as tf

        count = self.options.batch - self.count_unlabelled
        seed = self.options.seed
        labelled = slice_batches(self.store, self.indices, batch=count, seed=seed, start=step * count).map(self._told)
        if self.unlabelled is None:
            return labelled
        count = self.count_unlabelled
        images = slice_batches(
            self.unlabelled,
            self.unlabelled.indices("train"),
            batch=count,
            seed=seed + UNLABELLED_SEEDS,
            start=step * count,
        ).map(self._told_of_unlabelled)

        def join(first: "dict[str, tf.Tensor]", second: "dict[str, tf.Tensor]") -> "dict[str, tf.Tensor]":
            # In two blocks: replicas and the groups of the minibatch statistic take every n-th slice, and get of both.
            return {key: tf.concat([first[key], second[key]], axis=0) for key in first}

        return tf.data.Dataset.zip((labelled, images)).map(join)

    def told(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Return what is told of slices of the store beside their image: "label", "position", "shown"."""
        return {
            "label": self.store.labels(indices),
            "position": self.store.slice_position[indices],
            "shown": self.store.slice_shown[indices],
        }

    def _told(self, batch: "dict[str, tf.Tensor]") -> "dict[str, tf.Tensor]":
        import tensorflow as tf

        parts = {"image": batch["image"], "label": batch["label"]}
        if self.options.position:
            parts["position"] = tf.gather(self.store.slice_position, batch["index"])
        if self.options.shown:
            parts["shown"] = tf.gather(self.store.slice_shown, batch["index"])
        if self.unlabelled is not None:
            parts["labelled"] = tf.ones(batch["index"].shape)
        return parts

    def _told_of_unlabelled(self, batch: "dict[str, tf.Tensor]") -> "dict[str, tf.Tensor]":
        import tensorflow as tf

        assert self.unlabelled is not None
        count = batch["index"].shape[0]
        parts: dict[str, Any] = {"image": batch["image"], "label": tf.zeros_like(batch["label"])}
        if self.options.position:
            parts["position"] = tf.gather(self.unlabelled.slice_position, batch["index"])
        if self.options.shown:
            parts["shown"] = tf.fill((count, len(self.store.classes) - 1), UNKNOWN)
        parts["labelled"] = tf.zeros(count)
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
