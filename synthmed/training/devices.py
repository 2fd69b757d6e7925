"""The devices that a training runs on: one, several of this machine, or several machines.

Workers of a cluster run the same program on the same steps. What they decide by something that differs between them (a
clock, a signal, a file) has to be agreed upon, or one of them waits for ever for an all-reduce that the others have
left; `Devices` holds the few ways in which they agree. Clusters are TensorFlow's.
"""

import hashlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from synthmed.backend import backend_name
from synthmed.errors import UserError, present
from synthmed.training.cluster import Cluster, tells_of_a_loss
from synthmed.training.options import TrainOptions
from synthmed.training.sharing import local_devices

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

    @classmethod
    def of(cls, name: str) -> "Devices":
        """Return the devices of an option `strategy`: "one", "mirrored" or "workers".

        For several workers this has to come before anything else asks TensorFlow for a tensor, and it waits until all
        of them are there.

        Raises:
            UserError: If TF_CONFIG describes no cluster, this process cannot join it, or the backend knows none.
        """
        if backend_name() == "jax":
            from synthmed.training.jax_devices import JaxDevices

            return JaxDevices.of(name)
        if name == "one":
            return cls()
        if name == "workers":
            return _join()
        import tensorflow as tf

        return cls(tf.distribute.MirroredStrategy(local_devices()))

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
        """Refuse to go on unless all workers hold the same.

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
def _join() -> Devices:
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
