"""What a server tells of itself to Prometheus."""

from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from synthmed.serving.limits import Gate
from synthmed.serving.manager import ModelManager
from synthmed.serving.status import Code

PATH = "/monitoring/prometheus/metrics"
"""Where TensorFlow Serving has them, too."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_LABELS = ("protocol", "method", "model", "version", "code")


class Metrics:
    """Counts and times requests.

    Args:
        manager: Its models are the only names that become labels: a stranger's words would fill the memory.
        gate: Tells how much is under way.
    """

    def __init__(self, manager: ModelManager, gate: Gate):
        self._manager = manager
        self._registry = CollectorRegistry()
        self._count = Counter("synthmed_requests", "Requests that were answered", _LABELS, registry=self._registry)
        self._seconds = Histogram(
            "synthmed_request_seconds",
            "Seconds from a request's headers to its answer",
            _LABELS,
            registry=self._registry,
            buckets=_SECONDS,
        )
        self._registry.register(_State(manager, gate))
        ProcessCollector(registry=self._registry)

    def answered(
        self, *, protocol: str, method: str, model: str, version: int | None, code: Code, seconds: float
    ) -> None:
        """Count an answer.

        Args:
            protocol: `REST` or `GRPC`.
            method: What was asked for, such as `Predict`.
            model: The name in the request; "" if it names none.
            version: The version that answered, or None.
            code: How it ended.
            seconds: How long it took.
        """
        known = model if model in self._manager.configs else ""
        labels = (protocol, method, known, "" if version is None else str(version), code.name)
        self._count.labels(*labels).inc()
        self._seconds.labels(*labels).observe(seconds)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class _State:
    """What is read at the moment somebody asks."""

    def __init__(self, manager: ModelManager, gate: Gate):
        self._manager = manager
        self._gate = gate

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Any]:
        gate = self._gate
        yield GaugeMetricFamily("synthmed_requests_running", "Requests being worked on", value=gate.running)
        waiting = max(gate.admitted - gate.running, 0)
        yield GaugeMetricFamily("synthmed_requests_waiting", "Requests received or waiting or sent", value=waiting)
        yield GaugeMetricFamily("synthmed_held_bytes", "Bytes of requests and answers in memory", value=gate.held)
        states = GaugeMetricFamily(
            "synthmed_version_state", "1 for the state of each", labels=["model", "version", "state"]
        )
        for name in list(self._manager.configs):
            for one in self._manager.known(name):
                states.add_metric([name, str(one.version), one.state.name], 1)
        yield states
