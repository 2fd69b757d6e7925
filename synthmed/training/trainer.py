"""The training loop of one generator."""

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from synthmed.data.store import Store
from synthmed.data.stream import slice_batches
from synthmed.errors import UserError
from synthmed.progress import Progress, silent
from synthmed.training.checkpoint import remove_leftovers, save_checkpoint
from synthmed.training.journal import Journal, Means, resident_gib
from synthmed.training.networks import make_networks
from synthmed.training.options import TrainOptions
from synthmed.training.run import Run
from synthmed.training.stopping import stop_on_signal

LOG_STEPS = 50
GRID_ITEMS = 16


@dataclass
class Clock:
    """How far a run is: what a checkpoint's state holds beside the arrays."""

    step: int = 0
    seconds: float = 0.0

    def done(self, options: TrainOptions) -> bool:
        """Tell whether one of the run's budgets is used up."""
        images = options.kimg is not None and self.step * options.batch >= options.kimg * 1000
        minutes = options.minutes is not None and self.seconds >= options.minutes * 60
        return images or minutes

    def progress(self, options: TrainOptions) -> tuple[int, int]:
        """Return (done, total) of the budget that is nearer its end: images or seconds."""
        parts = []
        if options.kimg is not None:
            parts.append((self.step * options.batch, math.ceil(options.kimg * 1000)))
        if options.minutes is not None:
            parts.append((round(self.seconds), math.ceil(options.minutes * 60)))
        done, total = max(parts, key=lambda part: part[0] / part[1])
        return min(done, total), total


class Trainer:
    """Trains the generator of one run, from its last checkpoint on.

    Args:
        run: The run; its options are resolved.
        store: The store that the run is trained on.
        progress: Told how far it is.

    Raises:
        UserError: If the store is not the one that the run was begun with, or its last checkpoint does not fit.
    """

    def __init__(self, run: Run, store: Store, *, progress: Progress | None = None):
        from synthmed.training.tensorflow_engine import TensorFlowEngine

        if store.content_hash != run.data.store_hash:
            raise UserError(f"{store.path} is not the store that {run.path} was begun with: give that one with --data")
        self.run = run
        self.options = run.options
        self.store = store
        self.report = progress or silent
        self.clock = Clock()
        self.indices = store.indices("train")
        if not len(self.indices):
            raise UserError(f"{store.path} has no training slices: prepare it with another --split")
        networks = make_networks(
            self.options, size=store.size, channels=len(store.channels), classes=len(store.classes)
        )
        self.engine = TensorFlowEngine(networks, self.options)
        self._restore()

    def train(self) -> bool:
        """Train until a budget is used up or the user asks to stop; return whether a budget is used up."""
        if self.clock.done(self.options):
            return True
        journal = Journal(self.run.path, shown=self.shown)
        try:
            if self.clock.step == 0:
                self._real_grid(journal)
            with stop_on_signal() as stop:
                self._loop(journal, stop)
        finally:
            journal.close()
        return self.clock.done(self.options)

    @property
    def shown(self) -> int:
        """Real images shown so far."""
        return self.clock.step * self.options.batch

    def _loop(self, journal: Journal, stop) -> None:
        options, clock = self.options, self.clock
        batches = iter(
            slice_batches(self.store, self.indices, batch=options.batch, seed=options.seed, start=self.shown)
        )
        means = Means()
        before, start = clock.seconds, 0.0
        saved, logged = clock.seconds, (clock.step, clock.seconds)
        grid_every = max(1, round(1000 * self._snapshot_kimg() / options.batch))
        while not (clock.done(options) or stop):
            means.add(self.engine.step(clock.step, next(batches)))
            clock.step += 1
            # The first step of a process compiles the phases: a budget of minutes is for training.
            start = start or time.monotonic()
            clock.seconds = before + time.monotonic() - start
            last = clock.done(options) or bool(stop)
            if clock.step % LOG_STEPS == 0 or last:
                self._log(journal, means.take(), logged)
                logged = (clock.step, clock.seconds)
            if clock.seconds - saved >= options.checkpoint_seconds or last:
                # Weights that are not finite must never become a checkpoint.
                self._refuse_divergence(means.peek())
                self._save()
                saved = clock.seconds
            if clock.step % grid_every == 0 or last:
                self._fake_grid(journal)
            self.report(*clock.progress(options), f"{self.shown / 1000:.1f} kimg")

    def _log(self, journal: Journal, values: dict[str, float], since: tuple[int, float]) -> None:
        self._refuse_divergence(values)
        rate = (self.clock.step - since[0]) * self.options.batch / max(self.clock.seconds - since[1], 1e-9)
        line = {"kimg": self.shown / 1000, "step": self.clock.step, "seconds": round(self.clock.seconds, 3)}
        line |= {"images_per_second": round(rate, 2), "memory_gib": round(resident_gib(), 3)}
        journal.line(line | values, shown=self.shown)

    def _refuse_divergence(self, values: dict[str, float]) -> None:
        wrong = [name for name, value in values.items() if not math.isfinite(value)]
        if wrong:
            raise UserError(
                f"training of {self.run.path} diverged at {self.shown / 1000:.1f} kimg ({', '.join(wrong)} not finite):"
                f" its last checkpoint is good; resume with --set learning_rate={self.options.learning_rate / 2:g}"
            )

    def _save(self) -> None:
        arrays = {name: np.asarray(variable) for name, variable in self.engine.state().items()}
        state: dict[str, Any] = {"step": self.clock.step, "seconds": self.clock.seconds, "kimg": self.shown / 1000}
        save_checkpoint(self.run.checkpoint_folder, arrays, state, keep=self.options.keep_checkpoints)

    def _restore(self) -> None:
        remove_leftovers(self.run.checkpoint_folder)
        if not self.run.checkpoints():
            return
        checkpoint, arrays, problems = self.run.last_arrays()
        for problem in problems:
            self.report(0, 0, problem)
        variables = self.engine.state()
        if arrays.keys() != variables.keys():
            odd = sorted(arrays.keys() ^ variables.keys())[0]
            raise UserError(f"{checkpoint.path} does not fit the networks of {self.run.path} ({odd})")
        for name, variable in variables.items():
            variable.assign(arrays[name])
        self.clock = Clock(step=int(checkpoint.state["step"]), seconds=float(checkpoint.state["seconds"]))

    def _snapshot_kimg(self) -> float:
        if self.options.snapshot_kimg:
            return self.options.snapshot_kimg
        return max(1.0, self.options.kimg / 12) if self.options.kimg else 5.0

    def _examples(self) -> np.ndarray:
        """Choose training slices for the grids: those with the most foreground of an even spread over the cases."""
        counts = self.store.class_counts[self.indices][:, 1:].sum(axis=1)
        groups = np.array_split(np.arange(len(self.indices)), min(GRID_ITEMS, len(self.indices)))
        return self.indices[[group[int(np.argmax(counts[group]))] for group in groups]]

    def _real_grid(self, journal: Journal) -> None:
        chosen = self._examples()
        images = None if self.options.variant == "mask" else self.store.images(chosen)
        journal.grid("reals", images, self.store.labels(chosen), shown=0)

    def _fake_grid(self, journal: Journal) -> None:
        labels = self.store.labels(self._examples())
        parts = self.engine.draw(np.arange(len(labels), dtype=np.int64), labels)
        journal.grid(
            f"fakes-{self.shown / 1000:08.1f}", parts.get("image"), parts.get("mask", labels), shown=self.shown
        )
