"""The search for the nearest training slice: what it is given, what it finds, the candidates, vectors of features."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from synthmed.data.store import Store
from synthmed.evaluation.distances import blocks

Read = Callable[[NDArray[np.int64]], np.ndarray]
Floats = NDArray[np.float32]
Whole = NDArray[np.int64]
Vectors = Callable[[Whole], Floats]
"""From numbers of reference slices to their vectors, `[m, variants, features]`."""
_PRODUCTS = 6_000_000
"""Numbers in a block of inner products: 24 MB, which stay near the processor."""
_REFERENCES = 256
Extract = Callable[[np.ndarray], np.ndarray]
_BLOCK = 256


@dataclass(frozen=True)
class SliceReader:
    """Slices of numbered patients that are read when they are needed.

    Attributes:
        read: From numbers 0..n-1 to arrays: images float32 `[k, H, W, C]` in [-1, 1], or label maps uint8 `[k, H, W]`.
        patient: Number of each slice's patient, int64 `[n]`; slices of one patient follow each other in their order.
    """

    read: Read
    patient: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.patient)

    def blocks(self, size: int) -> list[NDArray[np.int64]]:
        """Return all numbers in blocks of at most `size`."""
        return [np.arange(block.start, block.stop) for block in blocks(len(self), size)]

    def take(self, numbers: NDArray[np.int64]) -> "SliceReader":
        """Return the slices with these numbers alone."""
        return SliceReader(lambda chosen: self.read(numbers[chosen]), self.patient[numbers])


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


class SearchSpace(Protocol):
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

    def nearest(self, queries: SliceReader, references: SliceReader, *, leave_own_out: bool = False) -> Nearest:
        """Find the nearest reference slice of each query.

        Args:
            queries: Slices to look for.
            references: Slices to look among.
            leave_own_out: Whether references of a query's own patient are left out.
        """
        ...


def distances_to_candidates(
    index: NDArray[np.int64], measure: Callable[[Whole, Whole, Whole, Whole], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Return the distance of each query to each of its candidates, `[n, k]`; infinite where there is none.

    Args:
        index: Numbers of reference slices, `[n, k]`; -1 for none.
        measure: From rows and columns of `index` that hold a candidate, the numbers of all candidates, each once, and
            which of these each is, to their distances.
    """
    distance = np.full(index.shape, np.inf)
    rows, places = np.nonzero(index >= 0)
    if len(rows):
        numbers, which = np.unique(index[rows, places], return_inverse=True)
        distance[rows, places] = measure(rows, places, numbers, which)
    return distance


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

    def images(self) -> SliceReader:
        """Return the images."""
        return SliceReader(lambda chosen: self._store.images(self.numbers[chosen]), self.patient)

    def labels(self) -> SliceReader:
        """Return the label maps."""
        return SliceReader(lambda chosen: self._store.labels(self.numbers[chosen]), self.patient)


def sample_slices(arrays: np.ndarray, cases: NDArray[np.int64] | None = None) -> SliceReader:
    """Return samples `[n, ...]` as slices of nobody in the store: of the cases `[n]`, by default one each."""
    return SliceReader(
        lambda chosen: arrays[chosen], np.arange(len(arrays), dtype=np.int64) if cases is None else cases
    )


def nearest_groups(
    queries: Floats, references: Vectors, groups: Whole, *, most: int, own: Whole | None = None
) -> tuple[Whole, Whole]:
    """Return the most similar reference of each of the `most` most similar groups, the most similar group first.

    The similarity of two slices is the largest inner product of any of their variants. No matrix of all pairs is made.

    Args:
        queries: `[n, variants, features]`.
        references: Vectors of reference slices by number; asked for a few hundred at once.
        groups: Patient of each reference, `[m]`; references of one patient follow each other.
        most: How many groups.
        own: Patient of each query, `[n]`, whose references are left out.

    Returns:
        Numbers of references `[n, most]`, -1 where there is no further group; and which variant of the query was the
        most similar to it.
    """
    count = len(queries)
    best = np.full((count, most), -np.inf, np.float32)
    index = np.full((count, most), -1, np.int64)
    variant = np.zeros((count, most), np.int64)
    for first, last in _group_blocks(groups):
        numbers = np.arange(first, last)
        vectors = references(numbers)
        starts = np.flatnonzero(np.r_[True, np.diff(groups[first:last]) != 0])
        # References last, so that the maximum over variants runs along whole rows of numbers.
        columns = np.ascontiguousarray(vectors.transpose(2, 1, 0)).reshape(vectors.shape[-1], -1)
        step = max(1, _PRODUCTS // (columns.shape[1] * queries.shape[1]))
        for start in range(0, count, step):
            rows = slice(start, start + step)
            products = np.tensordot(queries[rows], columns, axes=1)
            products = products.reshape(*products.shape[:2], *vectors.shape[1::-1]).max(axis=2)
            which = products.argmax(axis=1)
            value, member = _best_of_groups(products.max(axis=1), starts)
            if own is not None:
                value[own[rows, None] == groups[first:last][starts]] = -np.inf
            found = np.take_along_axis(which, member, axis=1)
            _merge(best[rows], index[rows], variant[rows], value, member + first, found)
    index[np.isinf(best)] = -1
    return index, variant


def _group_blocks(groups: Whole) -> list[tuple[int, int]]:
    """Return bounds of blocks of whole groups with some hundred references each."""
    ends = np.r_[np.flatnonzero(np.diff(groups)) + 1, len(groups)]
    bounds, first = [], 0
    for end in ends:
        if end - first >= _REFERENCES or end == len(groups):
            bounds.append((first, int(end)))
            first = int(end)
    return [bound for bound in bounds if bound[0] < bound[1]]


def _best_of_groups(products: Floats, starts: Whole) -> tuple[Floats, Whole]:
    """Return the largest of each group's products and its column, both `[rows, groups]`."""
    if len(starts) == products.shape[1]:
        return products, np.broadcast_to(starts, products.shape)
    ends = np.r_[starts[1:], products.shape[1]]
    parts = [products[:, start:end].argmax(axis=1) + start for start, end in zip(starts, ends, strict=True)]
    member = np.stack(parts, axis=1)
    return np.take_along_axis(products, member, axis=1), member


def _merge(best: Floats, index: Whole, variant: Whole, value: Floats, member: Whole, found: Whole) -> None:
    """Put the largest of what was found before and of what is new in place, the largest first."""
    count = best.shape[1]
    values = np.concatenate([best, value], axis=1)
    order = np.argsort(-values, axis=1, kind="stable")[:, :count]
    best[...] = np.take_along_axis(values, order, axis=1)
    index[...] = np.take_along_axis(np.concatenate([index, member], axis=1), order, axis=1)
    variant[...] = np.take_along_axis(np.concatenate([variant, found], axis=1), order, axis=1)


class VectorSpace:
    """Images as the vectors that some network or filter makes of them; the distance is the Euclidean one.

    Each feature is divided by its deviation over the reference slices.

    Args:
        extract: From images float32 `[n, H, W, C]` in [-1, 1] to features `[n, d]`.
        space: Its name, for the report.
    """

    name = "features"
    typical_is_near = False

    def __init__(self, extract: Extract, space: str):
        self.label = f"Features ({space})"
        self.definition = (
            f"Euclidean distance in the feature space {space}, each feature in standard deviations over training slices"
        )
        self._extract = extract

    def nearest(self, queries: SliceReader, references: SliceReader, *, leave_own_out: bool = False) -> Nearest:
        """Find the nearest reference slice of each query; see `SearchSpace.nearest`."""
        known = self._all(references)
        scale = np.maximum(known.std(axis=0), 1e-6)
        # float64 sums are needed for differences of large squares; the squares of centred vectors are small.
        middle = known.mean(axis=0)
        known = ((known - middle) / scale).astype(np.float32)
        own = ((self._all(queries) - middle) / scale).astype(np.float32)
        halves = (known**2).sum(axis=1, keepdims=True) / 2
        # The largest of a . b - |b|^2 / 2 belongs to the nearest b.
        index, _ = nearest_groups(
            np.concatenate([own, np.ones((len(own), 1), np.float32)], axis=1)[:, None],
            lambda numbers: np.concatenate([known[numbers], -halves[numbers]], axis=1)[:, None],
            references.patient,
            most=2,
            own=queries.patient if leave_own_out else None,
        )
        distance = np.linalg.norm(own[:, None].astype(np.float64) - known[index], axis=2)
        distance[index < 0] = np.inf
        return Nearest.of_candidates(index, distance / np.sqrt(known.shape[1]), references.patient, 1e-6)

    def _all(self, slices: SliceReader) -> np.ndarray:
        parts = (self._extract(slices.read(block)) for block in slices.blocks(_BLOCK))
        return np.concatenate([np.asarray(part, np.float32) for part in parts])
