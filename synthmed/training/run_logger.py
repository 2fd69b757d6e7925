"""What a run writes for people while it trains: JSON lines, TensorBoard events, sample grids."""

import io
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
from numpy.typing import NDArray

from synthmed.backend import installed
from synthmed.data.pictures import render, save_png, tile
from synthmed.files import atomic_file

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary

MISSING = "tensorboard is not installed: this training writes no events, all else as ever (pip install tensorboard)"
VERSION = "brain.Event:2"


def has_tensorboard() -> bool:
    """Tell whether events can be written."""
    return installed("tensorboard")


class EventFile:
    """A new file of events in a folder, read by `tensorboard --logdir`.

    Args:
        folder: Made where it is missing. Files of earlier starts stay beside this one.
    """

    def __init__(self, folder: Path):
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard takes every file with "tfevents" in its name and reads them in the order of their names.
        # In the place of the machine's name, which may tell of a hospital, stands ours.
        name = f"events.out.tfevents.{time.time():017.6f}.synthmed.{os.getpid()}.v2"
        self._event = Event
        self._records = RecordWriter((folder / name).open("wb"))
        self._write(Event(file_version=VERSION))

    def scalars(self, values: Mapping[str, float], *, step: int) -> None:
        """Write numbers by their tags."""
        from tensorboard.plugins.scalar.summary_v2 import scalar_pb

        for tag, value in values.items():
            self._summary(scalar_pb(tag, value), step)

    def image(self, tag: str, picture: NDArray[np.uint8], *, step: int) -> None:
        """Write a picture `(height, width, 3)`."""
        from PIL import Image
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.image.metadata import create_summary_metadata
        from tensorboard.util.tensor_util import make_tensor_proto

        encoded = io.BytesIO()
        Image.fromarray(picture).save(encoded, format="PNG")
        height, width, _ = picture.shape
        summary = Summary()
        summary.value.add(
            tag=tag,
            metadata=create_summary_metadata(display_name=None, description=None),
            tensor=make_tensor_proto(np.array([str(width).encode(), str(height).encode(), encoded.getvalue()], object)),
        )
        self._summary(summary, step)

    def close(self) -> None:
        """Close the file."""
        self._records.close()

    def _summary(self, summary: "Summary", step: int) -> None:
        self._write(self._event(summary=summary, step=step))

    def _write(self, event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
        # A run that is killed shows all that it wrote.
        self._records.flush()


COLUMNS = 4


class RunLogger:
    """Log of a run; without the package tensorboard, one without events.

    A line of the log is the last thing that is written of a step: it says that all else which was due is there.

    Args:
        folder: The run folder.
        images_seen: Real images so far; lines of the log beyond it come from work that was lost and are removed.

    Attributes:
        lines: The lines of the log so far, by step, without those of ways back.
        way_back: The last line of a way back to a checkpoint; empty without any.
    """

    def __init__(self, folder: Path, *, images_seen: int):
        self.folder = folder
        self.log = folder / "log.jsonl"
        self.lines: dict[int, dict[str, Any]] = {}
        self.way_back: dict[str, Any] = {}
        self._events: EventFile | None = None
        self.forget_after(images_seen)

    def line(self, values: dict[str, Any], *, images_seen: int) -> None:
        """Append a line of numbers, "step" among them, to TensorBoard and log.jsonl."""
        if events := self._opened():
            events.scalars(values, step=images_seen)
        with open(self.log, "a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")
            file.flush()
            # A checkpoint that reached the disk must not be followed by a log with a gap before it.
            os.fsync(file.fileno())
        self._note(values)

    def grid(self, name: str, images: NDArray | None, labels: NDArray | None, *, images_seen: int) -> None:
        """Write a grid of slices as a TensorBoard image and as NAME.png.

        Args:
            name: File name without suffix; its first word is the TensorBoard tag.
            images: `(n, height, width, channels)` in [-1, 1], or None.
            labels: `(n, height, width)` class indices.
            images_seen: Real images so far.
        """
        sheet = tile(render(images, labels), columns=COLUMNS)
        if events := self._opened():
            events.image(name.split("-")[0], sheet, step=images_seen)
        save_png(self.folder / f"{name}.png", sheet)

    def has_grid(self, name: str) -> bool:
        """Tell whether a grid is there."""
        return (self.folder / f"{name}.png").is_file()

    def close(self) -> None:
        """Close TensorBoard's file."""
        if self._events:
            self._events.close()

    def forget_after(self, images_seen: int) -> None:
        """Remove the lines of work that was lost."""
        self.lines, self.way_back = {}, {}
        if not self.log.exists():
            return
        text, kept = self.log.read_text(encoding="utf-8", errors="replace"), []
        for line in text.splitlines():
            try:
                values = json.loads(line)
                if round(values["kimg"] * 1000) > images_seen:
                    continue
                self._note(values)
            except (ValueError, KeyError, TypeError):
                continue  # the line that was being written when the process was killed
            kept.append(f"{line}\n")
        if "".join(kept) != text:
            with atomic_file(self.log) as temporary:
                temporary.write_text("".join(kept), encoding="utf-8")

    def _note(self, values: dict[str, Any]) -> None:
        if "rollbacks" in values:
            self.way_back = values
        elif "step" in values:
            self.lines[values["step"]] = values

    def _opened(self) -> EventFile | None:
        """Return TensorBoard's file, which is made when there is something to write."""
        if self._events is None and has_tensorboard():
            self._events = EventFile(self.folder / "tensorboard")
        return self._events


class SilentLogger(RunLogger):
    """The log of a worker that leaves writing to another one."""

    def __init__(self, folder: Path, *, images_seen: int):
        self.lines, self.way_back = {}, {}

    def line(self, values: dict[str, Any], *, images_seen: int) -> None:
        pass

    def grid(self, name: str, images: NDArray | None, labels: NDArray | None, *, images_seen: int) -> None:
        pass

    def has_grid(self, name: str) -> bool:
        return True

    def close(self) -> None:
        pass

    def forget_after(self, images_seen: int) -> None:
        pass


class Means:
    """Running means of reported numbers between two lines of the log.

    Args:
        values: By name the numbers so far, as `values` returns them.
    """

    def __init__(self, values: dict[str, list[float]] | None = None) -> None:
        self._values: dict[str, list[Any]] = {name: list(numbers) for name, numbers in (values or {}).items()}

    def add(self, report: dict[str, Any]) -> None:
        """Take in one step's report; tensors are read later, so that the step is not waited for."""
        for name, value in report.items():
            self._values.setdefault(name, []).append(value)

    def peek(self) -> dict[str, float]:
        """Return the means so far."""
        return {name: float(np.mean(numbers)) for name, numbers in self.values().items()}

    def values(self) -> dict[str, list[float]]:
        """Return by name all numbers since the last line, for a checkpoint's state."""
        return {name: [float(value) for value in numbers] for name, numbers in self._values.items()}


def resident_gib() -> float:
    """Return the memory of this process in GiB, 0 where the system does not tell."""
    try:
        return psutil.Process().memory_info().rss / 2**30
    except (psutil.Error, OSError):
        return 0.0
