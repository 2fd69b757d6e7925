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
from synthmed.training.adversarial import Adversarial
from synthmed.training.backends import make_devices, make_engine
from synthmed.training.batches import GeneratorBatches
from synthmed.training.best import BestCheckpoint
from synthmed.training.checkpoint import (
    Checkpoint,
    checkpoint_path,
    checkpoint_paths,
    find_newest,
    remove_leftovers,
    save_checkpoint,
)
from synthmed.training.devices import Devices
from synthmed.training.options import ResolvedOptions
from synthmed.training.run import Run
from synthmed.training.run_logger import Means, RunLogger, SilentLogger, resident_gib

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
    def open(cls, folder: Path, options: ResolvedOptions) -> "Recovery":
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

    def count(self, folder: Path, reason: str, options: ResolvedOptions) -> None:
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
class TrainProgress:
    """How far a run is: what a checkpoint's state has beside the arrays."""

    step: int = 0
    seconds: float = 0.0

    def done(self, options: ResolvedOptions) -> bool:
        """Tell whether one of the run's budgets is used up."""
        images = options.kimg is not None and self.step * options.batch >= options.kimg * 1000
        minutes = options.minutes is not None and self.seconds >= options.minutes * 60
        return images or minutes

    def of_budget(self, options: ResolvedOptions) -> tuple[int, int]:
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
        run: The run.
        store: The store that the run is trained on.
        devices: What it runs on, where that was made already.
        progress: Told how far it is.
        say: Called with lines that a user should read; by default they are notes of the progress.

    Raises:
        UserError: If the store is not the one that the run started with, or its last checkpoint does not fit.
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
            raise UserError(f"{store.path} is not the store that {run.path} started with: give that one with --data")
        self.run = run
        self.options = run.options
        self.store = store
        self.report = progress or silent
        self.say = say or (lambda line: self.report(0, 0, line))
        self.progress = TrainProgress()
        # Of the interval since the last line of the log: what was reported, and the step and seconds where it began.
        self.means = Means()
        self.logged = (0, 0.0)
        unlabelled = Store.open(self.options.unlabelled) if self.options.unlabelled else None
        self.batches = GeneratorBatches(self.options, store, unlabelled)
        self.devices = devices or make_devices(self.options.strategy)
        with self.devices.scope():
            method = Adversarial.build(
                self.options, size=store.size, channels=len(store.channels), classes=len(store.classes)
            )
        self.engine = make_engine(method, self.devices)
        self.best = BestCheckpoint(run, store, self.batches, self.engine.draw) if self.devices.chief else None
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
        logger = (RunLogger if self.devices.chief else SilentLogger)(self.run.path, images_seen=self.images_seen)
        try:
            if self.best:
                for line in self.best.repair(logger.lines):
                    self.say(line)
            with stop_on_signal() as stop:
                if not logger.has_grid(REALS):
                    self._real_grid(logger)
                self._catch_up(logger)
                while not (self.progress.done(self.options) or self._stopping):
                    try:
                        self._loop(logger, stop)
                    except Diverged as reason:
                        self._roll_back(logger, str(reason))
                # A worker that left now would look like one that is gone while the chief still draws.
                self.devices.wait_for_all()
        finally:
            logger.close()
        if self.devices.chief:
            self.run.refuse_removed()
        return self.progress.done(self.options)

    @property
    def images_seen(self) -> int:
        """Real images so far."""
        return self.progress.step * self.options.batch

    def _loop(self, logger: RunLogger, stop) -> None:
        options, progress = self.options, self.progress
        batches = self.engine.prefetch(self.batches.batches(progress.step))
        before, start = progress.seconds, 0.0
        saved = progress.seconds
        agreement = self.devices.agreement(progress.step)
        self.report(0, 0, "compiling")
        while not (progress.done(options) or self._stopping):
            count = self._ahead()
            for report in self.engine.steps(progress.step, [next(batches) for _ in range(count)]):
                self.means.add(report)
            progress.step += count
            # The first steps of a process compile the phases: a budget of minutes is for training.
            start = start or time.monotonic()
            if agreed := agreement.ask(progress.step, before + time.monotonic() - start, bool(stop)):
                progress.seconds, self._stopping = agreed
            due = self._due()
            save = due.distance or self._stopping or progress.seconds - saved >= options.checkpoint_seconds
            if save or due.line:
                if self.devices.chief:
                    self.run.refuse_removed()
                check_report(self.means.peek())
            if save:
                self._save()
                saved = progress.seconds
            self._do_due(logger)
            self.report(*progress.of_budget(options), f"{self.images_seen / 1000:.1f} kimg")

    def _due(self) -> Due:
        """Return what is due after this step; it follows from the step and the budget alone."""
        step, done = self.progress.step, self.progress.done(self.options)
        if not step:
            return Due()
        intervals = (self.options.distance_kimg, self.options.snapshot_kimg)
        distance, grid = (done or step % self._every(kimg) == 0 for kimg in intervals)
        return Due(distance=distance, grid=grid, line=distance or grid or step % LOG_STEPS == 0)

    def _do_due(self, logger: RunLogger) -> None:
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
            self._fake_grid(logger)
        self._log(logger, values)
        self._begin_interval()

    def _catch_up(self, logger: RunLogger) -> None:
        """Do what was due at the restored step and came to nothing, since the process died or the training diverged."""
        if self.devices.of_chief(self.progress.step in logger.lines):
            self._begin_interval()
        else:
            self._do_due(logger)
        self._note_way_back(logger)

    def _begin_interval(self) -> None:
        self.means, self.logged = Means(), (self.progress.step, self.progress.seconds)

    def _every(self, kimg: float) -> int:
        """Return in how many steps so many thousand real images are seen, at least one."""
        return max(1, round(1000 * kimg / self.options.batch))

    def _ahead(self) -> int:
        """Return how many steps to do at once: none of them beyond what is due every so many steps, or the budget."""
        options, step = self.options, self.progress.step
        periods = (LOG_STEPS, self._every(options.snapshot_kimg), self._every(options.distance_kimg))
        ends = [self.engine.ahead, *(period - step % period for period in periods)]
        if options.kimg is not None:
            ends.append(math.ceil(options.kimg * 1000 / options.batch) - step)
        return max(1, min(ends))

    def _log(self, logger: RunLogger, values: dict[str, float]) -> None:
        step, seconds = self.logged
        elapsed = self.progress.seconds - seconds
        # Seconds count from after a process's first step, which compiles the phases: that one has no rate.
        rate = (self.progress.step - step) * self.options.batch / elapsed if elapsed > 1e-3 else 0.0
        logger.line(
            self._where() | {"images_per_second": round(rate, 2), "memory_gib": round(resident_gib(), 3)} | values,
            images_seen=self.images_seen,
        )

    def _where(self) -> dict[str, Any]:
        return {"kimg": self.images_seen / 1000, "step": self.progress.step, "seconds": round(self.progress.seconds, 3)}

    def _state(self) -> dict[str, Any]:
        return {"step": self.progress.step, "seconds": self.progress.seconds, "kimg": self.images_seen / 1000}

    def _save(self) -> None:
        arrays = self.engine.arrays()
        check_arrays(arrays)
        self.devices.check_same("weights after a step", arrays)
        if self.devices.chief:
            state = self._state() | {"logged": self.logged, "window": self.means.values()}
            save_checkpoint(self.run.checkpoint_folder, arrays, state, keep=self.options.keep_checkpoints)
        self._first_arrays = None

    def _choose(self) -> dict[str, float]:
        distances = self.best.measure() if self.best else {}
        if self.best and distances:
            self.best.keep_if_best(distances["distance"], self.engine.arrays(), self._state())
        return distances

    def _begin(self) -> None:
        """Take up the last checkpoint; without one, the weights of another run where the options name it."""
        if self.devices.chief:
            remove_leftovers(self.run.checkpoint_folder)
        if existing := bool(self.devices.of_chief(len(checkpoint_paths(self.run.checkpoint_folder)))):
            self._restore()
        elif self.options.init_from:
            self.say(start_from(Run.open(self.options.init_from), self.engine.state()))
        self.devices.check_same("step to start from", (self.progress.step, self.recovery.rollbacks))
        arrays = self.engine.arrays()
        self.devices.check_same("weights to start from", arrays)
        if not existing:
            # What a training goes back to that runs away before its first checkpoint.
            self._first_arrays = arrays
        self.engine.scale_learning_rate(self.recovery.scale)

    def _restore(self) -> None:
        checkpoint, arrays = self._last_checkpoint()
        self._assign(arrays, str(checkpoint.path))
        state = checkpoint.state
        self.progress = TrainProgress(step=int(state["step"]), seconds=float(state["seconds"]))
        self.means = Means(state.get("window"))
        step, seconds = state.get("logged", (self.progress.step, self.progress.seconds))
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

    def _roll_back(self, logger: RunLogger, reason: str) -> None:
        self.recovery.count(self.run.path, reason, self.options)
        seconds = self.progress.seconds
        if self._first_arrays is not None:
            self._assign(self._first_arrays, "the first weights")
            self.progress, self.means, self.logged = TrainProgress(), Means(), (0, seconds)
        else:
            self._restore()
        # Time that was spent counts: a budget of minutes must end.
        self.progress.seconds = seconds
        self.engine.scale_learning_rate(self.recovery.scale)
        self.say(f"diverged ({reason}): back to step {self.progress.step} at half the learning rate")
        logger.forget_after(self.images_seen)
        self._catch_up(logger)

    def _note_way_back(self, logger: RunLogger) -> None:
        """Write the line of the last way back into the log, unless it is there."""
        line = {"rollbacks": self.recovery.rollbacks, "learning_rate": self.options.learning_rate * self.recovery.scale}
        if self.recovery.rollbacks and any(logger.way_back.get(name) != value for name, value in line.items()):
            logger.line(self._where() | line, images_seen=self.images_seen)

    def _examples(self) -> np.ndarray:
        """Choose training slices for the grids: those with the most foreground of an even spread over the cases."""
        indices = self.batches.indices
        counts = self.store.class_counts[indices][:, 1:].sum(axis=1)
        groups = np.array_split(np.arange(len(indices)), min(GRID_ITEMS, len(indices)))
        return indices[[group[int(np.argmax(counts[group]))] for group in groups]]

    def _real_grid(self, logger: RunLogger) -> None:
        chosen = self._examples()
        images = None if self.options.variant == "mask" else self.store.images(chosen)
        logger.grid(REALS, images, self.store.labels(chosen), images_seen=0)

    def _fake_grid(self, logger: RunLogger) -> None:
        if not self.devices.chief:
            return
        conditioning = self.batches.conditioning(self._examples())
        parts = self.engine.draw(np.arange(len(conditioning["label"]), dtype=np.int64), conditioning)
        labels = parts.get("mask", conditioning["label"])
        logger.grid(f"fakes-{self.images_seen / 1000:08.1f}", parts.get("image"), labels, images_seen=self.images_seen)
