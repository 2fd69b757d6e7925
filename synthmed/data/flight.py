"""Working on several cases at a time while the memory that they take together stays bounded."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

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
