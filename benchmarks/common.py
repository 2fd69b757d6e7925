"""What the benchmarks share: sizes, options of the command line, lines of JSON."""

import json
import os
import platform
import resource
import statistics
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

STARTED = time.perf_counter()

# Options of `TrainOptions`, and the image channels. "tiny" only shows that a benchmark runs.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"size": 32, "channels": 1, "batch": 2, "channel_base": 128, "channel_max": 16, "z": 16, "layers": 2},
    "64": {"size": 64, "channels": 2, "batch": 8, "channel_base": 4096, "channel_max": 256, "z": 256, "layers": 4},
    "256": {"size": 256, "channels": 4, "batch": 4, "channel_base": 16384, "channel_max": 512, "z": 512, "layers": 8},
}
CLASSES = 2


def make_options(name: str, *, variant: str, precision: str, augment: str = "none"):
    """Return resolved `TrainOptions` of a size in `SIZES`."""
    from synthmed.training.options import TrainOptions, resolve

    chosen = SIZES[name]
    options = TrainOptions(
        variant=variant,
        batch=chosen["batch"],
        precision=precision,
        augment=augment,
        position=False,
        channel_base=chosen["channel_base"],
        channel_max=chosen["channel_max"],
        z_dim=chosen["z"],
        w_dim=chosen["z"],
        mapping_layers=chosen["layers"],
    )
    return resolve(options, size=(chosen["size"], chosen["size"]))


class Interleaved:
    """Times whole calls and single operations in turn, so that both see the same machine.

    Args:
        counts: From operation to how often a step does it, as `operations.operations` returns it.
        weights: From the name of a call to how often a step does it.
    """

    def __init__(self, counts: Counter, weights: dict[str, float]):
        from operations import timer

        self.counts = counts
        self.weights = weights
        self.calls: dict[str, list] = {name: [] for name in weights}
        self._timers = {operation: timer(operation) for operation in counts}
        self._timings: dict[Any, list] = {operation: [] for operation in counts}

    def round(self, calls: dict[str, Callable[[], Any]]) -> None:
        """Time each call once and each operation once."""
        from operations import timed

        for name, call in calls.items():
            self.calls[name].append(timed(call))
        for operation, timer in self._timers.items():
            self._timings[operation].append(timer())

    def report(self, items: int) -> dict[str, Any]:
        """Return what a step costs and could cost.

        Args:
            items: What a step does so many of.

        Returns:
            `*_best` is from the shortest of the rounds, as the bound is, and without it from the median round.
            `processor_*` counts seconds on all cores together, best of the rounds.
        """
        typical, best = self._step(statistics.median, "wall"), self._step(min, "wall")
        processor, bound = self._step(min, "processor"), self._bound("wall")
        return {
            "per_second": items / typical,
            "per_second_best": items / best,
            "step_ms": 1e3 * typical,
            "step_ms_best": 1e3 * best,
            "bound_ms": 1e3 * bound,
            "share": bound / typical,
            "share_best": bound / best,
            "processor_ms": 1e3 * processor,
            "processor_bound_ms": 1e3 * self._bound("processor"),
            "processor_share": self._bound("processor") / processor,
            "gflop": sum(count * operation.gflop for operation, count in self.counts.items()),
        }

    def _step(self, reduce: Callable[[list[float]], float], clock: str) -> float:
        parts = {name: reduce([getattr(timing, clock) for timing in found]) for name, found in self.calls.items()}
        return sum(weight * parts[name] for name, weight in self.weights.items())

    def _bound(self, clock: str) -> float:
        return sum(
            self.counts[operation] * min(getattr(timing, clock) for timing in found)
            for operation, found in self._timings.items()
        )


def since_start() -> float:
    """Seconds since the benchmark began to import TensorFlow."""
    return time.perf_counter() - STARTED


def peak_gib() -> float:
    """Largest resident memory of this process so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def emit(record: dict[str, Any]) -> None:
    """Print one measurement as one line of JSON, with what it was taken on."""
    import tensorflow as tf

    machine = {
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "processor": _processor(),
        "tensorflow": tf.__version__,
    }
    print(json.dumps(_rounded(record) | {"machine": machine}), flush=True)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _rounded(value):
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value
