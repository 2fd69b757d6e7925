"""Memory that is free inside the process, and how the system gets it back."""

import ctypes
import threading
import time
from collections.abc import Callable

IDLE_SECONDS = 1.0
"""After how long without work free memory is given back."""
_ARENA_MAX = -8
"""glibc's number of the option M_ARENA_MAX."""
_ARENAS = 4


def limit_arenas(count: int = _ARENAS) -> None:
    """Let threads share few pools of memory: each keeps what was freed in it, and there may be eight a processor.

    It does nothing where the C library is not glibc.
    """
    if (libc := _glibc()) is not None:
        libc.mallopt(_ARENA_MAX, count)


def give_back() -> None:
    """Return to the system what was freed; nothing happens where the C library is not glibc."""
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018
    except (OSError, TypeError, AttributeError):
        return None
    return libc


class IdleTrimmer:
    """Gives memory back when there was no work for a moment. Its thread lives from work until then.

    Args:
        idle: Tells whether nothing is being worked on.
        seconds: How long that moment is.
    """

    def __init__(self, idle: Callable[[], bool], seconds: float = IDLE_SECONDS):
        self._idle = idle
        self._seconds = seconds
        self._lock = threading.Lock()
        self._last = 0.0
        self._waiting = False

    def worked(self) -> None:
        """Say that a piece of work has ended."""
        with self._lock:
            self._last = time.monotonic()
            if self._waiting:
                return
            self._waiting = True
        threading.Thread(target=self._wait, name="synthmed-memory", daemon=True).start()

    def _wait(self) -> None:
        while True:
            time.sleep(self._seconds)
            with self._lock:
                if self._idle() and time.monotonic() - self._last >= self._seconds:
                    self._waiting = False
                    break
        give_back()
