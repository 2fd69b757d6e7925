"""Training slices and inference volumes a second of the U-Net, beside MONAI's of the same layer widths in PyTorch.

    python benchmarks/unet_step.py --precision float32 --monai-python /path/to/python

prints one line of JSON. Training is the engine's whole step on a batch in memory: forward, loss, gradient, AdamW,
moving average. Inference is the softmax of a volume's slices, batch by batch, each side in the batches that it would
take (MONAI's need not be padded). The other interpreter needs MONAI and PyTorch; it waits in a process of its own while
this one measures, and the two take turns. Without --monai-python only synthmed is measured. --no-deep-supervision
leaves it out on both sides.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from common import emit, peak_gib, since_start

UNETS: dict[str, dict[str, int]] = {
    "tiny": {"size": 16, "channels": 1, "batch": 2, "width": 4, "levels": 2, "volume": 3},
    "64": {"size": 64, "channels": 1, "batch": 32, "width": 24, "levels": 5, "volume": 35},
    "128": {"size": 128, "channels": 3, "batch": 16, "width": 24, "levels": 6, "volume": 64},
}
CLASSES = 3
WARM_UP = 3


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", choices=UNETS, default="64")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--rounds", type=int, default=8, help="how often each side is timed, in turn")
    parser.add_argument("--steps", type=int, default=4, help="training steps, and volumes, a round")
    parser.add_argument("--deep-supervision", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--monai-python", type=Path, help="interpreter that has monai and torch")
    arguments = parser.parse_args()
    task = UNETS[arguments.size] | {
        "classes": CLASSES,
        "precision": arguments.precision,
        "deep": arguments.deep_supervision,
    }
    calls, parameters = synthmed_calls(task)
    for call in calls.values():
        for _ in range(WARM_UP):
            call()
    started, memory = since_start(), peak_gib()
    own: dict[str, list[float]] = {name: [] for name in calls}
    theirs: dict[str, list[float]] = {name: [] for name in calls}
    other = Other(arguments.monai_python, task) if arguments.monai_python else None
    for _ in range(arguments.rounds):
        for name, call in calls.items():
            own[name].append(seconds_of(call, arguments.steps))
            if other:
                theirs[name].append(other.ask(name, arguments.steps))
    emit(
        {
            "benchmark": "unet_step",
            **{name: task[name] for name in ("size", "channels", "batch", "width", "levels", "volume", "precision")},
            "deep_supervision": arguments.deep_supervision,
            "rounds": arguments.rounds,
            "parameters": parameters,
            **rates(own, task["batch"]),
            "warm_after_s": started,
            "peak_memory_gib": memory,
            **(beside(own, theirs, task["batch"], other.end()) if other else {}),
        }
    )


def synthmed_calls(task: dict[str, Any]):
    """Return one training step and the prediction of one volume as functions, and the network's number of weights."""
    import numpy as np
    import tensorflow as tf

    from synthmed.hardware import resolve_precision
    from synthmed.segmentation.engine import SegmentationEngine
    from synthmed.segmentation.options import SegmentOptions
    from synthmed.segmentation.predict import SlicePredictor

    options = SegmentOptions(
        batch=task["batch"], width=task["width"], levels=task["levels"], deep_supervision=task["deep"]
    )
    size = (task["size"], task["size"])
    engine = SegmentationEngine(
        options,
        size=size,
        channels=task["channels"],
        classes=task["classes"],
        policy=resolve_precision(task["precision"]),
    )
    random = np.random.default_rng(0)
    batch = {
        "image": tf.constant(random.uniform(-1, 1, (options.batch, *size, task["channels"])), tf.float32),
        "label": tf.constant(random.integers(0, task["classes"], (options.batch, *size)), tf.uint8),
    }
    volume = random.uniform(-1, 1, (task["volume"], *size, task["channels"])).astype(np.float32)
    predictor = SlicePredictor(engine.average)
    calls = {"training": lambda: engine.step(0, batch), "inference": lambda: predictor(volume)}
    return calls, engine.model.count_params()


class Other:
    """The other side, in a process that answers one measurement at a time.

    Args:
        python: Its interpreter.
        task: Sizes and number format.
    """

    def __init__(self, python: Path, task: dict[str, Any]):
        script = Path(__file__).with_name("monai_unet.py")
        self.process = subprocess.Popen(
            [str(python), str(script), json.dumps(task)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.about = self._answer()

    def ask(self, name: str, repeats: int) -> float:
        """Return seconds of one call of `name`, the mean of `repeats`."""
        assert self.process.stdin is not None
        print(json.dumps({"name": name, "repeats": repeats}), file=self.process.stdin, flush=True)
        return self._answer()["seconds"]

    def end(self) -> dict[str, Any]:
        """Let the process end and return what it said of itself."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        return self.about

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit("the other interpreter failed: it needs monai and torch")
        return json.loads(line)


def seconds_of(call, repeats: int) -> float:
    """Return seconds of one call, the mean of `repeats`."""
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def rates(seconds: dict[str, list[float]], batch: int) -> dict[str, float]:
    """Return slices and volumes a second, of the median and of the best round."""
    found = {}
    for suffix, reduce in (("", statistics.median), ("_best", min)):
        found[f"training_slices_per_second{suffix}"] = batch / reduce(seconds["training"])
        found[f"inference_volumes_per_second{suffix}"] = 1 / reduce(seconds["inference"])
    return found


def beside(
    own: dict[str, list[float]], theirs: dict[str, list[float]], batch: int, about: dict[str, Any]
) -> dict[str, Any]:
    """Return the other side's rates, and how many times faster synthmed is: the median over rounds of the quotient."""
    times = {
        f"times_monai_{name}": statistics.median(b / a for a, b in zip(own[name], theirs[name], strict=True))
        for name in own
    }
    return times | {"monai": about | rates(theirs, batch)}


if __name__ == "__main__":
    main()
