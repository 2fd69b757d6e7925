"""Training the U-Net on real slices, or on real and synthetic ones."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from synthmed.data.schema import CaseRecord, Split
from synthmed.data.split import keep_training_patients
from synthmed.data.store import Store
from synthmed.data.synthetic import SyntheticSet
from synthmed.errors import UserError
from synthmed.files import check_resumable, folder_lock, is_free, sha256_json
from synthmed.hardware import resolve_precision
from synthmed.progress import Progress, Say, silent
from synthmed.segmentation.blend import check_fits, fitting_slices, offered
from synthmed.segmentation.choice import choose_slices, write_choice
from synthmed.segmentation.on_the_fly import GeneratedSlices
from synthmed.segmentation.options import SegmentOptions
from synthmed.segmentation.run import RunRecord, SegmentationRun, SyntheticRecord
from synthmed.segmentation.schedule import Schedule
from synthmed.segmentation.symmetry import decided


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
    from synthmed.segmentation.loop import TrainingLoop

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
    """What a run is blended with, and keeps of it: its origin, and a row for each sample that was judged."""

    source: SyntheticSet | GeneratedSlices | None = None
    record: SyntheticRecord | None = None
    rows: list[list[str]] = field(default_factory=list)


def _used_slices(
    store: Store, cases: list[CaseRecord], synthetic: SyntheticSet | GeneratedSlices | None, options: SegmentOptions
) -> _Used:
    if not options.uses_synthetic:
        if options.blending.keep < 1:
            raise UserError("--filter chooses among synthetic slices, and --ratio 0 uses none: give --ratio 0.5")
        return _Used()
    if synthetic is None:
        raise UserError(f"--ratio {options.ratio:g} needs synthetic slices: give --synthetic DIR or --generator RUN")
    check_fits(synthetic, store)
    record = synthetic_record(synthetic)
    if options.blending.keep == 1:
        return _Used(synthetic, record)
    if isinstance(synthetic, GeneratedSlices):
        raise UserError("--filter judges a set that is there: give --synthetic DIR instead of --generator")
    kept, choice, rows = choose_slices(synthetic, store, cases, options.blending)
    return _Used(kept, record.model_copy(update={"choice": choice}), rows)


def _record(
    store: Store, cases: list[CaseRecord], numbers: np.ndarray, used: _Used, options: SegmentOptions
) -> RunRecord:
    from keras.distribution import list_devices

    from synthmed.models.unet import levels_for, width_for
    from synthmed.segmentation.losses import frequency_weights

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
        info = synthetic.sampler.info
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
