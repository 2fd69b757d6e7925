"""Running the tasks of a study on Dask workers."""

import logging
import queue
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthmed.errors import UserError
from synthmed.extras import install_hint
from synthmed.files import read_json, write_json
from synthmed.hardware import core_count
from synthmed.progress import Progress, Say, silent, unheard
from synthmed.stopping import answering
from synthmed.study.config import Configuration
from synthmed.study.folder import FAILED, STUDY, TRIAL, StudyFolder
from synthmed.study.grid import Grid, Task, make_grid, trial_words
from synthmed.study.process import in_process
from synthmed.study.record import Journal, Summary, Tracker
from synthmed.study.sources import open_sources
from synthmed.study.work import Outcome, begin, outcome_of

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT_SECONDS = 30
# Workers are many processes that start at once on a machine that may be busy.
_SETTINGS = {
    "distributed.comm.timeouts.connect": "60s",
    "distributed.comm.timeouts.tcp": "120s",
    "distributed.worker.preload": ["synthmed.study.process"],
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


Work = Callable[[StudyFolder, Task, str], Outcome]
"""Does a task on a worker, given the study's folder and its token."""
TRIES = 4
"""How often a task is given to the scheduler again whose workers died, or that was stopped or busy."""
LEAST_FREE = 64 * 2**20
"""Bytes that a disk must have before a task begins: a checkpoint more would not fit."""
LOOK_SECONDS = 1.0
ENDING = "running trainings write a checkpoint, then it ends; once more ends it at once"
PRIORITIES = {"store": 4, "generator": 3, "slices": 2, "judge": 1, "trial": 0}


def run_study(
    configuration: Configuration,
    out: Path,
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    work: Work = in_process,
    progress: Progress | None = None,
    say: Say = unheard,
) -> Summary:
    """Run what is not finished of a study; stopped or killed, the same call goes on.

    Args:
        configuration: Of the study.
        out: Its folder; trials of an earlier configuration stay there and are used where they are the same.
        scheduler: Address of a running Dask scheduler whose workers share `out`; None starts workers here.
        workers: Tasks at a time on this machine; by default as many as its processors have room for.
        work: Does a task on a worker.
        progress: Told after each task.
        say: Told what failed, when it fails.

    Raises:
        UserError: If a data set cannot be read, another process works on the folder or it holds something else, the
            disk is full or the scheduler is lost; everything finished until then is kept.
    """
    folder = StudyFolder(out)
    folder.check()
    with folder.locked() as token:
        grid = make_grid(configuration, open_sources(configuration, folder))
        needs = {task.digest: [list(one) for one in task.needs] for task in grid.tasks.values()}
        folder.write(configuration.model_dump(mode="json"), grid.trials, needs)
        missing = _missing(folder, grid)
        tasks = grid.needed(missing, lambda task: folder.finished(task.kind, task.digest))
        tracker = Tracker(configuration.name, folder, say)
        for digest in grid.trials:
            if digest not in missing:
                tracker.log(digest)
        journal = Journal(folder, grid, tasks, progress or silent)
        if not tasks:
            journal.write("finished")
            return journal.summary()
        for digest in missing:
            (folder.of("trial", digest) / FAILED).unlink(missing_ok=True)
        threads = configuration.threads
        with answering(ENDING), connect(scheduler, workers=workers, threads=threads, tasks=len(tasks)) as client:
            _Run(folder, grid, tasks, client, journal, tracker, work, token, say).go()
        return journal.summary()


def _missing(folder: StudyFolder, grid: Grid) -> list[str]:
    """Return the trials that are not finished; those that are get the names that the configuration gives them now."""
    missing = []
    for digest, cell in grid.trials.items():
        if not folder.finished("trial", digest):
            missing.append(digest)
            continue
        file = folder.of("trial", digest) / TRIAL
        value = read_json(file)
        if any(value.get(name) != cell[name] for name in cell):
            write_json(file, {**value, **cell})
    return missing


def do_task(out: str, task: Task, work: Work, token: str) -> Outcome:
    """Do a task on a worker: what Dask calls."""
    folder = StudyFolder(Path(out))
    if not (folder.path / STUDY).is_file():
        return Outcome("failed", f"a worker sees no {folder.path}: put --out where all workers see it")
    if folder.finished(task.kind, task.digest):
        return Outcome("finished")
    if not folder.wanted_by(token):
        return Outcome("stopped", "the study was stopped")
    if shutil.disk_usage(folder.path).free < LEAST_FREE:
        return Outcome("full", f"less than {LEAST_FREE // 2**20} MiB are free")
    try:
        begin(folder, task)
        return work(folder, task, token)
    except Exception as error:
        return outcome_of(error)


class _Run:
    """One run of the tasks that are missing."""

    def __init__(
        self,
        folder: StudyFolder,
        grid: Grid,
        tasks: list[Task],
        client: "Client",
        journal: Journal,
        tracker: Tracker,
        work: Work,
        token: str,
        say: Say,
    ):
        self.folder, self.grid, self.client, self.journal = folder, grid, client, journal
        self.tracker, self.work, self.token, self.say = tracker, work, token, say
        self.tasks = {task.digest: task for task in tasks}
        self.needs = {task.digest: {one for _, one in task.needs if one in self.tasks} for task in tasks}
        self.futures: dict[str, Future] = {}
        self.tries: Counter[str] = Counter()
        self.ended: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()

    def go(self) -> None:
        """Run until nothing is left that can be run."""
        try:
            self._submit_all([one for one, needs in self.needs.items() if not needs])
            while self.futures:
                self._take_one()
            self.journal.write("failed" if self.journal.failed else "finished")
        except BaseException:
            # Whatever still runs is told by this to write a checkpoint and end.
            self.folder.dismiss()
            self.journal.write("stopped")
            raise

    def _submit_all(self, digests: list[str]) -> None:
        """Submit tasks, those first that others wait for: an idle worker takes the first that comes."""
        for digest in sorted(digests, key=lambda one: -PRIORITIES[self.tasks[one].kind]):
            self._submit(digest)

    def _submit(self, digest: str) -> None:
        task = self.tasks[digest]
        self.tries[digest] += 1
        future = self.client.submit(
            do_task,
            str(self.folder.path),
            task,
            self.work,
            self.token,
            # What others wait for goes first.
            priority=PRIORITIES[task.kind],
            key=f"{task.kind}-{digest}-{self.token[:8]}-{self.tries[digest]}",
            pure=False,
        )
        self.futures[digest] = future
        future.add_done_callback(lambda ended, digest=digest: self.ended.put((digest, ended)))

    def _take_one(self) -> None:
        """Wait for a task to end and do what follows from that."""
        try:
            digest, future = self.ended.get(timeout=LOOK_SECONDS)
        except queue.Empty:
            self.journal.write("running")
            self._check_scheduler()
            return
        if digest not in self.futures or self.futures[digest] is not future:
            return
        outcome = self._outcome(future)
        task = self.tasks[digest]
        if outcome.status == "full":
            raise UserError(
                f"the disk of {self.folder.path} is full ({self.journal.summary().words} and saved): free some space, "
                f"for example with `synthmed study prune {self.folder.path}`, and give the same command again"
            )
        del self.futures[digest]
        if outcome.status == "finished":
            self._finished(task)
        elif outcome.status in ("busy", "stopped") and self.tries[digest] < TRIES:
            time.sleep(LOOK_SECONDS)
            self._submit(digest)
        else:
            self._failed(task, outcome.cause)

    def _outcome(self, future: "Future") -> Outcome:
        if future.status == "finished":
            outcome: Outcome = future.result()
            return outcome
        if future.status == "error":
            from distributed import KilledWorker

            error = future.exception()
            if isinstance(error, KilledWorker):
                return Outcome("stopped", "its workers died again and again: do they have enough memory?")
            return outcome_of(error)
        self._check_scheduler()
        return Outcome("stopped", "the scheduler gave it up")

    def _check_scheduler(self) -> None:
        if self.client.status not in ("running", "newly-created"):
            address = self.client.scheduler.address if self.client.scheduler else "the scheduler"
            raise UserError(
                f"the scheduler at {address} is lost ({self.journal.summary().words} and saved): start it again "
                "and give the same command"
            )

    def _finished(self, task: Task) -> None:
        if task.kind == "trial":
            self.tracker.log(task.digest)
        self.journal.finished(task)
        ready = []
        for digest, needs in self.needs.items():
            if task.digest in needs:
                needs.discard(task.digest)
                if not needs and digest not in self.journal.failed:
                    ready.append(digest)
        self._submit_all(ready)

    def _failed(self, task: Task, cause: str) -> None:
        """List a task as failed, and all that would have been made of it."""
        pending = [(task, cause)]
        while pending:
            one, why = pending.pop()
            if one.digest in self.journal.failed:
                continue
            self.journal.fail(one, why)
            if one.kind == "trial":
                where = self.folder.of("trial", one.digest)
                cell = self.grid.trials[one.digest]
                write_json(where / FAILED, {**cell, "hash": one.digest, "status": "failed", "cause": why})
                self.say(f"failed: {trial_words(cell)}: {why}")
            needed = why if one is not task else f"{task.words} failed: {cause}"
            pending += [(self.tasks[digest], needed) for digest, needs in self.needs.items() if one.digest in needs]
