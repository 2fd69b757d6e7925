"""Slices a second from files to a store, and from a store to augmented batches; TorchIO beside the latter.

    python benchmarks/data_pipeline.py --torchio-python /path/to/python

prints one line of JSON for each measurement; docs/benchmarks.md says what each side does. Without --torchio-python
only synthmed is measured.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from common import emit

CASES, SIZE = {"tiny": 4, "128": 16, "256": 12}, {"tiny": 32, "128": 128, "256": 256}
CHANNELS = 2
TIMEOUT = 300


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", choices=SIZE, default="128", help="rows and columns of the phantom")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3, help="how often each side is timed, in turn")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long at least")
    parser.add_argument("--torchio-python", type=Path, help="interpreter that has torchio and torch")
    parser.add_argument("--data", type=Path, help="prepare this data set instead of a phantom, and measure its memory")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.data.parent if arguments.data else None) as name:
        folder = Path(name)
        source = arguments.data or _phantom(folder / "set", arguments.size)
        common = {"data": arguments.data.name if arguments.data else f"phantom {arguments.size}"}
        store = measure_prepare(source, folder / "store", arguments.size, common)
        measure_input(store, folder, arguments, common)


def _phantom(folder: Path, size: str) -> Path:
    from synthmed.data.phantom import write_phantom

    return write_phantom(folder, cases=CASES[size], size=SIZE[size], channels=CHANNELS)


def measure_prepare(source: Path, out: Path, size: str, common: dict[str, Any]):
    """Prepare a set, print what it took, and return the store."""
    from synthmed.data.prepare import prepare

    side = None if size == "tiny" else _largest_side(source)
    with Usage() as usage:
        store = prepare(source, out, size=(side, side) if side else None, split=(1.0, 0.0, 0.0))
    bytes_ = sum(path.stat().st_size for path in out.glob("*.npy"))
    emit(
        {
            "benchmark": "prepare",
            **common,
            "cases": len(store.cases()),
            "slices": len(store),
            "store_gib": bytes_ / 2**30,
            "per_second": len(store) / usage.wall,
            "mib_per_second": bytes_ / 2**20 / usage.wall,
            "cores_in_use": usage.processor / usage.wall,
            "peak_rss_anon_gib": usage.peak,
        }
    )
    return store


def _largest_side(source: Path) -> int:
    from synthmed.data.readers import read_dataset

    return max(read_dataset(source).cases[0].images[0].open().geometry.shape[:2])


def measure_input(store, folder: Path, arguments: argparse.Namespace, common: dict[str, Any]) -> None:
    """Print the rate of augmented batches, and that of TorchIO on the same slices."""
    from synthmed.segmentation.augment import Augmentation
    from synthmed.segmentation.blend import blended_batches

    options = Augmentation()
    batches = blended_batches(
        store, store.indices("train"), None, batch=arguments.batch, ratio=0, seed=0, augmentation=options
    )
    other = _torchio(store, folder, arguments, options) if arguments.torchio_python else None
    own: list[float] = []
    theirs: list[dict[str, Any]] = []
    stream = iter(batches)
    for _ in range(8):
        next(stream)
    with Usage() as usage:
        for _ in range(arguments.rounds):
            own.append(_rate(stream, arguments.batch, arguments.seconds))
            if other:
                del stream
                theirs.append({way: _call([*other, "--way", way]) for way in ("volumes", "slices")})
                stream = iter(batches)
                for _ in range(8):
                    next(stream)
    record = {
        "benchmark": "training input",
        **common,
        "batch": arguments.batch,
        "rounds": arguments.rounds,
        "augmentation": options.model_dump(),
        "per_second": statistics.median(own),
        "peak_rss_anon_gib": usage.peak,
    }
    if theirs:
        rates = {way: statistics.median(found[way]["per_second"] for found in theirs) for way in ("volumes", "slices")}
        record |= {
            "torchio_volumes_per_second": rates["volumes"],
            "torchio_slices_per_second": rates["slices"],
            "times_torchio": statistics.median(own) / max(rates.values()),
            "torchio": theirs[0]["slices"]["torchio"],
            "torch": theirs[0]["slices"]["torch"],
        }
    emit(record)


def _rate(stream, batch: int, seconds: float) -> float:
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        next(stream)
        count += batch
    return count / (time.perf_counter() - start)


def _torchio(store, folder: Path, arguments: argparse.Namespace, options) -> list[str]:
    """Write the store's slices as TorchIO reads them, and return the command that measures it."""
    import nibabel as nib
    import numpy as np

    out = folder / "torchio"
    for part in ("images", "labels"):
        (out / part).mkdir(parents=True)
    numbers = store.indices("train")
    np.save(out / "images.npy", store.images(numbers))
    np.save(out / "labels.npy", store.labels(numbers))
    for case in store.cases("train"):
        own = np.arange(case.first, case.first + case.slices)
        for part, slices in (("images", store.images(own)), ("labels", store.labels(own))):
            nib.save(nib.Nifti1Image(np.moveaxis(slices, 0, 2), np.eye(4)), out / part / f"{case.case}.nii")
    augmentation = {**options.model_dump(), "side_mm": store.size[0]}
    script = Path(__file__).with_name("torchio_loader.py")
    command = [arguments.torchio_python, script, out, "--batch", arguments.batch, "--seconds", arguments.seconds]
    return [*map(str, command), "--augmentation", json.dumps(augmentation)]


def _call(command: list[str]) -> dict[str, Any]:
    return json.loads(subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL, timeout=TIMEOUT))


class Usage:
    """Wall and processor time of a block, and the largest RssAnon that was seen in it (Linux), in GiB."""

    def __enter__(self) -> "Usage":
        self.peak, self._done = 0.0, threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()
        self._wall, self._processor = time.perf_counter(), _processor_seconds()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall, self.processor = time.perf_counter() - self._wall, _processor_seconds() - self._processor
        self._done.set()
        self._watch.join()

    def _look(self) -> None:
        while not self._done.wait(0.02):
            self.peak = max(self.peak, rss_anon_gib())


def rss_anon_gib() -> float:
    """Return the anonymous resident memory of this process: mapped files do not count."""
    if sys.platform != "linux":
        return 0.0
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        return next((int(line.split()[1]) / 2**20 for line in file if line.startswith("RssAnon")), 0.0)


def _processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
