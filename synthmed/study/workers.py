"""Where the tasks of a study run: workers on this machine, or those of a scheduler that runs already."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from synthmed.errors import UserError
from synthmed.extras import install_hint
from synthmed.hardware import core_count

if TYPE_CHECKING:
    from distributed import Client

CONNECT_SECONDS = 30
# Workers are many processes that start at once on a machine that may be busy.
_SETTINGS = {
    "distributed.comm.timeouts.connect": "60s",
    "distributed.comm.timeouts.tcp": "120s",
    "distributed.worker.preload": ["synthmed.study.preload"],
}


def default_workers(threads: int) -> int:
    """Return how many tasks of so many threads this machine has processors for."""
    return max(1, core_count() // threads)


@contextmanager
def connect(scheduler: str | None, *, workers: int | None, threads: int, tasks: int) -> "Iterator[Client]":
    """Yield a client of a Dask scheduler; workers that are started for it end with the block.

    Args:
        scheduler: Its address; None starts one here, with workers that are started again when they die.
        workers: How many tasks at a time on this machine.
        threads: Of each task.
        tasks: How many there are to do.

    Raises:
        UserError: If Dask is missing, or nobody answers at the address.
    """
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError as error:
        name = error.name or "distributed"
        raise UserError(f"a study needs the Python package {name}: {install_hint('distributed')}") from None
    for name in ("distributed", "tornado.application"):
        # What matters of a worker's death is told in our own words.
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if scheduler is not None:
        if workers is not None:
            raise UserError("--workers starts workers here, --scheduler uses those of a cluster: leave out one")
        try:
            client = Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            raise UserError(
                f"no Dask scheduler answers at {scheduler} ({_first(error)}): start one with `dask scheduler`, or "
                "leave out --scheduler"
            ) from None
        with client:
            yield client
        return
    count = min(workers or default_workers(threads), max(tasks, 1))
    with (
        dask.config.set(_SETTINGS),
        LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            processes=True,
            memory_limit=0,
            # Any port that is free, for this machine alone.
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def _first(error: Exception) -> str:
    return " ".join(str(error).split())[:100]
