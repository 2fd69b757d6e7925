"""TensorBoard events, written by TensorBoard's own parts: they need no TensorFlow, and so serve every backend."""

import io
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from synthmed.backend import installed

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
