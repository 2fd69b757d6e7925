"""Where the training slices of a store lie along their cases and which classes they show: counts, no patient's mask."""

from collections import Counter
from collections.abc import Iterable

import numpy as np
from pydantic import model_validator

from synthmed.data.schema import Record
from synthmed.data.store import Store

STEPS = 32
"""Parts of equal length into which the way along a case is divided."""


class AttributeTable(Record):
    """A histogram of slices over their position and the classes that they show. It names nobody.

    Attributes:
        steps: Into how many parts the way along a case is divided.
        positions: Of each row, the part, 0 to `steps` - 1.
        shown: Of each row, the indices of the foreground classes in the slice, ascending.
        counts: Of each row, how many training slices are like that, 1 or more.
    """

    steps: int
    positions: tuple[int, ...]
    shown: tuple[tuple[int, ...], ...]
    counts: tuple[int, ...]

    @model_validator(mode="after")
    def _is_whole(self) -> "AttributeTable":
        if not len(self.positions) == len(self.shown) == len(self.counts) > 0:
            raise ValueError("an attribute table has as many positions as rows of classes and counts, and at least one")
        if min(self.counts) < 1 or not all(0 <= position < self.steps for position in self.positions):
            raise ValueError("counts are 1 or more, positions within the steps")
        return self

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def typical(self) -> int:
        """The row with the most slices, the first of several."""
        return int(np.argmax(self.counts))

    @property
    def middles(self) -> np.ndarray:
        """Position of the middle of each row's part, float32 `[rows]` in 0..1."""
        return (np.array(self.positions, np.float32) + 0.5) / self.steps

    def shown_matrix(self, classes: int) -> np.ndarray:
        """Return float32 `[rows, classes - 1]`: 1 where a row shows a foreground class, else 0."""
        matrix = np.zeros((len(self), classes - 1), np.float32)
        for row, shown in enumerate(self.shown):
            matrix[row, [index - 1 for index in shown]] = 1.0
        return matrix

    def showing(self, required: Iterable[int]) -> "AttributeTable | None":
        """Return the rows that show all of these classes, or None where there is none."""
        wanted = set(required)
        rows = [row for row, shown in enumerate(self.shown) if wanted <= set(shown)]
        if not rows:
            return None
        return AttributeTable(
            steps=self.steps,
            positions=tuple(self.positions[row] for row in rows),
            shown=tuple(self.shown[row] for row in rows),
            counts=tuple(self.counts[row] for row in rows),
        )

    def shares(self, position: np.ndarray, classes: int) -> np.ndarray:
        """Return which share of the training slices at a position shows each foreground class.

        Args:
            position: float `[n]` in 0..1; between the middles of parts that hold slices shares are interpolated.
            classes: Number of classes, background included.

        Returns:
            float64 `[n, classes - 1]` in 0..1.
        """
        slices = np.bincount(self.positions, weights=self.counts, minlength=self.steps)
        showing = np.zeros((self.steps, classes - 1))
        for place, shown, count in zip(self.positions, self.shown, self.counts, strict=True):
            showing[place, [index - 1 for index in shown]] += count
        known = np.flatnonzero(slices)
        middles, shares = (known + 0.5) / self.steps, showing[known] / slices[known, None]
        return np.stack([np.interp(position, middles, shares[:, index]) for index in range(classes - 1)], axis=-1)


def attribute_table(store: Store) -> AttributeTable:
    """Count what a generator is offered of a store's training slices, of which there must be some.

    They are counted by position and by what they show.
    """
    indices = store.training_indices(fully_labelled=True)
    parts = np.minimum((store.slice_position[indices] * STEPS).astype(int), STEPS - 1)
    found = Counter(
        (int(part), tuple(int(index) + 1 for index in np.flatnonzero(row)))
        for part, row in zip(parts, store.slice_shown[indices], strict=True)
    )
    rows = sorted(found)
    return AttributeTable(
        steps=STEPS,
        positions=tuple(part for part, _ in rows),
        shown=tuple(classes for _, classes in rows),
        counts=tuple(found[row] for row in rows),
    )
