"""The devices that a training runs on: one, several of this machine, or several machines.

Workers of a cluster run the same program on the same steps. What they decide by something that differs between them (a
clock, a signal, a file) has to be agreed upon, or one of them waits for ever for an all-reduce that the others have
left; `Devices` has the few ways in which they agree. Clusters are TensorFlow's.
"""

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from synthmed.errors import UserError, present
from synthmed.files import parse_json
from synthmed.training.options import TrainOptions

Result = TypeVar("Result")

# How long workers wait for each other at the start, for a file of the chief's to show up, for a sign of life, and
# before they end: after a loss the others do not come.
JOIN_SECONDS = 600
FILE_SECONDS = 60.0
HEARTBEAT_SECONDS = 20
LEAVE_SECONDS = 15
# How often workers ask each other whether to stop: seldom enough to cost nothing, often enough for Ctrl-C.
AGREE_SECONDS = 0.5
AGREE_STEPS = 100
# An integer of so many bytes passes through a float64 unharmed.
DIGEST_BYTES = 6

VARIABLE = "TF_CONFIG"
HELP = "; docs/distributed.md shows one, and --strategy one trains on this machine alone"


@dataclass(frozen=True)
class Cluster:
    """Who takes part in a training, and who of them this process is.

    Attributes:
        addresses: "host:port" of every worker, the chief first.
        index: Place of this process among them.
        jobs: How many tasks each job has: {"worker": n}, or {"chief": 1, "worker": n}.
    """

    addresses: tuple[str, ...]
    index: int
    jobs: dict[str, int]

    @classmethod
    def of_environment(cls) -> "Cluster":
        """Read TF_CONFIG, `{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}`.

        Raises:
            UserError: If it is missing, or describes no cluster, or a task that the cluster does not have.
        """
        text = os.environ.get(VARIABLE)
        if not text:
            raise UserError(f"--strategy workers reads the cluster from {VARIABLE}, which is not set{HELP}")
        try:
            content = parse_json(text, VARIABLE)
        except UserError as error:
            raise UserError(f"{error}{HELP}") from None
        return cls._of(content)

    @classmethod
    def _of(cls, content: Any) -> "Cluster":
        jobs = content.get("cluster") if isinstance(content, dict) else None
        task = content.get("task") if isinstance(content, dict) else None
        if not isinstance(jobs, dict) or not isinstance(task, dict):
            raise UserError(f'{VARIABLE} needs "cluster" and "task"{HELP}')
        lists = all(isinstance(addresses, list) and addresses for addresses in jobs.values())
        if not lists or set(jobs) - {"chief", "worker"} or len(jobs.get("chief", [""])) > 1:
            raise UserError(
                f'{VARIABLE}: "cluster" lists addresses as "worker", and one as "chief" where there is one{HELP}'
            )
        names = [name for name in ("chief", "worker") if name in jobs]
        addresses = [address for name in names for address in jobs[name]]
        if not all(isinstance(address, str) and address.rpartition(":")[2].isdecimal() for address in addresses):
            raise UserError(f"{VARIABLE}: write every address of the cluster as host:port{HELP}")
        kind, index = task.get("type"), task.get("index")
        if kind not in names:
            raise UserError(f"{VARIABLE}: the task has type {kind!r}, the cluster has {' and '.join(names)}{HELP}")
        if not isinstance(index, int) or not 0 <= index < len(jobs[kind]):
            raise UserError(
                f"{VARIABLE}: the task has index {index!r}, but the cluster has {len(jobs[kind])} of type {kind}, "
                f"counted from 0{HELP}"
            )
        before = 1 if kind == "worker" and "chief" in jobs else 0
        return cls(tuple(addresses), before + index, {name: len(jobs[name]) for name in names})

    def place(self, job: str, task: int) -> int:
        """Return the place among all workers of a task of a job."""
        return task + (1 if job == "worker" and "chief" in self.jobs else 0)


class Devices:
    """How replicas share the work of a training.

    Args:
        strategy: TensorFlow's strategy; None for one device.
        cluster: The cluster that this process is a worker of; None where all devices are its own.

    Attributes:
        chief: Whether this process writes the run folder.
        workers: How many processes.
        replicas: How many devices share a batch.
    """

    def __init__(self, strategy: Any = None, cluster: Cluster | None = None):
        self.strategy = strategy
        self.cluster = cluster
        self.workers = len(cluster.addresses) if cluster else 1
        self.index = cluster.index if cluster else 0
        self.chief = self.index == 0
        self.replicas = 1 if strategy is None else int(strategy.num_replicas_in_sync)
        self._sum: Callable[[Any], Any] | None = None

    def scope(self) -> AbstractContextManager:
        """Return the scope in which variables are made."""
        return nullcontext() if self.strategy is None else self.strategy.scope()

    def agreement(self, step: int) -> "Agreement":
        """Return what a training loop that begins at a step asks when to stop."""
        return Agreement(self, step)

    def wait_for_all(self) -> None:
        """Return when all workers have come here."""
        self._table(0, 0)

    def of_chief(self, number: int) -> int:
        """Return the chief's number on every worker."""
        return int(self._table(number, 0)[0, 0])

    def check_same(self, what: str, value: Any) -> None:
        """Refuse to go on unless all workers have the same.

        Args:
            what: What it is, in the plural.
            value: Something whose `repr` says all of it, or arrays by name.

        Raises:
            UserError: On every worker, if one differs.
        """
        if self.workers == 1:
            return
        table = self._table(_digest(value), 0)[:, 0]
        if other := [place for place in range(self.workers) if table[place] != table[0]]:
            raise UserError(
                f"worker {other[0]} and worker 0 have not the same {what}: start all with the same command, the same "
                "version of synthmed, and a run folder and a store that all share"
            )

    def chief_first(self, work: Callable[[], Result]) -> Result | None:
        """Let the chief do something while the others wait, and return its result on the chief, None elsewhere.

        Raises:
            UserError: What the chief's work raised; on the others one that says so.
        """
        if self.workers == 1:
            return work()
        result = refusal = None
        try:
            result = work() if self.chief else None
        except UserError as error:
            refusal = error
        refused = bool(self._table(float(refusal is not None), 0).any())
        if refusal is not None:
            raise refusal
        if refused:
            raise UserError(f"worker 0 ({self._name(0)}) refused to go on: see what it says")
        return result

    def wait_for_file(self, path: Path) -> None:
        """Wait for something that the chief has written: a shared file system may show it late.

        Raises:
            UserError: If it does not show up.
        """
        end = time.monotonic() + FILE_SECONDS
        while not path.exists():
            if time.monotonic() > end:
                raise UserError(
                    f"worker {self.index} sees no {path}, which worker 0 has written: put --out on a file system that "
                    "all workers share"
                )
            time.sleep(0.1)

    @contextmanager
    def watched(self, run: Path, options: TrainOptions) -> Iterator[None]:
        """Turn the loss of another worker into one line that says how to go on.

        Raises:
            UserError: If another worker is gone.
        """
        if self.workers == 1:
            yield
            return
        import tensorflow as tf

        try:
            yield
        except tf.errors.OpError as error:
            if not tells_of_a_loss(error):
                raise
            again = f"synthmed train --variant {options.variant} --out {run} --resume"
            raise UserError(
                f"{self._lost(str(error))}; go on from the last checkpoint of {run} (from the start, where there is "
                f"none yet) with `{again} --strategy workers` on all workers, or with `{again} --strategy one` on one"
            ) from error

    def _lost(self, message: str) -> str:
        """Say which worker is gone, where the message knows it."""
        cluster = present(self.cluster, "workers are lost by a cluster alone")
        found = re.findall(r"/job:(\w+)/replica:\d+/task:(\d+)", message)
        others = {cluster.place(job, int(task)) for job, task in found} - {self.index}
        if self.workers == 2:
            others = {1 - self.index}
        elif "coordination service" in message and not self.chief:
            # Only the leader answers for that service.
            others = {0}
        one = others.pop() if len(others) == 1 else None
        who = f"one of the {self.workers} workers" if one is None else f"worker {one} ({self._name(one)})"
        return f"{who} is gone (killed, or its machine or network failed)"

    def _name(self, place: int) -> str:
        return self.cluster.addresses[place] if self.cluster else "this process"

    def _table(self, first: float, second: float) -> np.ndarray:
        """Return every worker's two numbers, float64 `(workers, 2)`."""
        table = np.zeros((self.workers, 2))
        table[self.index] = first, second
        return table if self.workers == 1 else self._summed(table)

    def _summed(self, table: np.ndarray) -> np.ndarray:
        import tensorflow as tf

        if self._sum is None:
            local = self.replicas // self.workers

            def replica(values: Any) -> Any:
                context = tf.distribute.get_replica_context()
                # One device speaks for all of a worker's.
                speaks = tf.cast(context.replica_id_in_sync_group % local == 0, values.dtype)
                return context.all_reduce(tf.distribute.ReduceOp.SUM, values * speaks)

            self._sum = tf.function(lambda values: self.strategy.run(replica, args=(values,)), autograph=False)
        total = self._sum(tf.constant(table, tf.float64))
        return np.asarray(self.strategy.experimental_local_results(total)[0])


class Agreement:
    """Asks all workers, every half second or so, how late it is by the chief's clock and whether one has to stop.

    When they ask follows from what they agreed upon before, so that all of them ask after the same step.
    """

    def __init__(self, devices: Devices, step: int):
        self._devices = devices
        self._asked = self._due = step
        self._seconds: float | None = None

    def ask(self, step: int, seconds: float, stop: bool) -> tuple[float, bool] | None:
        """Return the chief's seconds and whether any worker was asked to stop; None after a step without a question.

        Args:
            step: Steps done.
            seconds: Of training, by this worker's clock.
            stop: Whether this worker was asked to stop.
        """
        if self._devices.workers == 1:
            return seconds, stop
        if step < self._due:
            return None
        table = self._devices._table(seconds, float(stop))
        agreed = float(table[0, 0])
        if self._seconds is not None:
            pace = (agreed - self._seconds) / max(step - self._asked, 1)
            self._due = step + min(AGREE_STEPS, max(1, int(AGREE_SECONDS / max(pace, 1e-6))))
        self._asked, self._seconds = step, agreed
        return agreed, bool(table[:, 1].any())


@cache
def join_cluster() -> Devices:
    """Join the cluster; once a process, since TensorFlow can do it only at its start."""
    cluster = Cluster.of_environment()
    import tensorflow as tf

    try:
        _set_timeouts(cluster)
        return Devices(tf.distribute.MultiWorkerMirroredStrategy(), cluster)
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"worker {cluster.index} ({cluster.addresses[cluster.index]}) could not join the cluster of TF_CONFIG: "
            f"{reason}; see that all workers are started within {JOIN_SECONDS // 60} minutes and reach each other"
        ) from error


def _set_timeouts(cluster: Cluster) -> None:
    """Configure the service by which workers notice each other's death; the strategy would take its defaults."""
    from tensorflow.compiler.xla.tsl.protobuf import coordination_config_pb2
    from tensorflow.python.eager import context

    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader=f"/job:{next(iter(cluster.jobs))}/replica:0/task:0",
        cluster_register_timeout_in_ms=JOIN_SECONDS * 1000,
        heartbeat_timeout_in_ms=HEARTBEAT_SECONDS * 1000,
        shutdown_barrier_timeout_in_ms=LEAVE_SECONDS * 1000,
        coordinated_jobs=[coordination_config_pb2.CoordinatedJob(name=n, num_tasks=k) for n, k in cluster.jobs.items()],
    )


def _digest(value: Any) -> int:
    digest = hashlib.sha256()
    if isinstance(value, dict):
        for name in sorted(value):
            digest.update(name.encode() + np.ascontiguousarray(value[name]).tobytes())
    else:
        digest.update(repr(value).encode())
    return int.from_bytes(digest.digest()[:DIGEST_BYTES], "big")


def tells_of_a_loss(error: Any) -> bool:
    """Tell whether an error of TensorFlow means that another worker is gone."""
    import tensorflow as tf

    kinds = (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.CancelledError,
        tf.errors.DeadlineExceededError,
    )
    message = str(error).lower()
    return isinstance(error, kinds) or "collective" in message or "coordination" in message or "heartbeat" in message


def check_share(options: TrainOptions, replicas: int) -> None:
    """Refuse a batch that does not divide among the replicas.

    Raises:
        UserError: If it does not, or if that of the path length regulariser does not.
    """
    if options.batch % replicas or options.path_batch % replicas:
        raise UserError(
            f"a batch of {options.batch} (path length: {options.path_batch}) does not divide among {replicas} "
            f"replicas: give --batch {options.path_batch_shrink * replicas} or a multiple of it"
        )


def describe(options: TrainOptions, replicas: int) -> str:
    """Describe how a batch is shared."""
    if replicas == 1:
        alone = {"mirrored": "this machine has one device: nothing to share", "workers": "a cluster of one worker"}
        return alone.get(options.strategy, "one device")
    return f"{replicas} replicas, {options.batch // replicas} slices of each batch of {options.batch} on each"
