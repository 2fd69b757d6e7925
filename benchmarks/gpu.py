"""Training and generation under JAX on the device of this machine, as a share of what it can multiply.

    benchmarks/gpu.sh --out gpu.json          (--small: a tiny network, which a processor measures in a minute or so)

Every measurement has a process of its own, so that its start and its memory are its own. The first one of a size
compiles; "again" is the first one once more, which finds the compiled programs on disk.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import CLASSES, SIZES, make_options, peak_gib, since_start

# Dense bfloat16 by the makers' data sheets, TFLOP/s; by what JAX calls the device.
PEAKS = {
    "NVIDIA H100 80GB HBM3": 989.4,
    "NVIDIA H100 PCIe": 756.0,
    "NVIDIA H200": 989.4,
    "NVIDIA A100-SXM4-40GB": 312.0,
    "NVIDIA A100-SXM4-80GB": 312.0,
    "NVIDIA A10G": 70.0,
    "NVIDIA L4": 121.0,
    "TPU v4": 275.0,
    "TPU v5 lite": 197.0,
    "TPU v5p": 459.0,
    "TPU v6 lite": 918.0,
}
RUNS = [("64", 32), ("64", 64), ("256", 32), ("256", 64)]
SMALL_RUNS = [("tiny", 2)]
# A whole round of the regularisers, and enough of them that the clock does not matter.
ROUND, ROUNDS = 16, 5
SMALL_FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def main() -> None:
    """Read the command line, and measure all or one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="the file to write  [default: gpu.json]")
    parser.add_argument("--small", action="store_true", help="a tiny network, to see that all of it runs")
    parser.add_argument("--one", nargs=2, metavar=("SIZE", "BATCH"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one[0], int(arguments.one[1]), small=arguments.small)))
        return
    with tempfile.TemporaryDirectory() as cache:
        runs = SMALL_RUNS if arguments.small else RUNS
        measured = [in_process(size, batch, cache, small=arguments.small) for size, batch in runs]
        again = in_process(*runs[0], cache, small=arguments.small)
    arguments.out.write_text(json.dumps({"runs": measured, "again": again}, indent=2) + "\n", encoding="utf-8")
    print(arguments.out)


def in_process(size: str, batch: int, cache: str, *, small: bool) -> dict[str, Any]:
    """Measure in a process of its own; what fails there is told in the place of figures."""
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": cache}
    if small:
        environment |= {"XLA_FLAGS": SMALL_FLAGS, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    command = [sys.executable, __file__, "--one", size, str(batch), *["--small"] * small]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return {"size": size, "batch": batch, "failed": lines[-1] if lines else f"exit {done.returncode}"}
    record = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(record), file=sys.stderr, flush=True)
    return record


def measure(name: str, batch: int, *, small: bool) -> dict[str, Any]:
    """Train and draw with a network of a size in `SIZES`, and return what was found.

    Returns:
        "images_per_second" of training with its regularisers as they fall due, fed from memory; "gflop_per_step" as
        XLA counts it; "share_of_peak" of the bfloat16 rate by the maker's data sheet where the device is known, and of
        that of a matrix product; "first_step_s" from the start of the process; "memory_gib" at its highest.
    """
    import jax

    engine, batches = make_engine(name, batch, small=small)
    count, position = max(engine.ahead, 1), 0
    rounds = 1 if small else ROUNDS
    finish(engine.steps(0, [next(batches) for _ in range(count)]))
    first_step, position = since_start(), count
    if engine.ahead == 1:  # each phase is a program of its own
        position = timed_steps(engine, batches, position, ROUND)[0]
    position, seconds = timed_steps(engine, batches, position, ROUND * rounds)
    steps = -(-ROUND * rounds // count) * count
    gflop = gflop_per_step(engine, next(batches))
    rate = gflop * steps / seconds / 1e3
    device, product = jax.devices()[0], product_rate(small=small)
    peak = PEAKS.get(device.device_kind)
    stats = device.memory_stats() or {}
    return {
        "size": name,
        "batch": batch,
        "precision": engine.options.precision,
        "steps_ahead": engine.ahead,
        "images_per_second": steps * batch / seconds,
        "step_ms": 1e3 * seconds / steps,
        "gflop_per_step": gflop,
        "tflops": rate,
        "peak_tflops": peak,
        "share_of_peak": rate / peak if peak else None,
        "product_tflops": product,
        "share_of_product": rate / product,
        "generated_per_second": draw_rate(engine, batch, rounds),
        "first_step_s": first_step,
        "memory_gib": stats["peak_bytes_in_use"] / 2**30 if "peak_bytes_in_use" in stats else peak_gib(),
        "device": device.device_kind,
        "jax": jax.__version__,
    }


def make_engine(name: str, batch: int, *, small: bool):
    """Return an engine with fresh networks, and its endless batches of random slices on the device."""
    import numpy as np

    from synthmed.training.adversarial import Adversarial
    from synthmed.training.backends import make_engine

    options = make_options(name, variant="base", precision="bfloat16", augment="diff")
    options = options.model_copy(update={"batch": batch, "steps_ahead": 2 if small else None})
    side, channels = SIZES[name]["size"], SIZES[name]["channels"]
    engine = make_engine(Adversarial.build(options, size=(side, side), channels=channels, classes=CLASSES))
    random = np.random.default_rng(0)
    kept = [
        {
            "image": random.uniform(-1, 1, (batch, side, side, channels)).astype("float32"),
            "label": random.integers(0, CLASSES, (batch, side, side)).astype("uint8"),
        }
        for _ in range(4)
    ]

    def endless():
        while True:
            yield from kept

    return engine, engine.prefetch(endless())


def timed_steps(engine, batches, first: int, steps: int) -> tuple[int, float]:
    """Do at least so many steps and return the number of the next one, and the seconds."""
    import time

    start, last = time.perf_counter(), first + steps
    reports: list = []
    while first < last:
        reports = engine.steps(first, [next(batches) for _ in range(engine.ahead)])
        first += engine.ahead
    finish(reports)
    return first, time.perf_counter() - start


def finish(reports: list) -> None:
    """Wait until steps are done."""
    for report in reports:
        for value in report.values():
            float(value)


def gflop_per_step(engine, batch) -> float:
    """Return the operations of a step, as XLA counts them before it chooses kernels; regularisers by their share."""
    import numpy as np

    state, index = engine._values(), np.int32(0)
    due = {name: phase.every for name, phase in engine.method.phases.items() if phase.every}
    flops = {name: engine.phases[name].lower(state, batch, index).cost_analysis()["flops"] for name in due}
    return sum(flops[name] / every for name, every in due.items()) / 1e9


def product_rate(*, small: bool) -> float:
    """Return TFLOP/s of a large bfloat16 matrix product."""
    import time

    import jax
    import jax.numpy as jnp

    side, count = (256, 2) if small else (8192, 20)
    factor = jnp.full((side, side), 1 / side, "bfloat16")
    product = jax.jit(lambda one, other: one @ other)
    product(factor, factor).block_until_ready()
    best = float("inf")
    for _ in range(3):
        start, result = time.perf_counter(), factor
        for _ in range(count):
            result = product(result, factor)
        result.block_until_ready()
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 * count / best / 1e12


def draw_rate(engine, batch: int, rounds: int) -> float:
    """Return slices a second that the averaged generator draws, until they are arrays of NumPy."""
    import time

    import numpy as np

    seeds, told = np.arange(batch), {"label": np.zeros(batch)}
    engine.draw(seeds, told)
    start = time.perf_counter()
    for place in range(rounds):
        engine.draw(seeds + batch * place, told)
    return batch * rounds / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
