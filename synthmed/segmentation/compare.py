"""A fair comparison: each arm trained several times, scored on whole patients, and what its gain is worth."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from synthmed.data.schema import Split
from synthmed.data.store import Store
from synthmed.data.synthetic import SyntheticSet
from synthmed.errors import UserError
from synthmed.files import atomic_file, folder_lock, write_json
from synthmed.progress import Progress, silent
from synthmed.segmentation.blend import check_fits, fitting_slices
from synthmed.segmentation.comparison import (
    ARMS,
    Arm,
    ArmName,
    Comparison,
    CopiedSlices,
    arm_options,
    conclude,
    drawn_store,
    plan_arms,
    refuse_equal_draws,
)
from synthmed.segmentation.filter import choose_slices
from synthmed.segmentation.options import SegmentOptions
from synthmed.segmentation.postprocess import Flips
from synthmed.segmentation.run import SegmentationRun
from synthmed.segmentation.schedule import checked
from synthmed.segmentation.score_table import DEFAULT_TOLERANCE, Score
from synthmed.segmentation.store_scores import StoreScoring, kept_scores
from synthmed.segmentation.train import train, training_cases
from synthmed.segmentation.train_unet import filtered_by

RESULT = "comparison.json"


class CompareOptions(BaseModel):
    """What is compared, and how it is scored.

    Attributes:
        arms: Which arms; `real` always is among them.
        train_patients: Real training patients of each arm but the oracle's; None for all.
        ratio: Synthetic slices for each real slice of the blended arm.
        seeds: Trainings of each arm and draw: seeds of the options, the next, and so on.
        draws: Different choices of the training patients; the first is that of `prepare --train-patients`.
        oracle_patients: Patients that the oracle has beyond these; None for `ratio` times as many.
        split: What is scored.
        flips: See `predict`.
        largest_component: See `predict`.
        tolerance: Of the surface Dice, mm.
        own_filter_model: Whether the first real arm of each draw is the filter model where samples are filtered and no
            other U-Net is named.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    arms: tuple[ArmName, ...] = ARMS
    train_patients: int | None = Field(None, ge=1)
    ratio: float = Field(0.5, gt=0)
    seeds: int = Field(3, ge=1)
    draws: int = Field(1, ge=1)
    oracle_patients: int | None = Field(None, ge=1)
    split: Split = "test"
    flips: Flips = "none"
    largest_component: bool = False
    tolerance: float = Field(DEFAULT_TOLERANCE, ge=0)
    own_filter_model: bool = True


class Task(BaseModel):
    """One training of a comparison."""

    model_config = ConfigDict(frozen=True)

    arm: Arm
    draw: int
    seed: int

    @property
    def folder(self) -> str:
        """Name of its run folder."""
        return f"{self.arm.name}-{self.seed}" + (f"-draw-{self.draw}" if self.draw else "")


def compare(
    store: Store,
    out: Path | str,
    options: CompareOptions,
    training: SegmentOptions,
    *,
    synthetic: Sequence[SyntheticSet] = (),
    reference: Path | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Train and score every arm, draw and seed, and write `comparison.json` and `comparison.md`.

    What is in `out` already is not trained again; a training that was cut off goes on.

    Args:
        store: Real slices, with patients in the split that is scored.
        out: Folder of all runs, `ARM-SEED` or `ARM-SEED-draw-DRAW`.
        options: What is compared.
        training: Options that all arms share; ratio, patients and seed are set for each, and `blending` holds for arms
            with synthetic slices.
        synthetic: One set for all draws, or one for each: of a generator trained on the patients of that draw.
        reference: Data set to score against in the geometry of the source; None for that of the store.
        progress: Told after each step.

    Raises:
        UserError: If the store or a synthetic set does not fit, or the process was asked to stop.
    """
    out, report = Path(out), progress or silent
    with folder_lock(out):
        return _compare(store, out, options, training, synthetic=synthetic, reference=reference, report=report)


def _compare(
    store: Store,
    out: Path,
    options: CompareOptions,
    training: SegmentOptions,
    *,
    synthetic: Sequence[SyntheticSet],
    reference: Path | None,
    report: Progress,
) -> Comparison:
    _check(store, options, synthetic)
    for one in synthetic:
        # Now rather than when the first arm has been trained; after a comparison nothing is left to read them for.
        if not (out / RESULT).is_file():
            fitting_slices(one, store)
    training = _same_network(store, options, training)
    arms, notes = plan_arms(
        options.arms, store, patients=options.train_patients, ratio=options.ratio, more=options.oracle_patients
    )
    tasks = [
        Task(arm=arm, draw=draw, seed=training.seed + number)
        for draw in range(options.draws)
        for number in range(options.seeds)
        for arm in arms
    ]
    scoring = StoreScoring(
        options.split,
        reference=reference,
        flips=options.flips,
        largest_component=options.largest_component,
        tolerance=options.tolerance,
    )
    rows: dict[ArmName, list[list[Score]]] = {arm.name: [] for arm in arms}
    for number, task in enumerate(tasks):

        def within(done: int, total: int, note: str, number: int = number, task: Task = task) -> None:
            report(number * total + done, len(tasks) * total, f"{task.folder}: {note}")

        run = _train(task, store, out, options, training, synthetic, within)
        scores = kept_scores(run, store, scoring)
        rows[task.arm.name].append(scores)
    notes += _knowledge(store, options, synthetic)
    comparison = conclude(
        arms,
        rows,
        draws=[task.draw for task in tasks if task.arm.name == "real"],
        notes=notes,
        about={
            "store_hash": store.content_hash,
            "dataset": store.dataset,
            "steps": training.steps,
            "batch": training.batch,
            "blending": training.blending.model_dump(mode="json", exclude={"filter_model"}),
            **options.model_dump(mode="json"),
        },
    )
    write_json(out / RESULT, comparison.model_dump(mode="json"))
    with atomic_file(out / "comparison.md") as temporary:
        temporary.write_text(comparison.markdown(), encoding="utf-8")
    return comparison


def check_compare_options(values: dict[str, Any]) -> CompareOptions:
    """Return the checked options; None counts as not given.

    Raises:
        UserError: If an option has a wrong value.
    """
    return checked(CompareOptions, values)


def write_splits(store: Store, out: Path | str, options: CompareOptions) -> list[Path]:
    """Write who trains in each draw as `split-draw-DRAW.json`, for `synthmed prepare --split`, and return the files.

    A generator for a draw must be trained on these patients alone.

    Raises:
        UserError: If two draws take the same patients.
    """
    refuse_equal_draws(store, draws=options.draws, patients=options.train_patients)
    written = []
    for draw in range(options.draws):
        cases = training_cases(drawn_store(store, draw), options.train_patients)
        parts = {"train": [case.case for case in cases]}
        parts |= {name: [case.case for case in store.cases(name)] for name in ("val", "test") if store.cases(name)}
        path = Path(out) / f"split-draw-{draw}.json"
        write_json(path, parts)
        written.append(path)
    return written


def _check(store: Store, options: CompareOptions, synthetic: Sequence[SyntheticSet]) -> None:
    store.require_labels()
    if not store.cases(options.split):
        raise UserError(f"{store.path} has no {options.split} patients to compare on: choose another --split")
    if {"blended", "synthetic", "duplicated"} & set(options.arms) and not synthetic:
        raise UserError("these arms need synthetic slices: give --synthetic DIR, or --arms real,oracle")
    if len(synthetic) not in (0, 1, options.draws):
        raise UserError(
            f"{len(synthetic)} synthetic sets for {options.draws} draws: give --synthetic once, or once for each draw"
        )
    refuse_equal_draws(store, draws=options.draws, patients=options.train_patients)
    for one in synthetic:
        check_fits(one, store)


def _same_network(store: Store, options: CompareOptions, training: SegmentOptions) -> SegmentOptions:
    """Return the options with the width that the real arm would take: an oracle must not get a larger network."""
    from synthmed.models.unet import width_for

    # Slices that are offered more than once count once.
    slices = len(np.unique(store.training_indices(training_cases(store, options.train_patients))))
    return training.model_copy(update={"width": training.width or width_for(store.size, slices)})


def _train(
    task: Task,
    store: Store,
    out: Path,
    options: CompareOptions,
    training: SegmentOptions,
    synthetic: Sequence[SyntheticSet],
    report: Progress,
) -> SegmentationRun:
    arm, view = task.arm, drawn_store(store, task.draw)
    if arm.name not in ("real", "oracle"):
        training = _with_filter_model(task, out, options, training)
    blended = None
    if arm.name not in ("real", "oracle"):
        blended = synthetic[task.draw if len(synthetic) > 1 else 0]
    if blended is not None and arm.name == "duplicated":
        # As many copies as synthetic slices are blended in: only what they show differs from the blended arm.
        cases = training_cases(view, arm.patients)
        blending = training.blending
        kept = blended if blending.keep_fraction == 1 else choose_slices(blended, view, cases, blending)[0]
        blended = CopiedSlices(view, cases, count=len(kept), seed=task.draw)
    settings = arm_options(arm, training, seed=task.seed)
    run = train(view, out / task.folder, settings, synthetic=blended, resume=True, progress=report)
    if not run.finished:
        raise UserError(f"stopped; {run.path} and all before it are saved: give the same command again to go on")
    return run


def _with_filter_model(task: Task, out: Path, options: CompareOptions, training: SegmentOptions) -> SegmentOptions:
    """Return the options with the filter model of this draw: its first real arm, which is trained before all others."""
    if training.blending.keep_fraction == 1 or training.blending.filter_model or not options.own_filter_model:
        return training
    real = task.model_copy(update={"arm": task.arm.model_copy(update={"name": "real"}), "seed": training.seed})
    return filtered_by(training, SegmentationRun.open(out / real.folder))


def _knowledge(store: Store, options: CompareOptions, synthetic: Sequence[SyntheticSet]) -> Iterator[str]:
    """Yield a warning for each draw whose generator knows patients that its U-Net does not."""
    if not {"blended", "synthetic"} & set(options.arms):
        return
    for draw in range(options.draws):
        taught = synthetic[draw if len(synthetic) > 1 else 0].training_hashes
        own = {case.hash for case in training_cases(drawn_store(store, draw), options.train_patients)}
        if not taught:
            yield f"WARNING, draw {draw}: the synthetic set does not say which patients its generator was trained on."
        elif taught - own:
            yield (
                f"WARNING, draw {draw}: the generator was trained on {len(taught - own)} cases that the U-Net was not "
                f"given; this is not the gain of somebody who has {len(own)} cases."
            )
