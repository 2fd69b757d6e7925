"""The cluster of a training on several machines, as the variable TF_CONFIG describes it."""

import os
from dataclasses import dataclass
from typing import Any

from synthmed.errors import UserError
from synthmed.files import parse_json

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
