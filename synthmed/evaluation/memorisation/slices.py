"""The slices of a store as the audit takes them: read when needed, patients as numbers."""

import numpy as np
from numpy.typing import NDArray

from synthmed.data.store import Store
from synthmed.evaluation.memorisation.spaces import Slices


class RealSlices:
    """Slices of some of a store's patients.

    Args:
        store: The store.
        numbers: Their numbers in the store, ascending, int64 `[n]`.

    Attributes:
        numbers: As given.
        patient: Number of each slice's patient, `[n]`; no name leaves this class.
    """

    def __init__(self, store: Store, numbers: NDArray[np.int64]):
        self._store = store
        # Slices of one patient must follow each other, and cases of one patient need not be neighbours in a store.
        names = [store.case_of(int(number)).patient for number in numbers]
        order = {name: place for place, name in enumerate(dict.fromkeys(names))}
        patient = np.array([order[name] for name in names], np.int64)
        by_patient = np.argsort(patient, kind="stable")
        self.numbers = np.asarray(numbers, np.int64)[by_patient]
        self.patient = patient[by_patient]

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def patients(self) -> int:
        """How many patients there are."""
        return len(np.unique(self.patient))

    def thinned(self, most: int) -> "RealSlices":
        """Return every second slice, or third, and so on: at most about `most`, spread over all patients evenly."""
        step = -(-len(self) // most) if len(self) else 1
        return RealSlices(self._store, np.sort(self.numbers[::step]))

    def images(self) -> Slices:
        """Return the images."""
        return Slices(lambda chosen: self._store.images(self.numbers[chosen]), self.patient)

    def labels(self) -> Slices:
        """Return the label maps."""
        return Slices(lambda chosen: self._store.labels(self.numbers[chosen]), self.patient)


def sample_slices(arrays: np.ndarray, cases: NDArray[np.int64] | None = None) -> Slices:
    """Return samples `[n, ...]` as slices of nobody in the store: of the cases `[n]`, by default one each."""
    return Slices(lambda chosen: arrays[chosen], np.arange(len(arrays), dtype=np.int64) if cases is None else cases)
