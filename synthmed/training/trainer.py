"""The training loop of one generator, its start from another run, and its way back when its numbers run away."""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from synthmed.data.store import Store
from synthmed.errors import UserError
from synthmed.files import read_json, write_json
from synthmed.progress import Progress, Say, silent
from synthmed.stopping import stop_on_signal
from synthmed.training.batches import Feed
from synthmed.training.best import Choice
from synthmed.training.checkpoint import (
    Checkpoint,
    checkpoint_path,
    checkpoint_paths,
    find_newest,
    remove_leftovers,
    save_checkpoint,
)
from synthmed.training.devices import Devices
from synthmed.training.engines import make_engine
from synthmed.training.networks import make_networks
from synthmed.training.options import TrainOptions
from synthmed.training.run import Run
from synthmed.training.run_logger import Journal, Means, NoJournal, resident_gib

RECOVERY_FILE = "recovery.json"
# Far beyond what a training that still learns reports: losses of a few, logits of tens.
RUNAWAY_LOSS = 1e4
SLOWER = 0.5


class Diverged(Exception):
    """The numbers of a training ran away; the message says which."""


class Recovery(BaseModel):
    """How often a run went back, kept in its folder so that a resumed run does not begin counting anew.

    Attributes:
        rollbacks: How often so far.
        learning_rate: That of the options when it last happened; another one given by hand starts over.
    """

    model_config = ConfigDict(extra="forbid")

    rollbacks: int = 0
    learning_rate: float

    @classmethod
    def open(cls, folder: Path, options: TrainOptions) -> "Recovery":
        """Read what a run folder says, or begin anew.

        Raises:
            UserError: If its file is damaged.
        """
        path = folder / RECOVERY_FILE
        if path.is_file():
            try:
                recovery = cls.model_validate(read_json(path))
            except ValidationError:
                raise UserError(f"{path} is not what a training writes: remove it to count ways back anew") from None
            if recovery.learning_rate == options.learning_rate:
                return recovery
        return cls(learning_rate=options.learning_rate)

    @property
    def scale(self) -> float:
        """Factor on the learning rate."""
        return SLOWER**self.rollbacks

    def count(self, folder: Path, reason: str, options: TrainOptions) -> None:
        """Count one more way back and write it down.

        Raises:
            UserError: If the run went back as often as its options allow, with a diagnosis.
        """
        if self.rollbacks >= options.rollbacks:
            raise UserError(
                f"training of {folder} diverged again after {self.rollbacks} ways back, the last one at a "
                f"learning rate of {self.learning_rate * self.scale:g}: {reason}; its last checkpoint is good"
            )
        self.rollbacks += 1
        write_json(folder / RECOVERY_FILE, self.model_dump())


def check_report(values: dict[str, float]) -> None:
    """Raise `Diverged` with a diagnosis where reported numbers ran away.

    Args:
        values: Means of what the phases report.
    """
    wrong = [name for name, value in values.items() if not math.isfinite(value)]
    wrong += [name for name in ("loss_generator", "loss_discriminator") if abs(values.get(name, 0.0)) > RUNAWAY_LOSS]
    if wrong:
        raise Diverged(_diagnosis(wrong, values))


def check_arrays(arrays: dict[str, Any]) -> None:
    """Raise `Diverged` where weights or other state are not finite: they must never become a checkpoint."""
    wrong = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if wrong:
        raise Diverged(f"{wrong[0]} and {len(wrong) - 1} other arrays are not finite")


def _diagnosis(wrong: list[str], values: dict[str, float]) -> str:
    what = f"{', '.join(sorted(set(wrong)))} ran away"
    if any(name.startswith("path") for name in wrong) and "loss_discriminator" not in wrong:
        return f"{what}, the generator's path lengths first: set a lower path_weight, or 0"
    if any(name.startswith(("r1", "r2")) for name in wrong) and "loss_generator" not in wrong:
        return f"{what}, the discriminator's gradients at the data first: try --precision float32 or another r1_gamma"
    if abs(values.get("logit_real", 0.0)) + abs(values.get("logit_fake", 0.0)) > RUNAWAY_LOSS:
        return f"{what}, the discriminator's logits having grown without bound: set a higher r1_gamma"
    return f"{what}: set a lower learning_rate or a higher r1_gamma, and look at the last lines of log.jsonl"


NETWORKS = ("generator", "average", "discriminator")
LEAST_SHARE = 0.5


def start_from(source: Run, state: dict[str, Any]) -> str:
    """Copy weights that stand at the same place and have the same shape; optimisers and the rest start anew.

    Networks for other numbers of channels or classes differ in their first or last layers alone; those keep the
    weights that they were made with.

    Args:
        source: The run to start from.
        state: The engine's variables by name.

    Returns:
        One line that says how much was taken over.

    Raises:
        UserError: If less than half of the weights fit, or the source has no whole checkpoint.
    """
    _, arrays, _ = source.last_arrays()
    wanted = {name: variable for name, variable in state.items() if name.split("/")[0] in NETWORKS}
    fitting = {
        name: variable
        for name, variable in wanted.items()
        if name in arrays and tuple(arrays[name].shape) == tuple(variable.shape)
    }
    share = _size(fitting) / _size(wanted)
    if share < LEAST_SHARE:
        raise UserError(
            f"{source.path} fits only {share:.0%} of the networks: it was trained with other sizes; give the same "
            f"channel_base ({source.options.channel_base}), channel_max ({source.options.channel_max}), z_dim and "
            "mapping_layers, and slices of the same size"
        )
    for name, variable in fitting.items():
        variable.assign(arrays[name])
    return f"{share:.0%} of the weights start from {source.path}, {len(wanted) - len(fitting)} arrays anew"


def _size(variables: dict[str, Any]) -> int:
    return sum(math.prod(variable.shape) for variable in variables.values())


LOG_STEPS = 50
GRID_ITEMS = 16
REALS = "reals"


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


@dataclass(frozen=True)
class Due:
    """What is due after a step, beside a checkpoint: a distance to held-out patients, a grid, a line of the log."""

    distance: bool = False
    grid: bool = False
    line: bool = False


class Trainer:
    """Trains the generator of one run, from its last checkpoint on.

    Args:
        run: The run; its options are resolved.
        store: The store that the run is trained on.
        devices: What it runs on, where that was made already.
        progress: Told how far it is.
        say: Called with lines that a user should read; by default they are notes of the progress.

    Raises:
        UserError: If the store is not the one that the run was begun with, or its last checkpoint does not fit.
    """

    def __init__(
        self,
        run: Run,
        store: Store,
        *,
        devices: Devices | None = None,
        progress: Progress | None = None,
        say: Say | None = None,
    ):
        if store.content_hash != run.data.store_hash:
            raise UserError(f"{store.path} is not the store that {run.path} was begun with: give that one with --data")
        self.run = run
        self.options = run.options
        self.store = store
        self.report = progress or silent
        self.say = say or (lambda line: self.report(0, 0, line))
        self.clock = Clock()
        # Of the interval since the last line of the log: what was reported, and the step and seconds where it began.
        self.means = Means()
        self.logged = (0, 0.0)
        unlabelled = Store.open(self.options.unlabelled) if self.options.unlabelled else None
        self.feed = Feed(self.options, store, unlabelled)
        self.devices = devices or Devices.of(self.options.strategy)
        with self.devices.scope():
            networks = make_networks(
                self.options, size=store.size, channels=len(store.channels), classes=len(store.classes)
            )
        self.engine = make_engine(networks, self.options, self.devices)
        self.choice = Choice(run, store, self.feed, self.engine.draw) if self.devices.chief else None
        self.recovery = Recovery.open(run.path, self.options)
        self._first_arrays: dict[str, np.ndarray] | None = None
        self._stopping = False
        self._begin()

    def train(self) -> bool:
        """Train until a budget is used up or the user asks to stop; return whether a budget is used up.

        What was due at the step that the run is taken up at is done first, as far as its log does not have it.

        Raises:
            UserError: If the training diverged more often than it may, or another worker of it is gone.
        """
        journal = (Journal if self.devices.chief else NoJournal)(self.run.path, shown=self.shown)
        try:
            if self.choice:
                for line in self.choice.repair(journal.lines):
                    self.say(line)
            with stop_on_signal() as stop:
                if not journal.has_grid(REALS):
                    self._real_grid(journal)
                self._catch_up(journal)
                while not (self.clock.done(self.options) or self._stopping):
                    try:
                        self._loop(journal, stop)
                    except Diverged as reason:
                        self._roll_back(journal, str(reason))
                # A worker that left now would look like one that is gone while the chief still draws.
                self.devices.wait_for_all()
        finally:
            journal.close()
        if self.devices.chief:
            self.run.refuse_removed()
        return self.clock.done(self.options)

    @property
    def shown(self) -> int:
        """Real images shown so far."""
        return self.clock.step * self.options.batch

    def _loop(self, journal: Journal, stop) -> None:
        options, clock = self.options, self.clock
        batches = self.engine.feed(self.feed.batches(clock.step))
        before, start = clock.seconds, 0.0
        saved = clock.seconds
        agreement = self.devices.agreement(clock.step)
        self.report(0, 0, "compiling")
        while not (clock.done(options) or self._stopping):
            count = self._ahead()
            for report in self.engine.steps(clock.step, [next(batches) for _ in range(count)]):
                self.means.add(report)
            clock.step += count
            # The first steps of a process compile the phases: a budget of minutes is for training.
            start = start or time.monotonic()
            if agreed := agreement.ask(clock.step, before + time.monotonic() - start, bool(stop)):
                clock.seconds, self._stopping = agreed
            due = self._due()
            save = due.distance or self._stopping or clock.seconds - saved >= options.checkpoint_seconds
            if save or due.line:
                if self.devices.chief:
                    self.run.refuse_removed()
                check_report(self.means.peek())
            if save:
                self._save()
                saved = clock.seconds
            self._do_due(journal)
            self.report(*clock.progress(options), f"{self.shown / 1000:.1f} kimg")

    def _due(self) -> Due:
        """Return what is due after this step; it follows from the step and the budget alone."""
        step, done = self.clock.step, self.clock.done(self.options)
        if not step:
            return Due()
        distance, grid = (done or step % self._every(kimg) == 0 for kimg in (self._distance_kimg, self._snapshot_kimg))
        return Due(distance=distance, grid=grid, line=distance or grid or step % LOG_STEPS == 0)

    def _do_due(self, journal: Journal) -> None:
        """Do what is due after this step, the line of the log last: it says that all else is there.

        A process that dies before it leaves all of it to be done again, with the same result.
        """
        due = self._due()
        if not due.line:
            return
        values = self.means.peek()
        if due.distance:
            values |= self._choose()
        if due.grid:
            self._fake_grid(journal)
        self._log(journal, values)
        self._begin_interval()

    def _catch_up(self, journal: Journal) -> None:
        """Do what was due at the restored step and came to nothing, since the process died or the training diverged."""
        if self.devices.of_chief(self.clock.step in journal.lines):
            self._begin_interval()
        else:
            self._do_due(journal)
        self._note_way_back(journal)

    def _begin_interval(self) -> None:
        self.means, self.logged = Means(), (self.clock.step, self.clock.seconds)

    def _every(self, kimg: float) -> int:
        """Return the steps in which so many thousand images are shown, at least one."""
        return max(1, round(1000 * kimg / self.options.batch))

    def _ahead(self) -> int:
        """Return how many steps to do at once: none of them beyond what is due every so many steps, or the budget."""
        options, step = self.options, self.clock.step
        periods = (LOG_STEPS, self._every(self._snapshot_kimg), self._every(self._distance_kimg))
        ends = [self.engine.ahead, *(period - step % period for period in periods)]
        if options.kimg is not None:
            ends.append(math.ceil(options.kimg * 1000 / options.batch) - step)
        return max(1, min(ends))

    def _log(self, journal: Journal, values: dict[str, float]) -> None:
        step, seconds = self.logged
        elapsed = self.clock.seconds - seconds
        # The clock starts after a process's first step, which compiles the phases: that one has no rate.
        rate = (self.clock.step - step) * self.options.batch / elapsed if elapsed > 1e-3 else 0.0
        journal.line(
            self._where() | {"images_per_second": round(rate, 2), "memory_gib": round(resident_gib(), 3)} | values,
            shown=self.shown,
        )

    def _where(self) -> dict[str, Any]:
        return {"kimg": self.shown / 1000, "step": self.clock.step, "seconds": round(self.clock.seconds, 3)}

    def _state(self) -> dict[str, Any]:
        return {"step": self.clock.step, "seconds": self.clock.seconds, "kimg": self.shown / 1000}

    def _save(self) -> None:
        arrays = self.engine.arrays()
        check_arrays(arrays)
        self.devices.check_same("weights after a step", arrays)
        if self.devices.chief:
            state = self._state() | {"logged": self.logged, "window": self.means.values()}
            save_checkpoint(self.run.checkpoint_folder, arrays, state, keep=self.options.keep_checkpoints)
        self._first_arrays = None

    def _choose(self) -> dict[str, float]:
        distances = self.choice.measure() if self.choice else {}
        if self.choice and distances:
            self.choice.keep_if_best(distances["distance"], self.engine.arrays(), self._state())
        return distances

    def _begin(self) -> None:
        """Take up the last checkpoint; without one, the weights of another run where the options name it."""
        if self.devices.chief:
            remove_leftovers(self.run.checkpoint_folder)
        if begun := bool(self.devices.of_chief(len(checkpoint_paths(self.run.checkpoint_folder)))):
            self._restore()
        elif self.options.init_from:
            self.say(start_from(Run.open(self.options.init_from), self.engine.state()))
        self.devices.check_same("step to start from", (self.clock.step, self.recovery.rollbacks))
        arrays = self.engine.arrays()
        self.devices.check_same("weights to start from", arrays)
        if not begun:
            # What a training goes back to that runs away before its first checkpoint.
            self._first_arrays = arrays
        self.engine.scale_learning_rate(self.recovery.scale)

    def _restore(self) -> None:
        checkpoint, arrays = self._last_checkpoint()
        self._assign(arrays, str(checkpoint.path))
        state = checkpoint.state
        self.clock = Clock(step=int(state["step"]), seconds=float(state["seconds"]))
        self.means = Means(state.get("window"))
        step, seconds = state.get("logged", (self.clock.step, self.clock.seconds))
        self.logged = (int(step), float(seconds))

    def _last_checkpoint(self) -> tuple[Checkpoint, dict[str, np.ndarray]]:
        """Return the newest checkpoint that the chief can read, on every worker."""
        found = self.devices.chief_first(lambda: find_newest(self.run.checkpoint_folder))
        step = self.devices.of_chief(int(found.checkpoint.state["step"]) if found else 0)
        if found is None:
            path = checkpoint_path(self.run.checkpoint_folder, step)
            self.devices.wait_for_file(path)
            checkpoint = Checkpoint.open(path)
            return checkpoint, checkpoint.arrays()
        for line in found.lines():
            self.say(line)
        found.remove_damaged()
        return found.checkpoint, found.arrays

    def _assign(self, arrays: dict[str, np.ndarray], origin: str) -> None:
        variables = self.engine.state()
        if arrays.keys() != variables.keys():
            odd = sorted(arrays.keys() ^ variables.keys())[0]
            raise UserError(f"{origin} does not fit the networks of {self.run.path} ({odd})")
        for name, variable in variables.items():
            variable.assign(arrays[name])

    def _roll_back(self, journal: Journal, reason: str) -> None:
        self.recovery.count(self.run.path, reason, self.options)
        seconds = self.clock.seconds
        if self._first_arrays is not None:
            self._assign(self._first_arrays, "the first weights")
            self.clock, self.means, self.logged = Clock(), Means(), (0, seconds)
        else:
            self._restore()
        # Time that was spent counts: a budget of minutes must end.
        self.clock.seconds = seconds
        self.engine.scale_learning_rate(self.recovery.scale)
        self.say(f"diverged ({reason}): back to step {self.clock.step} at half the learning rate")
        journal.forget_after(self.shown)
        self._catch_up(journal)

    def _note_way_back(self, journal: Journal) -> None:
        """Write the line of the last way back into the log, unless it is there."""
        line = {"rollbacks": self.recovery.rollbacks, "learning_rate": self.options.learning_rate * self.recovery.scale}
        if self.recovery.rollbacks and any(journal.way_back.get(name) != value for name, value in line.items()):
            journal.line(self._where() | line, shown=self.shown)

    @property
    def _snapshot_kimg(self) -> float:
        if self.options.snapshot_kimg:
            return self.options.snapshot_kimg
        return max(1.0, self.options.kimg / 12) if self.options.kimg else 5.0

    @property
    def _distance_kimg(self) -> float:
        if self.options.distance_kimg:
            return self.options.distance_kimg
        return max(1.0, self.options.kimg / 12) if self.options.kimg else 2.0

    def _examples(self) -> np.ndarray:
        """Choose training slices for the grids: those with the most foreground of an even spread over the cases."""
        indices = self.feed.indices
        counts = self.store.class_counts[indices][:, 1:].sum(axis=1)
        groups = np.array_split(np.arange(len(indices)), min(GRID_ITEMS, len(indices)))
        return indices[[group[int(np.argmax(counts[group]))] for group in groups]]

    def _real_grid(self, journal: Journal) -> None:
        chosen = self._examples()
        images = None if self.options.variant == "mask" else self.store.images(chosen)
        journal.grid(REALS, images, self.store.labels(chosen), shown=0)

    def _fake_grid(self, journal: Journal) -> None:
        if not self.devices.chief:
            return
        told = self.feed.told(self._examples())
        parts = self.engine.draw(np.arange(len(told["label"]), dtype=np.int64), told)
        labels = parts.get("mask", told["label"])
        journal.grid(f"fakes-{self.shown / 1000:08.1f}", parts.get("image"), labels, shown=self.shown)
