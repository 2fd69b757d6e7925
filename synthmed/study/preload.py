"""What Dask loads into each worker that a study starts."""

import signal
import threading


def dask_setup(worker: object) -> None:
    """Leave Ctrl-C to the study, which ends its workers in order; else each of them would show a traceback."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
