"""Work on large volumes within bounded memory: several cases at a time, one volume part by part."""

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import numpy as np

WORKERS = 2
BUDGET = 5 * 2**28
"""Bytes that the cases in work may take together; one case alone may take more, since it has to be done."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    items: Iterable[Item], work: Callable[[Item], Result], *, cost: Callable[[Item], int], budget: int = BUDGET
) -> Iterator[Result]:
    """Yield `work(item)` of each item, in their order, while others are being worked on.

    Threads suffice: decompression, filters, sorting and hashing release Python's lock.

    Args:
        items: What is to be done.
        work: Called in a thread.
        cost: Bytes that the work and the result of an item take.
        budget: Bytes that all items which are begun, and whose result is not taken yet, may take together.
    """
    waiting = deque(items)
    pending: deque[tuple[Future[Result], int]] = deque()
    held = 0
    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            while waiting or pending:
                while waiting and len(pending) <= WORKERS and (not pending or held + cost(waiting[0]) <= budget):
                    item = waiting.popleft()
                    pending.append((pool.submit(work, item), cost(item)))
                    held += pending[-1][1]
                result = pending[0][0].result()
                yield result
                # Until the caller comes back for more it works with the result, whose memory is in use that long.
                del result
                held -= pending.popleft()[1]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class Budget:
    """Bytes that threads share: each takes what it needs, and waits until the others have left enough.

    Args:
        size: How many there are.
    """

    def __init__(self, size: int = BUDGET):
        self._size, self._taken = size, 0
        self._changed = threading.Condition()

    @contextmanager
    def take(self, count: int) -> Iterator[None]:
        """Hold `count` bytes; one thread alone may take more than there are."""
        with self._changed:
            self._changed.wait_for(lambda: self._taken == 0 or self._taken + count <= self._size)
            self._taken += count
        try:
            yield
        finally:
            with self._changed:
                self._taken -= count
                self._changed.notify_all()


SLAB_ELEMENTS = 2**22
"""How many elements of a volume are worked on at a time, if a single plane has no more."""


def slabs(array: np.ndarray, *, axis: int = 0) -> Iterator[np.ndarray]:
    """Yield views of consecutive parts of an array along an axis, each of a few million elements.

    The parts of two arrays of one shape belong together, whatever their types are.
    """
    extent = array.shape[axis]
    step = max(1, SLAB_ELEMENTS * extent // max(array.size, 1))
    along = (slice(None),) * axis
    for first in range(0, extent, step):
        yield array[(*along, slice(first, first + step))]


def slowest_axis(array: np.ndarray) -> int:
    """Return the axis along which neighbours lie farthest apart in memory: its parts are read in one go."""
    return int(np.argmax(np.abs(array.strides)))


def count_values(voxels: np.ndarray) -> dict[float, int]:
    """Return how often each value occurs, part by part: `np.unique` would sort the whole volume."""
    counts: Counter[float] = Counter()
    for part in slabs(voxels, axis=slowest_axis(voxels)):
        if part.dtype in (np.uint8, np.uint16):
            found = np.bincount(part.ravel(order="K"))
            values = np.flatnonzero(found)
            found = found[values]
        else:
            values, found = np.unique(part, return_counts=True)
        counts.update(dict(zip(values.tolist(), found.tolist(), strict=True)))
    return {value: counts[value] for value in sorted(counts)}
