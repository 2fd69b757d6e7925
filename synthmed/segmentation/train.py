"""Training a U-Net on real slices or on real and synthetic ones, from its last checkpoint on."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthmed.data.pictures import SHORTEST_SIDE, render_outlines, save_png, tile
from synthmed.data.schema import CaseRecord, Split
from synthmed.data.selection import keep_training_patients
from synthmed.data.store import Store
from synthmed.data.stream import SliceSource
from synthmed.data.synthetic import SyntheticSet
from synthmed.errors import UserError, present
from synthmed.files import check_resumable, folder_lock, is_free, sha256_json
from synthmed.hardware import resolve_precision
from synthmed.progress import Progress, Say, silent
from synthmed.segmentation.augment import decided
from synthmed.segmentation.blend import (
    ContextSlices,
    GeneratedSlices,
    SyntheticSlices,
    blended_batches,
    check_fits,
    fitting_slices,
    offered,
)
from synthmed.segmentation.filter import choose_slices, write_choice
from synthmed.segmentation.options import SegmentOptions
from synthmed.segmentation.predict import SlicePredictor, validate
from synthmed.segmentation.run import CHECKPOINTS, RunRecord, SegmentationRun, SyntheticRecord
from synthmed.segmentation.schedule import Schedule
from synthmed.stopping import stop_on_signal
from synthmed.training.checkpoint import find_newest, remove_leftovers, save_checkpoint

REAL, SYNTHETIC = (255, 255, 255), (255, 0, 255)
"""Colours of the frames; no class has either."""
FRAME = 3
MOST = 32
BATCH_PICTURE = "batch.png"


def batch_sheet(
    images: NDArray[np.float32], labels: NDArray[np.uint8], synthetic: NDArray[np.bool_], *, colour: bool = False
) -> NDArray[np.uint8]:
    """Return a picture of a batch with label outlines: real slices framed in white, synthetic ones in magenta.

    Args:
        images: `(n, height, width, channels)`, about -1 to 1.
        labels: `(n, height, width)` class indices, `IGNORE` where not known.
        synthetic: `(n,)`, which slices are no real ones.
        colour: Whether three channels are one picture's red, green and blue.

    Returns:
        `(height, width, 3)`; of a batch of more than `MOST` slices that many, spread over it evenly.
    """
    chosen = np.unique(np.linspace(0, len(images) - 1, min(len(images), MOST)).round().astype(int))
    enlarge = max(1, -(-SHORTEST_SIDE // min(images.shape[1:3])))
    pictures = render_outlines(images[chosen], labels[chosen], enlarge=enlarge, colour=colour)
    framed = np.pad(pictures, ((0, 0), (FRAME, FRAME), (FRAME, FRAME), (0, 0)))
    inside = np.pad(np.ones(pictures.shape[1:3], bool), FRAME)
    frames = np.where(synthetic[chosen, None], SYNTHETIC, REAL).astype(np.uint8)
    framed = np.where(inside[None, :, :, None], framed, frames[:, None, None, :])
    return tile(framed, columns=max(1, round(8 / max(1, pictures.shape[2] // pictures.shape[1]))))


def write_batch_picture(folder: Path, batch: dict[str, Any], channels: tuple[str, ...]) -> None:
    """Write the picture of a batch of `blended_batches` into a run folder.

    Args:
        folder: The run.
        batch: "image", "label" and "synthetic".
        channels: Names of the image channels; of slices that come with their neighbours the middle one is drawn.
    """
    image, label, synthetic = (np.asarray(batch[name]) for name in ("image", "label", "synthetic"))
    before = (image.shape[-1] - len(channels)) // 2
    image = image[..., before : before + len(channels)]
    colour = tuple(channels) == ("red", "green", "blue")
    save_png(folder / BATCH_PICTURE, batch_sheet(image, label, synthetic, colour=colour))


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
        # Here: commands that only ask for options of a training do not wait for TensorFlow.
        from synthmed.segmentation.engine import SegmentationEngine

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


def train(
    store: Store,
    out: Path | str,
    options: SegmentOptions,
    *,
    synthetic: SyntheticSet | GeneratedSlices | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    say: Say | None = None,
) -> SegmentationRun:
    """Train a U-Net and keep its weights, log and checkpoints in a run folder.

    Same store, synthetic set, options and machine: same weights, whether or not the training was interrupted.

    Args:
        store: Real slices; its training patients are trained on, its validation patients are watched.
        out: The run folder.
        options: See `SegmentOptions`.
        synthetic: Slices to blend in where `options.uses_synthetic`, from a set or drawn during the training.
        resume: Go on from the last checkpoint in `out`; from the beginning where there is none, and not at all where
            the training is complete.
        progress: Told after each step.
        say: Called with lines that a user should read; by default they are notes of the progress.

    Returns:
        The run; `finished` is false where the process was asked to stop before the last step.

    Raises:
        UserError: If the synthetic set does not fit, `out` holds something else, or the loss is no longer finite.
    """
    out = Path(out)
    with folder_lock(out):
        return _train(store, out, options, synthetic, resume=resume, report=progress or silent, say=say)


def _train(
    store: Store,
    out: Path,
    options: SegmentOptions,
    synthetic: SyntheticSet | GeneratedSlices | None,
    *,
    resume: bool,
    report: Progress,
    say: Say | None,
) -> SegmentationRun:
    check_resumable(out, resume=resume)
    store.require_labels()
    cases = training_cases(store, options.train_patients)
    used = _used_slices(store, cases, synthetic, options)
    numbers = offered(store.class_counts, store.training_indices(cases), options.blending, seed=options.seed)
    record = _record(store, cases, numbers, used, options)
    run = _begun(out, record)
    if run is not None and run.finished:
        return run
    # Before the folder is made: what cannot be read must not leave a run behind.
    slices = fitting_slices(used.source, store) if used.source is not None else None
    run = run or SegmentationRun.create(out, record)
    if used.rows:
        write_choice(run.path, used.rows)
    TrainingLoop(run, store, numbers, slices, report=report, say=say).go()
    return run


def training_cases(store: Store, patients: int | None) -> list[CaseRecord]:
    """Return the store's training cases, or those of `patients` of its training patients, smaller draws within larger.

    The rule is that of `synthmed prepare --train-patients` with the store's seed.

    Raises:
        UserError: If there are fewer patients than asked for.
    """
    cases = store.cases("train")
    patient_of = {case.case: case.patient for case in cases}
    split: dict[str, Split] = dict.fromkeys(patient_of, "train")
    kept = keep_training_patients(split, patient_of, patients, store.manifest.seed)
    return [case for case in cases if case.case in kept]


def unseen_cases(run: SegmentationRun) -> int:
    """Return how many cases taught the generators of the run's synthetic slices but not its U-Net.

    Above 0, a comparison with a U-Net on the same real cases credits synthesis with what more of them gave.
    """
    synthetic = run.record.synthetic
    return len(set(synthetic.training_patients) - set(run.record.training_patients)) if synthetic else 0


@dataclass(frozen=True)
class _Used:
    """What a run is blended with, and keeps of it: its origin, and a row for each sample that was assessed."""

    source: SyntheticSet | GeneratedSlices | None = None
    record: SyntheticRecord | None = None
    rows: list[list[str]] = field(default_factory=list)


def _used_slices(
    store: Store, cases: list[CaseRecord], synthetic: SyntheticSet | GeneratedSlices | None, options: SegmentOptions
) -> _Used:
    if not options.uses_synthetic:
        if options.blending.keep_fraction < 1:
            raise UserError("--filter chooses among synthetic slices, and --ratio 0 uses none: give --ratio 0.5")
        return _Used()
    if synthetic is None:
        raise UserError(f"--ratio {options.ratio:g} needs synthetic slices: give --synthetic DIR or --generator RUN")
    check_fits(synthetic, store)
    record = synthetic_record(synthetic)
    if options.blending.keep_fraction == 1:
        return _Used(synthetic, record)
    if isinstance(synthetic, GeneratedSlices):
        raise UserError("--filter assesses a set that is there: give --synthetic DIR instead of --generator")
    kept, choice, rows = choose_slices(synthetic, store, cases, options.blending)
    return _Used(kept, record.model_copy(update={"choice": choice}), rows)


def _record(
    store: Store, cases: list[CaseRecord], numbers: np.ndarray, used: _Used, options: SegmentOptions
) -> RunRecord:
    from keras.distribution import list_devices

    from synthmed.models.unet import levels_for, width_for
    from synthmed.segmentation.engine import frequency_weights

    accelerator = any(not device.startswith("cpu") for device in list_devices())
    policy = resolve_precision(options.precision, accelerator=accelerator)
    keep = options.keep or ("best" if options.patience else "last")
    if (keep == "best" or options.patience) and not store.cases("val"):
        needs = "--patience" if options.patience else "--keep best"
        raise UserError(f"{store.path} has no validation patients, which {needs} needs: give prepare another --split")
    resolved = options.model_copy(
        update={
            "width": options.width or width_for(store.size, len(np.unique(numbers))),
            "levels": options.levels or levels_for(store.size),
            "keep": keep,
            "validate_every": options.validate_every or max(1, math.ceil(options.steps / 5)),
            "precision": "bfloat16" if policy == "mixed_bfloat16" else "float32",
            "augmentation": decided(options.augmentation, store, cases),
        }
    )
    return RunRecord(
        options=resolved,
        policy=policy,
        store=str(store.path.resolve()),
        dataset=store.dataset,
        licence=store.licence,
        channels=store.channels,
        classes=store.classes,
        plan=store.plan,
        store_hash=store.content_hash,
        training_patients=tuple(sorted({case.hash for case in cases})),
        validation_patients=tuple(store.hashes("val")),
        batch_parts=_last_parts(options),
        class_weights=(
            frequency_weights(store.class_counts[numbers].sum(axis=0)) if options.class_weights == "frequency" else None
        ),
        synthetic=used.record,
    )


def _last_parts(options: SegmentOptions) -> tuple[int, int]:
    schedule = Schedule(batch=options.batch, ratio=options.ratio, steps=options.steps, blending=options.blending)
    return schedule.parts(options.steps - 1)


def synthetic_record(synthetic: SyntheticSet | GeneratedSlices) -> SyntheticRecord:
    """Return where synthetic slices come from."""
    if isinstance(synthetic, GeneratedSlices):
        info = synthetic.generator.info
        return SyntheticRecord(
            folder=str(synthetic.path.resolve()),
            slices=0,
            models=(info.model_hash,),
            training_patients=tuple(sorted(synthetic.training_hashes)),
            hash=info.model_hash,
        )
    return SyntheticRecord(
        folder=str(synthetic.folder.resolve()),
        slices=len(synthetic),
        models=tuple(sorted({str(sidecar.get("model_hash", "")) for sidecar in synthetic.sidecars})),
        training_patients=tuple(sorted(synthetic.training_hashes)),
        hash=sha256_json(synthetic.sidecars),
    )


def _begun(out: Path, record: RunRecord) -> SegmentationRun | None:
    """Return the run that was begun in a folder with the same settings; None where there is nothing yet."""
    if is_free(out):
        return None
    run = SegmentationRun.open(out)
    old, new = run.record.comparable(), record.comparable()
    differing = [name for name in new if new[name] != old[name]]
    if differing:
        raise UserError(
            f"{out} was begun with other settings ({', '.join(differing)}): resume with those, or choose another --out"
        )
    return run
