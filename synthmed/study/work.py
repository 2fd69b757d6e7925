"""What each kind of task does. TensorFlow is imported here, in a process that does one task alone."""

import math
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from synthmed.data.plan import PlanOptions
from synthmed.data.prepare import prepare
from synthmed.data.readers import ReadOptions, read_dataset
from synthmed.data.store import Store
from synthmed.data.synthetic import SyntheticSet
from synthmed.errors import InvariantError, UserError, check_leak, present
from synthmed.files import read_json, write_json
from synthmed.progress import Progress, stage
from synthmed.segmentation.run import CHECKPOINTS
from synthmed.study.attempt import Stopped
from synthmed.study.config import DataSet, Scoring
from synthmed.study.folder import DONE, TRIAL, StudyFolder
from synthmed.study.grid import Task
from synthmed.study.locks import publish
from synthmed.study.model import Recipe

CONTENT = {"store": "store", "generator": "run", "slices": "set", "judge": "unet", "trial": "unet"}
"""What a task of each kind makes in its folder."""
SEARCH = "search"
"""Beside a trial's U-Net, the short trainings of `ratio: auto` until it is finished."""


def make(folder: StudyFolder, task: Task, report: Progress) -> None:
    """Do a task in its work folder, and move that where finished ones lie.

    Args:
        folder: Of the study.
        task: What to make; all that it needs is finished.
        report: Told how far it is.

    Raises:
        UserError: If it cannot be made.
        Stopped: If the process was asked to end.
    """
    work = folder.work(task.digest)
    work.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    made = _MAKERS[task.kind](folder, task, work / CONTENT[task.kind], report)
    made.setdefault("seconds", round(time.monotonic() - start, 1))
    record = {"kind": task.kind, "words": task.words, "identity": task.identity, **made}
    if task.kind in ("trial", "judge"):
        # Ten times as large as the weights, and a finished training never goes back to them.
        shutil.rmtree(work / CONTENT[task.kind] / CHECKPOINTS, ignore_errors=True)
    if task.kind == "trial":
        write_json(work / TRIAL, {**task.how["cell"], "hours": _hours(folder, task, made), **made["result"]})
    write_json(work / DONE, {name: value for name, value in record.items() if name != "result"})
    publish(work, folder.of(task.kind, task.digest))


def _store(folder: StudyFolder, task: Task, out: Path, report: Progress) -> dict[str, Any]:
    """Prepare a draw's store: plan and intensities are fitted to its training patients alone."""
    one = DataSet.model_validate(task.how["options"])
    dataset = read_dataset(Path(task.how["path"]), ReadOptions(patient_pattern=one.patient_pattern))
    parts: dict[str, list[str]] = {}
    for case, part in task.how["split"].items():
        parts.setdefault(part, []).append(case)
    split = out.parent / "split.json"
    write_json(split, parts)
    options = PlanOptions(
        axis=one.axis,
        size=one.size,
        spacing=one.spacing,
        normalise=one.normalise,
        bias_correction=one.bias_correction,
        slices=one.slices,
    )
    reading = ReadOptions(patient_pattern=one.patient_pattern)
    store = prepare(dataset, out, split=split, seed=one.seed, options=options, reading=reading, progress=report)
    found = {case.case: case.split for case in store.cases()}
    check_leak(found == task.how["split"], f"{out} holds other patients than this draw")
    check_leak(not set(store.training_hashes) & store.held_out_hashes, f"{out}: a training case is held out, too")
    return {"training_patients": store.training_hashes, "slices_a_patient": slices_a_patient(store)}


def _generator(folder: StudyFolder, task: Task, out: Path, report: Progress) -> dict[str, Any]:
    from synthmed.training.options import check_options
    from synthmed.training.plan import execute, plan_training
    from synthmed.training.run import Run

    store = _open_store(folder, task)
    existing_run = Run.open(out) if (out / "run.json").is_file() else None
    options = check_options({name: value for name, value in task.identity["options"].items() if value is not None})
    plan = plan_training(out, options, store, existing_run=existing_run)
    if plan.mask is not None:
        masks = plan.mask.options.with_kimg(task.identity["mask_kimg"])
        plan = replace(plan, mask=replace(plan.mask, options=masks))
    if not execute(plan, resume=out.exists(), progress=report):
        raise Stopped
    run = Run.open(out)
    runs = [run] + ([Run.open(run.mask_generator)] if plan.mask is not None else [])
    fitted = all(one.data.training_patients == store.training_hashes for one in runs)
    check_leak(fitted, f"{out} is fitted to other patients than this draw's")
    # The clock of a training goes on where it was stopped; the time of this process alone would not.
    seconds = sum(float(one.last_arrays()[0].state["seconds"]) for one in runs)
    return {"training_patients": run.data.training_patients, "seconds": round(seconds, 1)}


def _slices(folder: StudyFolder, task: Task, out: Path, report: Progress) -> dict[str, Any]:
    from synthmed.generation.generate import generate
    from synthmed.generation.locate import open_sampler

    store = _open_store(folder, task)
    digest = present(task.of("generator"), "slices need one")
    # A set appears whole or not at all: what a killed process left of it is of no use.
    shutil.rmtree(out.parent, ignore_errors=True)
    identity = task.identity
    run = folder.of("generator", digest) / CONTENT["generator"]
    count = slice_count(store, identity["patients"])
    masks = identity["masks"]
    generate(
        open_sampler(run)[0],
        out,
        count=count,
        fmt="npz",
        psi=identity["psi"],
        seed=identity["seed"],
        masks=masks,
        progress=report,
    )
    same = SyntheticSet.open(out).training_hashes == set(store.training_hashes)
    check_leak(same, f"{out} is drawn from other patients than this draw's")
    return {"slices": count}


def _judge(folder: StudyFolder, task: Task, out: Path, report: Progress) -> dict[str, Any]:
    store = _open_store(folder, task)
    changes = {"seed": task.identity["seed"], "context": 0, "patience": None, "keep": "last"}
    made = _train(store, out, {**task.identity["options"], **changes}, None, report)
    del made["run"]
    return made


def _trial(folder: StudyFolder, task: Task, out: Path, report: Progress) -> dict[str, Any]:
    from synthmed.segmentation.auto_ratio import SEARCH_TRAININGS
    from synthmed.segmentation.store_scores import StoreScoring, kept_scores

    store = _open_store(folder, task)
    identity, scoring = task.identity, Scoring.model_validate(task.identity["scoring"])
    recipe = Recipe.model_validate(identity["recipe"])
    synthetic = _added(folder, task, store)
    judge = task.of("judge")
    blending = recipe.blending() if synthetic is not None else recipe.blending().without_synthetic()
    if judge is not None:
        blending = blending.model_copy(update={"judge": str(folder.of("judge", judge) / CONTENT["judge"])})
    options = {**identity["options"], "seed": identity["seed"], "blending": blending}
    found: dict[str, Any] = {}
    if recipe.ratio == "auto":
        search = round(1000 * SEARCH_TRAININGS)
        drawn = present(synthetic, "the configuration refuses a search without synthetic slices")
        found = _search(store, out.parent / SEARCH, options, drawn, stage(report, 0, search, 1000))
        options |= found["options"]
        report = stage(report, search, 1000, 0)
    else:
        options["ratio"] = blended_ratio(store, recipe, len(synthetic)) if synthetic is not None else 0.0
    made = _train(store, out, options, synthetic, report)
    start = time.monotonic()
    how = StoreScoring(
        scoring.split,
        reference=Path(task.how["path"]) if scoring.geometry == "source" else None,
        flips=scoring.flips,
        largest_component=scoring.largest_component,
        tolerance=scoring.tolerance,
    )
    rows = kept_scores(made.pop("run"), store, how)
    made["scoring_seconds"] = round(time.monotonic() - start, 1)
    scores: dict[str, Any] = {"hash": task.digest, "slices": len(synthetic) if synthetic is not None else 0}
    scores["ratio"] = options["ratio"]
    if found:
        # Its short trainings have said what they know.
        shutil.rmtree(out.parent / SEARCH, ignore_errors=True)
        made["seconds"] = round(made["seconds"] + found["seconds"], 1)
        scores["search"] = found["search"]
    made["result"] = scores | {"scores": [row.model_dump() for row in rows], "status": "finished"}
    return made


_MAKERS = {"store": _store, "generator": _generator, "slices": _slices, "judge": _judge, "trial": _trial}


def _train(store: Store, out: Path, values: dict[str, Any], synthetic: Any, report: Progress) -> dict[str, Any]:
    from synthmed.segmentation.options import check_options
    from synthmed.segmentation.train import train

    run = train(store, out, check_options(values), synthetic=synthetic, resume=True, progress=report)
    if not run.finished:
        raise Stopped
    record = run.record
    check_leak(list(record.training_patients) == store.training_hashes, f"{out} is trained on other patients")
    own = record.synthetic is None or set(record.synthetic.training_patients) == synthetic.training_hashes
    check_leak(own, f"{out} is blended with slices of another generator")
    return {"training_patients": list(record.training_patients), "seconds": _seconds(run), "run": run}


def _search(store: Store, folder: Path, values: dict[str, Any], synthetic: Any, report: Progress) -> dict[str, Any]:
    """Search the ratio of a trial: what options follow, the answer with its evidence, and how long it took."""
    from synthmed.segmentation.auto_ratio import SearchStopped, choose_ratio, with_ratio
    from synthmed.segmentation.options import DEFAULT_RATIO, check_options
    from synthmed.segmentation.run import SegmentationRun

    asked = check_options({**values, "ratio": DEFAULT_RATIO})
    try:
        choice = choose_ratio(store, folder, asked, synthetic, progress=report)
    except SearchStopped:
        raise Stopped from None
    chosen = with_ratio(asked, choice.ratio)
    seconds = sum(_seconds(SegmentationRun.open(path)) for path in folder.glob("ratio-*-seed-*"))
    search = choice.model_dump(mode="json", exclude={"asked"})
    return {
        "options": {"ratio": chosen.ratio, "blending": chosen.blending},
        "search": search,
        "seconds": seconds,
    }


def _seconds(run: Any) -> float:
    """Return what the clock of a training says, over all its pieces."""
    seconds = [float(line["seconds"]) for line in run.read_log() if "seconds" in line]
    return seconds[-1] if seconds else 0.0


def _added(folder: StudyFolder, task: Task, store: Store) -> SyntheticSet | None:
    """Return what is blended in: the first slices that were drawn, or copies of real ones."""
    from synthmed.segmentation.arms import CopiedSlices

    added, digest = task.identity["added_patients"], task.of("slices")
    if digest is not None:
        drawn = folder.of("slices", digest)
        whole, taught = SyntheticSet.open(drawn / CONTENT["slices"]), _taught(folder, drawn)
        known, own = whole.training_hashes, set(store.training_hashes)
        check_leak(known == set(taught.training_hashes), f"{drawn} is drawn by another generator")
        check_leak(not known & store.held_out_hashes, f"{drawn} is drawn by a generator that knows held-out patients")
        apart = not known & own if task.how["cell"]["model"]["other_patients"] else known == own
        check_leak(apart, f"{drawn} is drawn from other patients than this model's")
        return whole.subset(np.arange(slice_count(taught, added)))
    if not added:
        return None
    return CopiedSlices(store, store.cases("train"), count=slice_count(store, added), seed=task.identity["seed"])


def _taught(folder: StudyFolder, slices: Path) -> Store:
    """Return the store of the patients who taught the generator of a set of slices."""
    generator = read_json(slices / DONE)["identity"]["generator"]
    store = read_json(folder.of("generator", generator) / DONE)["identity"]["store"]
    return Store.open(folder.of("store", store) / CONTENT["store"])


def slices_a_patient(store: Store) -> float:
    """Return how many slices a training patient has on average, and so how many an added one counts."""
    patients = {case.patient for case in store.cases("train")}
    return sum(case.slices for case in store.cases("train")) / len(patients)


def slice_count(store: Store, patients: float) -> int:
    """Return how many slices a number of added patients is, at least one."""
    return max(1, round(patients * slices_a_patient(store)))


def blended_ratio(store: Store, recipe: Recipe, slices: int) -> float:
    """Return synthetic slices for each real one in a batch: the recipe's, else as many as one pool of all would give.

    Args:
        store: Real slices.
        recipe: Of the trial.
        slices: How many synthetic ones there are, before any are filtered out.
    """
    if recipe.ratio is not None:
        if recipe.ratio == "auto":
            raise InvariantError("a search finds this ratio")
        return recipe.ratio
    return math.ceil(slices * recipe.filter) / len(store.training_indices())


def _open_store(folder: StudyFolder, task: Task) -> Store:
    path = folder.of("store", present(task.of("store"), "every task but a store's own needs one"))
    store = Store.open(path / CONTENT["store"])
    if store.training_hashes != read_json(path / DONE)["training_patients"]:
        raise UserError(f"{path} holds other patients than when it was made: remove the folder and run the study again")
    return store


def _hours(folder: StudyFolder, task: Task, made: dict[str, Any]) -> dict[str, float]:
    """Return what a trial took; a generator that several share counts whole in each."""
    shared = [folder.of(kind, digest) / DONE for kind, digest in task.needs if kind in ("slices", "judge")]
    seconds = sum(read_json(path)["seconds"] for path in shared)
    for kind, digest in task.needs:
        if kind == "slices":
            generator = read_json(folder.of(kind, digest) / DONE)["identity"]["generator"]
            seconds += read_json(folder.of("generator", generator) / DONE)["seconds"]
    parts = {"generator": seconds, "training": made["seconds"], "scoring": made["scoring_seconds"]}
    return {name: round(value / 3600, 5) for name, value in parts.items()}
