"""The steps of one U-Net training and what happens between them: log, validation, checkpoints."""

import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from synthmed.data.store import Store
from synthmed.data.stream import SliceSource
from synthmed.errors import UserError, present
from synthmed.progress import Progress, Say
from synthmed.segmentation.blend import SyntheticSlices, blended_batches
from synthmed.segmentation.context import ContextSlices
from synthmed.segmentation.engine import SegmentationEngine
from synthmed.segmentation.inference import SlicePredictor, validate
from synthmed.segmentation.on_the_fly import GeneratedSlices
from synthmed.segmentation.pictures import write_batch_picture
from synthmed.segmentation.run import CHECKPOINTS, SegmentationRun
from synthmed.stopping import stop_on_signal
from synthmed.training.checkpoint import find_newest, remove_leftovers, save_checkpoint

KEPT_CHECKPOINTS = 2


class TrainingLoop:
    """One training, from its last checkpoint or its beginning.

    Args:
        run: Where it is recorded.
        store: Real slices.
        numbers: Slices of the store to train on.
        synthetic: Slices to blend in, or None.
        report: Told after each step.
        say: Called with lines that a user should read; by default they are notes of the progress.
    """

    def __init__(
        self,
        run: SegmentationRun,
        store: Store,
        numbers: np.ndarray,
        synthetic: SyntheticSlices | GeneratedSlices | None,
        *,
        report: Progress,
        say: Say | None = None,
    ):
        self.run, self.store, self.numbers, self.synthetic, self.report = run, store, numbers, synthetic, report
        self.options = run.record.options
        self.say = say or (lambda line: self.report(self.step, self.options.steps, line))
        self.engine = SegmentationEngine(
            self.options,
            size=store.size,
            channels=len(store.channels),
            classes=len(store.classes),
            policy=run.record.policy,
            class_weights=run.record.class_weights,
        )
        self.predictor = SlicePredictor(self.engine.average)
        # All that the rest of the training depends on besides variables.
        self.step = 0
        self.best: float | None = None
        self.stale = 0
        self.window: list[dict[str, float]] = []
        self.seconds = 0.0

    def go(self) -> None:
        """Do all steps that are left, or until validations no longer improve, and keep the result.

        When asked to stop, keep a checkpoint instead.
        """
        try:
            self._go()
        finally:
            if isinstance(self.synthetic, GeneratedSlices):
                self.synthetic.close()

    def _go(self) -> None:
        self._restore()
        saved_step = self.step
        saved = last = time.monotonic()
        batches = self._batches(self.step)
        self.report(0, 0, "compiling")
        with stop_on_signal() as stop:
            while not self._complete() and not stop:
                self._do_step(next(batches))
                now = time.monotonic()
                self.seconds, last = self.seconds + now - last, now
                note = self._between_steps()
                if now - saved >= self.options.checkpoint_seconds:
                    self._save()
                    saved, saved_step = now, self.step
                self.report(self.step, self.options.steps, note)
            # A validation, its best weights and the log are written before the checkpoint of their step: a process that
            # dies in between does all of them again from the one before.
            if self.step > saved_step:
                self._save()
            if self._complete():
                self.run.save(self.engine.average, "last")

    def _complete(self) -> bool:
        patience = self.options.patience
        return self.step >= self.options.steps or (patience is not None and self.stale >= patience)

    def _batches(self, start: int) -> Iterator[dict[str, Any]]:
        options = self.options
        real: SliceSource = ContextSlices(self.store, options.context) if options.context else self.store
        return iter(
            blended_batches(
                real,
                self.numbers,
                self.synthetic,
                batch=options.batch,
                ratio=options.ratio,
                seed=options.seed,
                augmentation=options.augmentation,
                blending=options.blending,
                steps=options.steps,
                start=start,
            )
        )

    def _do_step(self, batch: dict[str, Any]) -> None:
        if self.step == 0:
            write_batch_picture(self.run.path, batch, self.store.channels)
        values = self.engine.step(self.step, batch)
        self.step += 1
        if not math.isfinite(values["loss"]):
            raise UserError(
                f"the loss of {self.run.path} is not finite at step {self.step}: try a lower --learning-rate or "
                "--precision float32"
            )
        self.window.append(values)

    def _between_steps(self) -> str:
        """Write the log and validate as these fall due; return the newest figure in a few words."""
        options = self.options
        note = f"loss {self.window[-1]['loss']:.3f}"
        at_end = self.step == options.steps
        if self.step % options.log_every == 0 or at_end:
            self._log_window()
        if self.step % present(options.validate_every, "options are resolved") == 0 or at_end:
            self._validate()
            if self._complete() and not at_end:
                if self.window:
                    self._log_window()
                self.run.log({"step": self.step, "stopped": f"{self.stale} validations without gain"})
        return note if self.best is None else f"{note}, best validation Dice {self.best:.3f}"

    def _log_window(self) -> None:
        means = {name: float(np.mean([values[name] for values in self.window])) for name in self.window[0]}
        self.run.log({"step": self.step, **means, "seconds": round(self.seconds, 2)})
        self.window = []

    def _validate(self) -> None:
        if not self.store.cases("val"):
            return
        result = validate(self.predictor, self.store, "val")
        self.run.log({"step": self.step, "validation": result})
        score = result["dice"]
        if score is not None and (self.best is None or score > self.best):
            self.best, self.stale = score, 0
            self.run.save(self.engine.average, "best")
        else:
            self.stale += 1

    def _save(self) -> None:
        self.run.refuse_removed()
        arrays = {name: variable.numpy() for name, variable in self.engine.state().items()}
        names = ("step", "best", "stale", "window", "seconds")
        state = {name: getattr(self, name) for name in names}
        save_checkpoint(self.run.path / CHECKPOINTS, arrays, state, keep=KEPT_CHECKPOINTS)

    def _restore(self) -> None:
        folder = self.run.path / CHECKPOINTS
        remove_leftovers(folder)
        found = find_newest(folder)
        if found is not None:
            variables = self.engine.state()
            if set(found.arrays) != set(variables):
                raise UserError(f"{found.checkpoint.path} belongs to another network: choose another --out")
            for name, variable in variables.items():
                variable.assign(found.arrays[name])
            state = found.checkpoint.state
            self.step, self.best, self.stale = state["step"], state["best"], state["stale"]
            self.window, self.seconds = state["window"], state["seconds"]
            for line in found.lines():
                self.say(line)
            found.remove_damaged()
        self.run.cut_log(self.step)
