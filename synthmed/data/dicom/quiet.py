"""pydicom without its warnings and log lines, which quote what a header says."""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_lock = threading.Lock()
_users = 0
_context: Any = None
_level = logging.NOTSET


@contextmanager
def quiet() -> Iterator[None]:
    """Silence all warnings, and pydicom's log, within; several threads may be within at once.

    `warnings.catch_warnings` alone would leave the filters of one thread behind when another is within.
    """
    global _users, _context, _level
    log = logging.getLogger("pydicom")
    with _lock:
        if _users == 0:
            _context = warnings.catch_warnings()
            _context.__enter__()
            warnings.simplefilter("ignore")
            _level = log.level
            log.setLevel(logging.CRITICAL + 1)
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _context.__exit__(None, None, None)
                log.setLevel(_level)
