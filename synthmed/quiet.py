"""Keep TensorFlow's start-up chatter off the terminal."""

import logging
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

SLOW_SECONDS = 1.0
_CHATTER = re.compile(rb"WARNING: All log messages before absl|[IWE]\d{4} \d\d:\d\d:\d\d")


def quieten_tensorflow(*, slow: str | None = "loading TensorFlow") -> None:
    """Silence TensorFlow's logs from its import on; with TF_CPP_MIN_LOG_LEVEL=0 in the environment nothing is silenced.

    That variable alone is not enough: TensorFlow 2.21 reads it after it has written its first lines.

    Args:
        slow: Line to print where the import takes longer than a second; None prints nothing.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0":
        return
    # nibabel writes a line for each header field that it mends; what matters of that, our own errors tell.
    for name in ("tensorflow", "absl"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # nibabel prints the errors that it then raises.
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)
    if "tensorflow" not in sys.modules and not any(isinstance(finder, _QuietImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _QuietImport(slow))


class _QuietImport(MetaPathFinder):
    """Finds tensorflow until it is imported, and runs that import with standard error filtered."""

    def __init__(self, slow: str | None = None):
        self.slow = slow

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "tensorflow":
            return None
        sys.meta_path.remove(self)
        try:
            spec = find_spec(fullname)
        finally:
            # To be found is not yet to be imported.
            sys.meta_path.insert(0, self)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_quietly(module: ModuleType) -> None:
                if self in sys.meta_path:
                    sys.meta_path.remove(self)
                with _said_if_slow(self.slow), _without_chatter():
                    execute(module)

            spec.loader.exec_module = execute_quietly  # type: ignore[method-assign]
        return spec


@contextmanager
def _said_if_slow(line: str | None) -> Iterator[None]:
    """Say what is being done, where the block takes longer than anybody waits without a word."""
    if line is None:
        yield
        return
    screen = os.dup(2)
    timer = threading.Timer(SLOW_SECONDS, os.write, (screen, f"{line}\n".encode()))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        os.close(screen)


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Hold back what reaches file descriptor 2 in the block, then let through whatever is no log line."""
    sys.stderr.flush()
    original = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(original, 2)
            os.close(original)
            held.seek(0)
            for line in held:
                if not _CHATTER.match(line):
                    os.write(2, line)
