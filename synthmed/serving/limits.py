"""What a server takes on at once: a bounded queue instead of memory that grows, and time limits."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from synthmed.hardware import core_count
from synthmed.serving.memory import IdleTrimmer
from synthmed.serving.status import Code, ServingError, invalid

MIB = 2**20
MAX_RANK = 32
"""Dimensions of an array: NumPy 2 has more, by which TensorFlow, built for 32, ends the process (SIGSEGV)."""
_Answer = TypeVar("_Answer")


def _default_workers() -> int:
    return max(2, core_count())


@dataclass(frozen=True)
class Limits:
    """Limits of a server; all are for both protocols together unless said otherwise."""

    workers: int = field(default_factory=_default_workers)
    """Requests that are worked on at once."""
    queue: int = 64
    """Requests of each protocol that may wait beside them; one more is refused with RESOURCE_EXHAUSTED (429)."""
    seconds: float = 300.0
    """How long a request may take from its first byte to its answer; then DEADLINE_EXCEEDED (504)."""
    request_bytes: int = 64 * MIB
    """Size of one request, once it is decompressed."""
    held_bytes: int = 256 * MIB
    """Requests and answers that are in memory at once; while there are more, requests are refused."""
    answer_bytes: int = 64 * MIB
    """Size of one answer's arrays; where a signature tells it, it is checked before the model runs."""
    items: int = 256
    """Items that one request may ask of a generator."""


class Gate:
    """Hands out tickets for requests, as many as the limits allow; one protocol takes no place from the other.

    Args:
        limits: What is allowed.
    """

    def __init__(self, limits: Limits):
        self.limits = limits
        self.running = 0
        self.held = 0
        self._admitted: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._places = _Places(limits.workers)
        self._trimmer = IdleTrimmer(lambda: not self.admitted)

    @property
    def admitted(self) -> int:
        """Requests that are worked on or wait for it."""
        with self._lock:
            return self._admitted.total()

    def ticket(self, protocol: str, *, arriving: bool = False) -> "Ticket":
        """Admit a request.

        Args:
            protocol: By which it comes.
            arriving: Whether its body is still on its way: it then takes no place before `Ticket.admit`.

        Raises:
            ServingError: RESOURCE_EXHAUSTED while too many are there already.
        """
        ticket = Ticket(self, protocol)
        if arriving:
            with self._lock:
                self._check_room(protocol)
        else:
            ticket.admit()
        return ticket

    def _check_room(self, protocol: str) -> None:
        if self._admitted[protocol] >= self.limits.workers + self.limits.queue:
            raise _busy()

    def _admit(self, protocol: str) -> None:
        with self._lock:
            self._check_room(protocol)
            self._admitted[protocol] += 1

    def _hold(self, size: int, *, beside: int) -> None:
        with self._lock:
            others = self.held - beside
            if others and others + beside + size > self.limits.held_bytes:
                raise _busy()
            self.held += size

    def _add(self, size: int) -> None:
        with self._lock:
            self.held += size

    def _leave(self, protocol: str, *, admitted: bool, held: int) -> None:
        with self._lock:
            self._admitted[protocol] -= admitted
            self.held -= held
        self._trimmer.worked()

    def _run(self, protocol: str, call: Callable[[], _Answer], seconds: float) -> _Answer:
        if not self._places.take(protocol, seconds):
            raise late()
        self.running += 1
        try:
            return call()
        finally:
            self.running -= 1
            self._places.give_back()


class _Places:
    """Workers' places: who waits gets one in turn with the other protocol, and after those of its own that came first.

    Args:
        count: How many there are.
    """

    def __init__(self, count: int):
        self._lock = threading.Lock()
        self._free = count
        # The protocol whose turn is next comes first.
        self._waiting: dict[str, deque[threading.Event]] = {}

    def take(self, protocol: str, seconds: float) -> bool:
        """Return whether a place was taken within some seconds."""
        with self._lock:
            if self._free:
                self._free -= 1
                return True
            turn = threading.Event()
            self._waiting.setdefault(protocol, deque()).append(turn)
        if turn.wait(max(seconds, 0)):
            return True
        with self._lock:
            if not turn.is_set():
                self._waiting[protocol].remove(turn)
                if not self._waiting[protocol]:
                    del self._waiting[protocol]
            return turn.is_set()

    def give_back(self) -> None:
        """Give a place back, or on to who waits."""
        with self._lock:
            if not self._waiting:
                self._free += 1
                return
            protocol = next(iter(self._waiting))
            queue = self._waiting.pop(protocol)
            queue.popleft().set()
            if queue:
                self._waiting[protocol] = queue


class Ticket:
    """The right of one request to be worked on, and the memory that it holds. Closed once, by whoever is last."""

    def __init__(self, gate: Gate, protocol: str):
        self.limits = gate.limits
        self.started = time.monotonic()
        self._gate = gate
        self._protocol = protocol
        self._admitted = False
        self._held = 0
        self._closed = False
        self._closing = threading.Lock()
        self.awaited: Callable[[], bool] = lambda: True
        """Whether somebody still waits for the answer."""

    def admit(self) -> None:
        """Take a place among those that are worked on or wait for it.

        Raises:
            ServingError: RESOURCE_EXHAUSTED if there is none.
        """
        self._gate._admit(self._protocol)
        self._admitted = True

    def left(self) -> float:
        """Return the seconds that are left for the request."""
        return self.limits.seconds - (time.monotonic() - self.started)

    def check(self) -> None:
        """Make sure that somebody still waits for the answer, and has time.

        Raises:
            ServingError: DEADLINE_EXCEEDED or CANCELLED if not.
        """
        if self.left() <= 0:
            raise late()
        if not self.awaited():
            raise ServingError(Code.CANCELLED, "the client has gone")

    def hold(self, size: int) -> None:
        """Account for `size` more bytes of the request.

        Raises:
            ServingError: INVALID_ARGUMENT if it is too large for this server, RESOURCE_EXHAUSTED if it is so now.
        """
        if self._held + size > self.limits.request_bytes:
            raise invalid(f"request is larger than {self.limits.request_bytes} bytes: send fewer items at once")
        self._gate._hold(size, beside=self._held)
        self._held += size

    def reserve(self, size: int) -> None:
        """Account for an answer that is about to be made.

        Raises:
            ServingError: RESOURCE_EXHAUSTED if there is no room for it beside what others hold.
        """
        self._gate._hold(size, beside=self._held)
        self._held += size

    def hold_answer(self, size: int) -> None:
        """Account for an answer until the ticket is closed: it is there, so it is never refused."""
        self._gate._add(size)
        self._held += size

    def run(self, call: Callable[[], _Answer], *, seconds: float | None = None) -> _Answer:
        """Return `call()`, made in this thread when a worker's place is free.

        Args:
            call: The work.
            seconds: How long to wait for the place, beside the limit of the server.

        Raises:
            ServingError: DEADLINE_EXCEEDED if no place becomes free in time.
        """
        return self._gate._run(self._protocol, call, self.left() if seconds is None else min(seconds, self.left()))

    def close(self) -> None:
        """Give the place back; harmless when repeated."""
        with self._closing:
            closed, self._closed = self._closed, True
        if not closed:
            self._gate._leave(self._protocol, admitted=self._admitted, held=self._held)

    def __enter__(self) -> "Ticket":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def late() -> ServingError:
    """Return the error of a request that took too long."""
    return ServingError(Code.DEADLINE_EXCEEDED, "the request took too long: ask for fewer items at once, or later")


def _busy() -> ServingError:
    return ServingError(Code.RESOURCE_EXHAUSTED, "the server is busy: try again in a moment")
