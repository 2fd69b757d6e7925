"""What a feature space is, and what may be measured in one."""

from collections.abc import Collection
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from synthmed.errors import UserError


class FeatureSpace(Protocol):
    """Turns slices into vectors whose distances mean something.

    Attributes:
        name: What a report calls it.
        identity: SHA-256 over everything that vectors follow from, training slices included; "" before a fit that has
            to be made. Figures are comparable where identities are equal, and nowhere else.
        dimension: Features of a vector; 0 before a fit that has to be made.
    """

    @property
    def name(self) -> str: ...

    @property
    def identity(self) -> str: ...

    @property
    def dimension(self) -> int: ...

    def fit(self, training: NDArray[np.float32]) -> None:
        """Learn from training slices `[n, H, W, C]` in [-1, 1]; a space that learns nothing does nothing."""
        ...

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32 `[n, dimension]` of slices `[n, H, W, C]` in [-1, 1]."""
        ...


def refuse_held_out(training_patients: Collection[str], held_out: Collection[str], *, what: str) -> None:
    """Do nothing where a network saw none of the patients that are to be held out.

    Args:
        training_patients: Content hashes of the patients that it was trained on or chosen by.
        held_out: Content hashes of the patients held out.
        what: The network, for the message.

    Raises:
        UserError: If it saw any of them.
    """
    seen = len(set(training_patients) & set(held_out))
    if seen:
        raise UserError(
            f"{what} was trained on {seen} of the {len(set(held_out))} held-out patients, so distances to them would "
            "be flattered: name one that was trained on the training patients of this store alone"
        )
