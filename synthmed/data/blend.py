"""Batches of a store's slices blended with synthetic ones, for TensorFlow, PyTorch or any loop."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from synthmed.data.schema import Split
from synthmed.data.stream import Batch, Reader, SliceSource, as_dataset, slice_reader
from synthmed.data.synthetic import SyntheticSet
from synthmed.errors import LeakError, UserError

# Keeps the order of synthetic slices apart from that of real ones.
SYNTHETIC_SEEDS = 2**30


class RealSlices(SliceSource, Protocol):
    """What blending asks of a store."""

    path: Path
    classes: tuple[str, ...]

    @property
    def held_out_hashes(self) -> set[str]:
        """Content hashes of the validation and test cases."""

    def indices(self, split: Split) -> np.ndarray:
        """Return the numbers of the slices of a split."""


def batch_parts(batch: int, ratio: float) -> tuple[int, int]:
    """Return how many real and how many synthetic slices a batch holds: `ratio` synthetic ones for each real one.

    A batch has whole slices, so the proportion is the nearest that it allows, with at least one of each kind unless
    the ratio is 0 or infinite.

    Raises:
        UserError: If the ratio is negative, or a batch of 1 would have to hold both.
    """
    if not ratio >= 0:
        raise UserError(f"ratio {ratio:g} is no number of synthetic slices for each real one: give 0 or more")
    if ratio == 0:
        return batch, 0
    if math.isinf(ratio):
        return 0, batch
    if batch < 2:
        raise UserError("--batch 1 cannot hold real and synthetic slices: choose at least 2")
    synthetic = min(max(round(batch * ratio / (1 + ratio)), 1), batch - 1)
    return batch - synthetic, synthetic


def blended_reader(
    store: RealSlices,
    synthetic: SyntheticSet | Path | str | None,
    *,
    ratio: float = 1.0,
    batch: int = 32,
    seed: int = 0,
    split: Split = "train",
) -> Reader:
    """Return what reads the batch of a step: real slices first, then synthetic ones, each in an order of the seed.

    Raises:
        UserError: If the set does not fit the store, or nothing is there to read.
        LeakError: If a patient whom the store holds out has taught the set's generator.
    """
    drawn = SyntheticSet.open(synthetic) if isinstance(synthetic, str | Path) else synthetic
    real, made = batch_parts(batch, ratio if drawn is not None else 0.0)
    indices = store.indices(split)
    if real and not len(indices):
        raise UserError(f"{store.path} has no slices for {split}: prepare it with another --split")
    readers = [slice_reader(store, indices, batch=real, seed=seed)] if real else []
    if drawn is not None and made:
        _check(drawn, store)
        numbers = np.arange(len(drawn))
        readers.append(slice_reader(drawn, numbers, batch=made, seed=seed + SYNTHETIC_SEEDS))
    sizes = [size for size in (real, made) if size]

    def read(step: int) -> Batch:
        parts = [reader(step * size) for reader, size in zip(readers, sizes, strict=True)]
        return {key: np.concatenate([part[key] for part in parts]) for key in ("image", "label")}

    return read


def blended_dataset(store: RealSlices, synthetic: SyntheticSet | Path | str | None, **options: Any) -> Any:
    """Return an endless `tf.data.Dataset` of (image, label); see `Store.blend`."""
    return as_dataset(blended_reader(store, synthetic, **options), start=0).map(
        lambda batch: (batch["image"], batch["label"])
    )


def blended_torch(
    store: RealSlices, synthetic: SyntheticSet | Path | str | None, *, as_dict: bool = False, **options: Any
) -> Any:
    """Return an endless PyTorch `IterableDataset`, channels first; see `Store.torch`.

    Raises:
        UserError: If PyTorch is not installed.
    """
    try:
        import torch
    except ModuleNotFoundError:
        raise UserError("Store.torch needs PyTorch: pip install torch, or use Store.blend for TensorFlow") from None
    read = blended_reader(store, synthetic, **options)

    class Blended(torch.utils.data.IterableDataset):
        def __iter__(self) -> Iterator[Any]:
            worker = torch.utils.data.get_worker_info()
            first, every = (0, 1) if worker is None else (worker.id, worker.num_workers)
            step = first
            while True:
                batch = read(step)
                image = torch.from_numpy(np.ascontiguousarray(np.moveaxis(batch["image"], -1, 1)))
                label = torch.from_numpy(batch["label"].astype(np.int64))
                yield {"image": image, "label": label[:, None]} if as_dict else (image, label)
                step += every

    return Blended()


def _check(drawn: SyntheticSet, store: RealSlices) -> None:
    for what, own, wanted in (
        ("channels", tuple(drawn.channels), tuple(store.channels)),
        ("classes", tuple(drawn.classes), tuple(store.classes)),
        ("size", drawn.size, tuple(store.size)),
    ):
        if own != wanted:
            raise UserError(
                f"{drawn.folder} has the {what} {', '.join(map(str, own)) or 'none'}, the store {store.path} "
                f"{', '.join(map(str, wanted))}: generate from a model trained on this store"
            )
    if drawn.training_hashes & store.held_out_hashes:
        raise LeakError(
            f"{drawn.folder} comes from a generator that knows patients whom {store.path} holds out for validation or "
            "test: train one on this store's training patients"
        )
