"""What a search for the nearest training slice is given and what it finds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Read = Callable[[NDArray[np.int64]], np.ndarray]


@dataclass(frozen=True)
class Slices:
    """Slices that are read when they are needed.

    Attributes:
        read: From numbers 0..n-1 to arrays: images float32 `[k, H, W, C]` in [-1, 1], or label maps uint8 `[k, H, W]`.
        patient: Number of each slice's patient, int64 `[n]`; slices of one patient follow each other in their order.
    """

    read: Read
    patient: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.patient)

    def take(self, numbers: NDArray[np.int64]) -> "Slices":
        """Return the slices with these numbers alone."""
        return Slices(lambda chosen: self.read(numbers[chosen]), self.patient[numbers])


@dataclass(frozen=True)
class Nearest:
    """What was found for `n` slices.

    Attributes:
        index: Number of the nearest reference slice, `[n]`; -1 where a slice is empty or there is no reference.
        distance: Distance to it, 0 or more; infinite where there is none.
        other: Distance to the nearest reference slice of any other patient than that one's.
        softening: Added to both for the ratio, `[n]`: slices that are all alike, smooth or with small structures, then
            have a ratio of 1.
    """

    index: NDArray[np.int64]
    distance: NDArray[np.float64]
    other: NDArray[np.float64]
    softening: NDArray[np.float64]

    @property
    def empty(self) -> NDArray[np.bool_]:
        """Which slices have no nearest one."""
        return self.index < 0

    @property
    def ratio(self) -> NDArray[np.float64]:
        """`distance` as a share of `other`, `[n]`: near 1 for a new patient, near 0 for a copy; infinite if unknown."""
        found = np.full(len(self.index), np.inf)
        known = np.isfinite(self.distance) & np.isfinite(self.other)
        found[known] = (self.distance + self.softening)[known] / (self.other + self.softening)[known]
        return found

    @classmethod
    def of_candidates(
        cls,
        index: NDArray[np.int64],
        distance: NDArray[np.float64],
        patient: NDArray[np.int64],
        softening: NDArray[np.float64] | float,
    ) -> "Nearest":
        """Choose from candidates `[n, k]`; those without a reference have an infinite distance."""
        rows = np.arange(len(index))
        first = distance.argmin(axis=1)
        near = distance[rows, first]
        nearest = np.where(np.isfinite(near), index[rows, first], -1)
        same = patient[index] == patient[nearest][:, None]
        other = np.where(same, np.inf, distance).min(axis=1)
        return cls(nearest, near, other, np.broadcast_to(np.float64(softening), near.shape))

    def select(self, chosen: NDArray[np.bool_]) -> "Nearest":
        """Return what was found for some of the slices."""
        return Nearest(self.index[chosen], self.distance[chosen], self.other[chosen], self.softening[chosen])

    @classmethod
    def joined(cls, parts: list["Nearest"]) -> "Nearest":
        """Return what was found for several groups of slices, one after the other."""
        names = ("index", "distance", "other", "softening")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


class Space(Protocol):
    """A way of measuring how far two slices are apart.

    Attributes:
        name: Key of its figures.
        label: What a reader sees.
        definition: The distance in a sentence.
        typical_is_near: Whether what is typical of all patients lies nearer to each of them than real patients lie to
            one another, so that a small distance alone tells nothing and only the ratio to another patient's does.
    """

    name: str
    label: str
    definition: str
    typical_is_near: bool

    def nearest(self, queries: Slices, references: Slices, *, leave_own_out: bool = False) -> Nearest:
        """Find the nearest reference slice of each query.

        Args:
            queries: Slices to look for.
            references: Slices to look among.
            leave_own_out: Whether references of a query's own patient are left out.
        """
        ...
