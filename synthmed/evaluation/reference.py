"""The two sets that a comparison needs, and what makes it void."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthmed.data.schema import CaseRecord
from synthmed.data.selection import select
from synthmed.data.store import Store
from synthmed.data.synthetic import SyntheticSet
from synthmed.errors import UserError

FEWEST = 10
MOST = 10_000
"""Slices of a kind that are looked at: of more, every second or third is taken, and so on."""
_BLOCK = 256


@dataclass(frozen=True)
class Slices:
    """Slices of one kind.

    Attributes:
        images: float32 `[n, H, W, C]` in [-1, 1]; None for label maps alone.
        labels: uint8 `[n, H, W]` class indices.
        groups: Number of the patient or generated case of each, int64 `[n]`.
    """

    images: NDArray[np.float32] | None
    labels: NDArray[np.uint8]
    groups: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def units(self) -> int:
        """How many patients or cases."""
        return len(np.unique(self.groups))

    def take(self, indices: NDArray[np.int64]) -> "Slices":
        """Return some of the slices."""
        images = None if self.images is None else self.images[indices]
        return Slices(images, self.labels[indices], self.groups[indices])


def check_fit(store: Store, synthetic: SyntheticSet) -> None:
    """Do nothing where a synthetic set can be compared with a store.

    Raises:
        UserError: If classes, channels or sizes differ, or its generator saw patients that the store holds out.
    """
    mend = "compare it with the store that its generator was trained on"
    if synthetic.classes != tuple(store.classes):
        raise UserError(
            f"{synthetic.folder} has the classes {', '.join(synthetic.classes)}, {store.path} has "
            f"{', '.join(store.classes)}: {mend}"
        )
    if synthetic.channels and synthetic.channels != tuple(store.channels):
        raise UserError(
            f"{synthetic.folder} has the channels {', '.join(synthetic.channels)}, {store.path} has "
            f"{', '.join(store.channels)}: {mend}"
        )
    size = synthetic.labels(np.array([0])).shape[1:]
    if size != tuple(store.size):
        raise UserError(
            f"{synthetic.folder} has slices of {'x'.join(map(str, size))}, {store.path} of "
            f"{store.size[0]}x{store.size[1]}: {mend}"
        )
    if store.held_out_hashes & synthetic.training_hashes:
        raise UserError(
            f"the generator of {synthetic.folder} was trained on patients that {store.path} keeps for validation or "
            f"test, so nothing is held out: {mend}"
        )


def read_synthetic(synthetic: SyntheticSet) -> Slices:
    """Return the slices of a set, thinned evenly to `MOST`.

    Raises:
        UserError: If there are too few, or one cannot be read.
    """
    chosen = _thinned(np.arange(len(synthetic), dtype=np.int64))
    _enough("synthetic", len(chosen))
    blocks = [chosen[first : first + _BLOCK] for first in range(0, len(chosen), _BLOCK)]
    labels = np.concatenate([synthetic.labels(block) for block in blocks])
    images = np.concatenate([synthetic.images(block) for block in blocks]) if synthetic.channels else None
    _, cases = np.unique(np.array(synthetic.cases)[chosen], return_inverse=True)
    return Slices(images, labels, cases.astype(np.int64))


def read_real(store: Store, *, held_out: bool, images: bool = True) -> Slices:
    """Return real slices, those that the plan offers to a training, once each and thinned evenly to `MOST`.

    Slices with pixels whose class is not known are left out.

    Args:
        store: Real slices.
        held_out: Whether those of the validation and test patients, else of the training patients.
        images: Whether the images are wanted.

    Raises:
        UserError: If there are too few.
    """
    cases = [*store.cases("val"), *store.cases("test")] if held_out else store.cases("train")
    numbers = _thinned(_offered(store, cases))
    _enough("held-out" if held_out else "training", len(numbers))
    _, groups = np.unique([store.case_of(int(number)).patient for number in numbers], return_inverse=True)
    return Slices(store.images(numbers) if images else None, store.labels(numbers), groups.astype(np.int64))


def like(slices: Slices, count: int) -> Slices:
    """Return at most `count` slices, taken evenly from all: every patient keeps a share."""
    if len(slices) <= count:
        return slices
    return slices.take(np.linspace(0, len(slices) - 1, count).round().astype(np.int64))


def _offered(store: Store, cases: list[CaseRecord]) -> NDArray[np.int64]:
    parts = [np.arange(case.first, case.first + case.slices, dtype=np.int64) for case in cases]
    numbers = np.concatenate(parts) if parts else np.empty(0, np.int64)
    numbers = numbers[~store.slice_ignored[numbers]]
    # Empty slices that no generator was shown would make real slices look unlike all that it draws.
    if store.plan.slices == "foreground" and (store.class_counts[numbers, 1:] > 0).any():
        owner = np.array([store.case_of(int(number)).first for number in numbers])
        numbers = numbers[select(store.class_counts[numbers], "foreground", case=owner)]
    return numbers


def _thinned(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    return numbers[:: -(-len(numbers) // MOST) or 1]


def _enough(kind: str, count: int) -> None:
    if count < FEWEST:
        raise UserError(f"there are {count} {kind} slices, and an evaluation needs at least {FEWEST}: give more")
