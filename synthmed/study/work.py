"""The tasks of a study: a store, a generator, slices, a filter model or a trial, each made once and whole; pruning."""

import errno
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from synthmed.data.plan import PlanOptions
from synthmed.data.prepare import prepare
from synthmed.data.readers import ReadOptions, read_dataset
from synthmed.data.store import Store
from synthmed.data.synthetic import SyntheticSet
from synthmed.errors import InvariantError, UserError, check_leak, present
from synthmed.files import Busy, read_json, write_json
from synthmed.progress import Progress
from synthmed.segmentation.run import CHECKPOINTS
from synthmed.study.config import DataSet, Recipe, Scoring
from synthmed.study.folder import DONE, FOLDERS, RUNNING, STUDY, TRIAL, Kind, StudyFolder, alone, publish
from synthmed.study.grid import Task

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
    from synthmed.generation.generator import load_generator

    store = _open_store(folder, task)
    digest = present(task.of("generator"), "slices need one")
    # A set appears whole or not at all: what a killed process left of it is of no use.
    shutil.rmtree(out.parent, ignore_errors=True)
    identity = task.identity
    run = folder.of("generator", digest) / CONTENT["generator"]
    count = slice_count(store, identity["patients"])
    masks = identity["masks"]
    generate(
        load_generator(run),
        out,
        n=count,
        format="npz",
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
    from synthmed.segmentation.store_scores import StoreScoring, kept_scores

    store = _open_store(folder, task)
    identity, scoring = task.identity, Scoring.model_validate(task.identity["scoring"])
    recipe = Recipe.model_validate(identity["recipe"])
    synthetic = _added(folder, task, store)
    judge = task.of("judge")
    blending = recipe.blending() if synthetic is not None else recipe.blending().without_synthetic()
    if judge is not None:
        blending = blending.model_copy(update={"filter_model": str(folder.of("judge", judge) / CONTENT["judge"])})
    options = {**identity["options"], "seed": identity["seed"], "blending": blending}
    ratio: float | str = 0.0
    if synthetic is not None:
        ratio = "auto" if recipe.ratio == "auto" else blended_ratio(store, recipe, len(synthetic))
    search = out.parent / SEARCH
    made = _train(store, out, {**options, "ratio": ratio}, synthetic, report, search=search)
    found = _found_ratio(search) if ratio == "auto" else {}
    start = time.monotonic()
    how = StoreScoring(
        scoring.split,
        reference=Path(task.how["path"]) if scoring.geometry == "source" else None,
        flips=scoring.flips,
        largest_component=scoring.largest_component,
        tolerance=scoring.tolerance,
    )
    run = made.pop("run")
    rows = kept_scores(run, store, how)
    made["scoring_seconds"] = round(time.monotonic() - start, 1)
    scores: dict[str, Any] = {"hash": task.digest, "slices": len(synthetic) if synthetic is not None else 0}
    scores["ratio"] = run.record.options.ratio
    if found:
        # Its short trainings have said what they know.
        shutil.rmtree(search, ignore_errors=True)
        made["seconds"] = round(made["seconds"] + found["seconds"], 1)
        scores["search"] = found["search"]
    made["result"] = scores | {"scores": [row.model_dump() for row in rows], "status": "finished"}
    return made


_MAKERS = {"store": _store, "generator": _generator, "slices": _slices, "judge": _judge, "trial": _trial}


def _train(
    store: Store, out: Path, values: dict[str, Any], synthetic: Any, report: Progress, *, search: Path | None = None
) -> dict[str, Any]:
    from synthmed.segmentation.auto_ratio import SearchStopped
    from synthmed.segmentation.train_unet import train_unet

    try:
        run = train_unet(store, synthetic=synthetic, out=out, resume=True, search=search, progress=report, **values)
    except SearchStopped:
        raise Stopped from None
    if not run.finished:
        raise Stopped
    record = run.record
    check_leak(list(record.training_patients) == store.training_hashes, f"{out} is trained on other patients")
    own = record.synthetic is None or set(record.synthetic.training_patients) == synthetic.training_hashes
    check_leak(own, f"{out} is blended with slices of another generator")
    return {"training_patients": list(record.training_patients), "seconds": _seconds(run), "run": run}


def _found_ratio(search: Path) -> dict[str, Any]:
    """Return the answer of a trial's search with its evidence, and how long it took."""
    from synthmed.segmentation.auto_ratio import RECORD
    from synthmed.segmentation.run import SegmentationRun

    seconds = sum(_seconds(SegmentationRun.open(path)) for path in search.glob("ratio-*-seed-*"))
    answer = read_json(search / RECORD)
    return {"search": {name: value for name, value in answer.items() if name != "asked"}, "seconds": seconds}


def _seconds(run: Any) -> float:
    """Return what the clock of a training says, over all its pieces."""
    seconds = [float(line["seconds"]) for line in run.read_log() if "seconds" in line]
    return seconds[-1] if seconds else 0.0


def _added(folder: StudyFolder, task: Task, store: Store) -> SyntheticSet | None:
    """Return what is blended in: the first slices that were drawn, or copies of real ones."""
    from synthmed.segmentation.comparison import CopiedSlices

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


Status = Literal["finished", "failed", "stopped", "full", "busy"]
Maker = Callable[[StudyFolder, Task, Progress], None]
TELL_SECONDS = 1.0
_FULL = (errno.ENOSPC, errno.EDQUOT)
# Libraries with their own writers put the system's words into exceptions of their own.
_FULL_WORDS = ("no space left on device", "disk quota exceeded")


class Stopped(Exception):
    """The process was asked to end; what is done so far is kept."""


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended.

    Attributes:
        status: "busy" is another process at the same task, "stopped" an attempt that was asked to end, "full" a disk.
        cause: Why it is not finished, in one line.
    """

    status: Status
    cause: str = ""


def attempt(folder: StudyFolder, task: Task, make: Maker) -> Outcome:
    """Make a task unless it is there, with nobody else at it, and return how that ended; nothing is raised.

    Args:
        folder: Of the study.
        task: What to make.
        make: Makes it.
    """
    try:
        with alone(folder.lock_file(task.digest)):
            if not folder.finished(task.kind, task.digest):
                folder.work(task.digest).mkdir(parents=True, exist_ok=True)
                make(folder, task, _told(folder, task))
        return Outcome("finished")
    except Busy as error:
        return Outcome("busy", str(error))
    except (Stopped, KeyboardInterrupt, SystemExit):
        return Outcome("stopped", "it was asked to stop")
    except BaseException as error:
        return outcome_of(error)


def outcome_of(error: BaseException) -> Outcome:
    """Return how an attempt ended that raised this."""
    text = " ".join(str(error).split())
    if getattr(error, "errno", None) in _FULL or any(words in text.lower() for words in _FULL_WORDS):
        return Outcome("full", text[:300])
    if isinstance(error, UserError):
        return Outcome("failed", text)
    if isinstance(error, MemoryError):
        return Outcome("failed", "not enough memory: fewer workers, or smaller batches")
    return Outcome("failed", f"{type(error).__name__}: {text[:300]}")


def begin(folder: StudyFolder, task: Task) -> None:
    """Say that a task has been begun."""
    write_json(progress_file(folder, task), {"done": 0, "total": 0, "note": "starting"})


def progress_file(folder: StudyFolder, task: Task) -> Path:
    """Return where an attempt says how far it is; only tasks at work have such a file."""
    return folder.path / RUNNING / f"{task.digest}.json"


def _told(folder: StudyFolder, task: Task) -> Progress:
    last = 0.0

    def report(done: int, total: int, note: str) -> None:
        nonlocal last
        if time.monotonic() - last >= TELL_SECONDS:
            last = time.monotonic()
            write_json(progress_file(folder, task), {"done": done, "total": total, "note": note})

    return report


_KEPT_ALWAYS: tuple[Kind, ...] = ("trial",)


@dataclass
class Pruned:
    """What was removed.

    Attributes:
        folders: Folders that went, or would go.
        size: Their bytes.
        needed: Finished tasks that stay because a trial is still to be made of them.
    """

    folders: list[Path] = field(default_factory=list)
    size: int = 0
    needed: int = 0


def prune(out: Path, *, everything: bool = False, dry_run: bool = False) -> Pruned:
    """Remove what only finished trials were made of; every score stays, and what is wanted again is made again.

    Removed are checkpoints of finished trials, and stores and drawn slices that no unfinished trial needs, with what
    earlier configurations left. Generators stay, since they took longest.

    Args:
        out: Folder of the study.
        everything: Remove generators that no unfinished trial needs and the weights of the U-Nets, too.
        dry_run: Remove nothing.

    Raises:
        UserError: If there is no study, or it is being worked on.
    """
    folder = StudyFolder(out)
    if folder.check() is None:
        raise UserError(f"{out} is no study (it has no {STUDY}): give the folder of `synthmed study run --out`")
    with folder.locked():
        pruned = Pruned()
        needed = _needed(folder)
        for path in _candidates(folder, needed, everything=everything):
            pruned.folders.append(path)
            pruned.size += _size(path)
        pruned.needed = len(needed)
        if not dry_run:
            for path in pruned.folders:
                _remove(path)
        return pruned


def _needed(folder: StudyFolder) -> set[str]:
    """Return the hashes of all tasks that unfinished trials of the present configuration need."""
    tasks: dict[str, list[list[str]]] = read_json(folder.path / STUDY)["tasks"]
    needed: set[str] = set()
    pending = [one for one in read_json(folder.path / STUDY)["trials"] if not folder.finished("trial", one)]
    while pending:
        digest = pending.pop()
        if digest not in needed:
            needed.add(digest)
            pending += [other for _, other in tasks[digest]]
    return needed


def _candidates(folder: StudyFolder, needed: set[str], *, everything: bool) -> list[Path]:
    found: list[Path] = []
    for trial in sorted(folder.of("trial", "").glob("*")):
        run = trial / CONTENT["trial"]
        if folder.finished("trial", trial.name):
            found += [run] if everything and run.is_dir() else [*run.glob(CHECKPOINTS)]
    for kind in FOLDERS:
        if kind in _KEPT_ALWAYS or (kind == "generator" and not everything):
            continue
        found += [path for path in sorted(folder.of(kind, "").glob("*")) if path.name not in needed]
    found += [path for path in sorted(folder.work("").glob("*")) if path.name not in needed]
    return found


def _remove(path: Path) -> None:
    # What says that it is finished goes first: a prune that is cut off must leave nothing that looks whole.
    (path / DONE).unlink(missing_ok=True)
    shutil.rmtree(path)


def _size(path: Path) -> int:
    return sum(one.stat().st_size for one in path.rglob("*") if one.is_file())
