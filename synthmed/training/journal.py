"""What a run writes for people while it trains: JSON lines, TensorBoard events, sample grids."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from synthmed.data.pictures import render, save_png, tile
from synthmed.files import atomic_file
from synthmed.training.events import EventFile, has_tensorboard

COLUMNS = 4


class Journal:
    """Log of a run; without the package tensorboard, one without events.

    Args:
        folder: The run folder.
        shown: Images shown so far; lines of the log beyond it come from work that was lost and are removed.
    """

    def __init__(self, folder: Path, *, shown: int):
        self.folder = folder
        self.log = folder / "log.jsonl"
        self.forget_after(shown)
        self._events = EventFile(folder / "tensorboard") if has_tensorboard() else None

    def line(self, values: dict[str, Any], *, shown: int) -> None:
        """Append a line of numbers to log.jsonl and TensorBoard."""
        with open(self.log, "a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")
        if self._events:
            self._events.scalars(values, step=shown)

    def grid(self, name: str, images: NDArray | None, labels: NDArray | None, *, shown: int) -> None:
        """Write a grid of slices as NAME.png and as a TensorBoard image.

        Args:
            name: File name without suffix; its first word is the TensorBoard tag.
            images: `(n, height, width, channels)` in [-1, 1], or None.
            labels: `(n, height, width)` class indices.
            shown: Images shown so far.
        """
        sheet = tile(render(images, labels), columns=COLUMNS)
        save_png(self.folder / f"{name}.png", sheet)
        if self._events:
            self._events.image(name.split("-")[0], sheet, step=shown)

    def close(self) -> None:
        """Close TensorBoard's file."""
        if self._events:
            self._events.close()

    def forget_after(self, shown: int) -> None:
        """Remove the lines of work that was lost."""
        if not self.log.exists():
            return
        kept = []
        for line in self.log.read_text(encoding="utf-8").splitlines():
            try:
                if round(json.loads(line)["kimg"] * 1000) <= shown:
                    kept.append(line)
            except (ValueError, KeyError):
                continue  # the line that was being written when the process was killed
        with atomic_file(self.log) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


class NoJournal(Journal):
    """The log of a worker that leaves writing to another one."""

    def __init__(self, folder: Path, *, shown: int):
        pass

    def line(self, values: dict[str, Any], *, shown: int) -> None:
        pass

    def grid(self, name: str, images: NDArray | None, labels: NDArray | None, *, shown: int) -> None:
        pass

    def close(self) -> None:
        pass

    def forget_after(self, shown: int) -> None:
        pass


class Means:
    """Running means of reported numbers between two lines of the log."""

    def __init__(self) -> None:
        self._sums: dict[str, list[Any]] = {}

    def add(self, report: dict[str, Any]) -> None:
        """Take in one step's report; tensors are read later, so that the step is not waited for."""
        for name, value in report.items():
            self._sums.setdefault(name, []).append(value)

    def peek(self) -> dict[str, float]:
        """Return the means so far."""
        return {name: float(np.mean([float(value) for value in values])) for name, values in self._sums.items()}

    def take(self) -> dict[str, float]:
        """Return the means and start anew."""
        means = self.peek()
        self._sums = {}
        return means


def resident_gib() -> float:
    """Return the memory of this process in GiB, 0 where the system does not tell."""
    try:
        return psutil.Process().memory_info().rss / 2**30
    except (psutil.Error, OSError):
        return 0.0
