"""Images a second of the whole training step, as a share of what its convolutions and matrix products allow.

    python benchmarks/gan_step.py --size 64 --precision float32

prints one line of JSON. The step is the engine's own: its phases in the proportion in which they fall due, on a batch
in memory. The bound is the sum of the best times of the step's own convolutions and matrix products, each alone, in
the format that the step uses for it, taken in turn with the phases.
"""

import argparse
import math
import os
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from common import CLASSES, SIZES, Interleaved, emit, make_options, peak_gib, since_start


class Phase:
    """A compiled phase of the engine that remembers what it was called with."""

    def __init__(self, function):
        self.function = function
        self.count = 0
        self.arguments: tuple[Any, ...] = ()

    def __call__(self, *arguments):
        self.count += 1
        self.arguments = arguments
        return self.function(*arguments)

    def again(self):
        """Call the phase once more, as the last time."""
        return self.function(*self.arguments)


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", choices=SIZES, default="64")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--variant", choices=["base", "mask", "cond"], default="base")
    parser.add_argument("--augment", choices=["none", "diff", "ada"], default="none")
    parser.add_argument("--rounds", type=int, default=8, help="how often each phase and each operation is timed")
    arguments = parser.parse_args()
    options = make_options(
        arguments.size, variant=arguments.variant, precision=arguments.precision, augment=arguments.augment
    )
    engine, batch = make_engine(options, arguments.size)
    phases = record_phases(engine)
    engine.step(0, batch)
    first_step, cycle = since_start(), math.lcm(options.path_every, options.r1_every)
    for number in range(1, cycle):
        engine.step(number, batch)
    memory = peak_gib()
    weights = {name: phase.count / cycle for name, phase in phases.items()}
    measured = measure(phases, weights, arguments.rounds)
    emit(
        {
            "benchmark": "gan_step",
            "size": arguments.size,
            "variant": arguments.variant,
            "precision": arguments.precision,
            "augment": arguments.augment,
            "batch": options.batch,
            "rounds": arguments.rounds,
            **measured.report(options.batch),
            "phases": {
                name: {"per_step": weights[name], "ms_best": 1e3 * min(timing.wall for timing in found)}
                for name, found in measured.calls.items()
            },
            "first_step_s": first_step,
            "peak_memory_gib": memory,
        }
    )


def make_engine(options, name: str):
    """Return an engine with fresh networks, and a batch of random slices."""
    import numpy as np
    import tensorflow as tf

    from synthmed.training.adversarial import Adversarial
    from synthmed.training.tensorflow_backend import TensorFlowEngine

    side, channels = SIZES[name]["size"], SIZES[name]["channels"]
    engine = TensorFlowEngine(Adversarial.build(options, size=(side, side), channels=channels, classes=CLASSES))
    random = np.random.default_rng(0)
    batch = {
        "image": tf.constant(random.uniform(-1, 1, (options.batch, side, side, channels)), tf.float32),
        "label": tf.constant(random.integers(0, CLASSES, (options.batch, side, side)), tf.uint8),
    }
    return engine, batch


def record_phases(engine) -> dict[str, Phase]:
    """Wrap every compiled function of the engine that `step` calls."""
    engine.phases = {name: Phase(function) for name, function in engine.phases.items()}
    engine.average = Phase(engine.average)
    return engine.phases | {"average": engine.average}


def measure(phases: dict[str, Phase], weights: dict[str, float], rounds: int) -> Interleaved:
    """Time phases and operations in turn.

    Args:
        phases: Phases that were called at least once.
        weights: How often a step calls each.
        rounds: How often each is timed.
    """
    from operations import operations

    called = {name: phase for name, phase in phases.items() if phase.count}
    functions = [
        (phase.function.get_concrete_function(*phase.arguments), weights[name]) for name, phase in called.items()
    ]
    measured = Interleaved(operations(functions), {name: weights[name] for name in called})
    for _ in range(rounds):
        measured.round({name: phase.again for name, phase in called.items()})
    return measured


if __name__ == "__main__":
    main()
