"""Ending long work when the user asks for it: between two steps, or in its own time.

Whoever shows lines to a user (`synthmed.cli.signals`) says a handler's `answer` at once when a signal comes, even while
the interpreter is busy in compiled code and cannot call the handler. A handler without one is expected to end the
process soon."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


def ending_signals() -> tuple[signal.Signals, ...]:
    """Return the signals by which this process may be asked to end: one that is ignored (`nohup`) is not among them."""
    # Windows has no SIGHUP.
    known = (getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP"))
    return tuple(number for number in known if number and signal.getsignal(number) is not signal.SIG_IGN)


class StopRequest:
    """Becomes true when the process is asked to end; as a signal's handler, it interrupts at the second signal."""

    answer = "stopping after this step; once more ends it at once"

    def __init__(self) -> None:
        self.asked = False

    def __bool__(self) -> bool:
        return self.asked

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Take a signal."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


class _Answering:
    """A handler that does what another one does, with an answer."""

    def __init__(self, handler: Callable[[int, FrameType | None], Any], answer: str):
        self.handler, self.answer = handler, answer

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.handler(number, frame)


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Turn the first SIGINT, SIGTERM or SIGHUP into a request; a second one interrupts at once.

    Outside the main thread, where Python allows no handlers, the request stays false.
    """
    request = StopRequest()
    with _handlers({number: request for number in ending_signals()}):
        yield request


@contextmanager
def answering(answer: str) -> Iterator[None]:
    """Have `answer` said when a signal comes whose handling takes its time; what it does stays the same."""
    handlers = {number: signal.getsignal(number) for number in ending_signals()}
    with _handlers({number: _Answering(one, answer) for number, one in handlers.items() if callable(one)}):
        yield


@contextmanager
def _handlers(handlers: dict[signal.Signals, Callable[[int, FrameType | None], Any]]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)
