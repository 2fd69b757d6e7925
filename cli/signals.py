"""Ctrl-C and its like: answered at once, and ended with the right exit code, whatever the process is busy with.

Python calls a signal's handler between two of its own instructions: not while TensorFlow compiles. What runs at once is
the interpreter's C handler, which writes the signal's number to a socket; a thread that reads it answers the user, and
ends the process if it is asked a second time, or if the process does not come to it by itself.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
from types import FrameType
from typing import Any, Self

from synthmed.stopping import ending_signals

WORDS = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "the terminal is gone"}
HOOKS = ((sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook"))
"""By which Python prints exceptions that nobody takes."""
QUIET_SECONDS = 0.3
"""What ends within this time needs no answer but its last line."""
PATIENCE_SECONDS = 10.0
"""For a command that is not saving anything to remove what is half-written; then the next run does so."""
LAST_SECONDS = 1.0
"""The same after a second signal."""


class Signals:
    """Answers signals inside its block; outside the main thread, where Python allows no handlers, it does nothing.

    Attributes:
        number: The first signal that came, or None.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._ready = False
        self._before: dict[signal.Signals, Any] = {}

    @property
    def code(self) -> int:
        """The exit code that the first signal asks for; without one, that of an interruption."""
        return 128 + (self.number or signal.SIGINT)

    @property
    def word(self) -> str:
        """What happened, in a word."""
        return WORDS[signal.Signals(self.number or signal.SIGINT).name]

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self
        self._before = {number: signal.signal(number, self._end) for number in ending_signals()}
        self._reading, self._writing = socket.socketpair()
        self._writing.setblocking(False)
        self._wakeup_before = signal.set_wakeup_fd(self._writing.fileno(), warn_on_full_buffer=False)
        # While TensorFlow is imported, standard error leads elsewhere (`quiet`).
        self._screen = os.dup(2)
        self._left = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    def begin(self) -> None:
        """End the work, from here on, when a signal comes, or at once where one has come.

        Raises:
            KeyboardInterrupt, SystemExit: Then; before this call nobody would take them.
        """
        self._ready = True
        if self.number is not None:
            self._end(self.number, None)

    def __exit__(self, *error: object) -> None:
        self._ready = False
        if not self._before:
            return
        self._left.set()
        signal.set_wakeup_fd(self._wakeup_before)
        # After all signals that came; 0 is none.
        self._writing.send(b"\0")
        self._watcher.join(timeout=LAST_SECONDS)
        if self.number is not None:
            # Libraries still tidy up at the interpreter's end; who asks again does not want to wait for them.
            for number in self._before:
                signal.signal(number, lambda *_: self._leave())
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _end(self, number: int, frame: FrameType | None) -> None:
        """End in order: what is half-written is removed on the way out."""
        self.number = self.number or number
        if not self._ready:
            return
        # Compiled code that is interrupted prints what it cannot pass on, and threads what ends them.
        for module, name in HOOKS:
            setattr(module, name, lambda *_: None)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    def _watch(self) -> None:
        count = 0
        while number := self._reading.recv(1)[0]:
            if number not in self._before:
                continue
            count += 1
            self.number = self.number or number
            handler = signal.getsignal(number)
            answer = getattr(handler, "answer", None)
            if number == getattr(signal, "SIGHUP", None):
                _leave_terminal()
            if count == 1 and answer is not None:
                self._say(answer)
            elif count == 1:
                threading.Thread(target=self._wait, args=(PATIENCE_SECONDS,), daemon=True).start()
            elif count == 2:
                threading.Thread(target=self._wait, args=(LAST_SECONDS,), daemon=True).start()
            else:
                self._leave()

    def _wait(self, seconds: float) -> None:
        """End the process after so long, unless it ends by itself."""
        if not self._left.wait(QUIET_SECONDS):
            self._say("ending")
            if not self._left.wait(seconds):
                self._leave()

    def _leave(self) -> None:
        # Nobody else would end what this process has started.
        import psutil

        with contextlib.suppress(psutil.Error, OSError):
            for child in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error, OSError):
                    child.terminate()
        os._exit(self.code)

    def _say(self, answer: str) -> None:
        # On a terminal a bar may stand in the line.
        start = "\r\033[K" if os.isatty(self._screen) else ""
        with contextlib.suppress(OSError):
            os.write(self._screen, f"{start}synthmed: {self.word}: {answer}\n".encode())


def _leave_terminal() -> None:
    """Write nowhere instead of to a terminal that is gone: an error there would end what is being saved."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (sys.stdin, sys.stdout, sys.stderr):
            if os.isatty(stream.fileno()):
                os.dup2(nowhere, stream.fileno())
