"""From a data set to a store of normalised slices."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from synthmed import __version__
from synthmed.data.inspect import Fingerprint, fingerprint, refuse_problems
from synthmed.data.placement import plan_placement
from synthmed.data.plan import PlanOptions, explain_plan
from synthmed.data.planfile import PLAN, PlanFile, make_plan_file, read_plan, refuse_existing_plan, write_plan
from synthmed.data.readers import CaseFiles, Dataset, ReadOptions, load_case, read_dataset, read_unlabelled
from synthmed.data.schema import CaseRecord, Manifest, Plan, Split
from synthmed.data.shards import ShardWriter
from synthmed.data.slicing import PreparedCase, prepare_case
from synthmed.data.split import draw_split, keep_training_patients, read_split
from synthmed.data.store import CLASS_COUNTS, MANIFEST, Store
from synthmed.errors import UserError
from synthmed.files import atomic_folder, sha256_file, sha256_json, write_json
from synthmed.progress import Progress, silent

WORKERS = 2


def prepare_unlabelled(path: Path | str, out: Path | str, *, beside: Store, progress: Progress | None = None) -> Store:
    """Write a store of images without labels, prepared as another store is, for training beside it.

    All cases become training cases. Those whose images the other store holds, in whatever split, are left out: with
    them a generator would be taught by held-out patients, or by the same slices twice.

    Args:
        path: Folder of images, see `read_unlabelled`.
        out: Folder of the store; it must not exist or be empty.
        beside: The labelled store.
        progress: Told after each case.

    Raises:
        UserError: If anything is wrong with the images, nothing is left of them, or `out` exists.
    """
    tell = progress or silent
    out = Path(out)
    _refuse_existing(out)
    beside.require_labels()
    dataset = read_unlabelled(path, beside.manifest)
    found = fingerprint(dataset, progress=lambda done, total, note: tell(done, 2 * total, note))
    refuse_problems(found, dataset.path)
    held = {case.hash for case in beside.cases()}
    assigned: dict[str, Split] = {case.case: "train" for case in found.cases if case.hash not in held}
    if not assigned:
        raise UserError(f"{beside.path} holds every image of {dataset.path} already: give others")
    with atomic_folder(out) as folder:
        _write(dataset, found, beside.plan, assigned, beside.manifest.seed, folder, tell)
    return Store.open(out)


def prepare(
    dataset: Dataset | Path | str,
    out: Path | str,
    *,
    axis: str | None = None,
    size: tuple[int, int] | None = None,
    spacing: tuple[float, float] | None = None,
    split: tuple[float, float, float] | Path = (0.7, 0.15, 0.15),
    train_patients: int | None = None,
    seed: int = 0,
    options: PlanOptions | None = None,
    reading: ReadOptions | None = None,
    progress: Progress | None = None,
) -> Store:
    """Check a data set, plan, and write a store of its slices; nothing is written before all is known to be in order.

    Args:
        dataset: From `read_dataset`, or its folder.
        out: Folder of the store; it must not exist or be empty.
        axis: Slicing axis, see `PlanOptions`; so are the next two.
        size: Rows and columns of a slice.
        spacing: Pixel size.
        split: Fractions of patients for training, validation and test, or a JSON file of case names.
        train_patients: How many training patients to keep; all by default.
        seed: Of the random split, of the draw of training patients and of the choice of slices.
        options: All that a plan can be told; axis, size and spacing go before it.
        reading: How the folder was read, for the plan's file.
        progress: Told after each case.

    Returns:
        The store, opened.

    Raises:
        UserError: If anything is wrong with the data set or an option, or `out` exists.
    """
    tell = progress or silent
    out = Path(out)
    _refuse_existing(out)
    reading = reading or ReadOptions()
    if not isinstance(dataset, Dataset):
        dataset = read_dataset(dataset, reading)
    given: dict[str, Any] = {"axis": axis, "size": size, "spacing": spacing}
    options = replace(options or PlanOptions(), **{name: value for name, value in given.items() if value is not None})
    assigned = _assign(dataset, split, train_patients, seed)
    found = _checked(dataset, len(assigned), tell)
    explained = explain_plan(found, split=assigned, options=options)
    planned, text = make_plan_file(dataset, explained, assigned, seed=seed, reading=reading)
    return _execute(dataset, found, planned, text, assigned, out, tell)


def plan_only(
    dataset: Dataset | Path | str,
    file: Path | str,
    *,
    split: tuple[float, float, float] | Path = (0.7, 0.15, 0.15),
    train_patients: int | None = None,
    seed: int = 0,
    options: PlanOptions | None = None,
    reading: ReadOptions | None = None,
    progress: Progress | None = None,
) -> PlanFile:
    """Check a data set and write the plan that `prepare` would execute, to be read and edited; see there.

    Raises:
        UserError: If anything is wrong with the data set or an option, or `file` exists.
    """
    file, reading = Path(file), reading or ReadOptions()
    refuse_existing_plan(file)
    if not isinstance(dataset, Dataset):
        dataset = read_dataset(dataset, reading)
    assigned = _assign(dataset, split, train_patients, seed)
    found = _checked(dataset, 0, progress or silent)
    explained = explain_plan(found, split=assigned, options=options)
    planned, text = make_plan_file(dataset, explained, assigned, seed=seed, reading=reading)
    write_plan(file, text)
    return planned


def prepare_as_planned(
    dataset: Path | str, out: Path | str, *, plan: Path | str, progress: Progress | None = None
) -> Store:
    """Check a data set and write a store of its slices as a plan's file says.

    Args:
        dataset: Folder of the data set.
        out: Folder of the store; it must not exist or be empty.
        plan: The file.
        progress: Told after each case.

    Raises:
        UserError: If anything is wrong with the data set or the plan, or `out` exists.
    """
    tell = progress or silent
    out, plan = Path(out), Path(plan)
    _refuse_existing(out)
    planned, text = read_plan(plan)
    source, assigned = planned.apply(read_dataset(dataset, planned.read_options()), plan)
    found = _checked(source, len(assigned), tell)
    return _execute(source, found, planned, text, assigned, out, tell)


def _assign(
    dataset: Dataset, split: tuple[float, float, float] | Path, train_patients: int | None, seed: int
) -> dict[str, Split]:
    patients = {case.case: case.patient for case in dataset.cases}
    assigned = read_split(split, patients) if isinstance(split, Path) else draw_split(patients, split, seed)
    return keep_training_patients(assigned, patients, train_patients, seed)


def _checked(dataset: Dataset, further: int, tell: Progress) -> Fingerprint:
    """Return the fingerprint of a data set without problems; `further` cases will be prepared after that."""
    total = len(dataset.cases) + further
    found = fingerprint(dataset, progress=lambda done, _, note: tell(done, total, note))
    refuse_problems(found, dataset.path)
    return found


def _execute(
    dataset: Dataset,
    found: Fingerprint,
    planned: PlanFile,
    text: str,
    assigned: dict[str, Split],
    out: Path,
    tell: Progress,
) -> Store:
    with atomic_folder(out) as folder:
        write_plan(folder / PLAN, text)
        _write(dataset, found, planned.plan(), assigned, planned.seed, folder, tell)
    return Store.open(out)


def _refuse_existing(out: Path) -> None:
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise UserError(f"{out} exists already: choose another --out or remove it first")


def _write(
    dataset: Dataset,
    found: Fingerprint,
    plan: Plan,
    assigned: dict[str, Split],
    seed: int,
    folder: Path,
    tell: Progress,
) -> None:
    known = {case.case: case for case in found.cases}
    chosen = [case for case in dataset.cases if case.case in assigned]
    slices = [plan_placement(known[case.case].geometry, plan, known[case.case].content).shape[2] for case in chosen]
    writer = ShardWriter(folder, slices, size=plan.size, channels=plan.channels)
    records: list[CaseRecord] = []
    counts: list[np.ndarray] = []
    classes = len(plan.label_values)
    for files, (prepared, hashes) in zip(chosen, _prepared(chosen, plan), strict=True):
        labels = prepared.labels
        if dataset.labelled:
            assert labels is not None, "the fingerprint refuses cases without labels"
            counts.extend(np.bincount(label.ravel(), minlength=classes)[:classes] for label in labels)
        else:
            labels = np.zeros(prepared.images.shape[:-1], np.uint8)
            counts.extend(np.zeros((len(labels), classes), np.int64))
        first = writer.add(prepared.images, labels)
        records.append(
            CaseRecord(
                case=files.case,
                patient=files.patient,
                split=assigned[files.case],
                hash=known[files.case].hash,
                files=hashes,
                first=first,
                slices=len(prepared.images),
                geometry=known[files.case].geometry,
                normalisation=prepared.normalisation,
                placement=prepared.placement,
            )
        )
        tell(len(dataset.cases) + len(records), len(dataset.cases) + len(chosen), "prepared")
    np.save(folder / CLASS_COUNTS, np.array(counts, np.int64))
    content = {
        "dataset": dataset.name,
        "licence": dataset.licence,
        "channels": dataset.channels,
        "classes": dataset.classes,
        "plan": plan.model_dump(),
        "seed": seed,
        "cases": [record.model_dump() for record in records],
        "shards": [shard.model_dump() for shard in writer.close()],
    }
    if not dataset.labelled:
        content["labelled"] = False
    if dataset.regions:
        content["regions"] = {
            name: [dataset.label_values.index(value) for value in values] for name, values in dataset.regions.items()
        }
    manifest = Manifest.model_validate(
        {
            **content,
            "content_hash": sha256_json(content),
            "version": __version__,
            "created": datetime.now(UTC).isoformat(timespec="microseconds"),
        }
    )
    write_json(folder / MANIFEST, manifest.model_dump(mode="json"))


def _prepared(cases: list[CaseFiles], plan: Plan) -> Iterator[tuple[PreparedCase, dict[str, str]]]:
    """Yield the cases in order, a few of them being worked on at a time so that memory stays bounded.

    Threads suffice: decompression, filters and sorting release Python's lock.
    """

    def work(files: CaseFiles) -> tuple[PreparedCase, dict[str, str]]:
        hashes = {name: sha256_file(path) for name, path in files.files.items()}
        return prepare_case(load_case(files), plan), hashes

    waiting = iter(cases)
    with ThreadPoolExecutor(WORKERS) as pool:
        pending: list[Future[tuple[PreparedCase, dict[str, str]]]] = []
        try:
            pending.extend(pool.submit(work, files) for files in islice(waiting, WORKERS + 1))
            while pending:
                yield pending.pop(0).result()
                pending.extend(pool.submit(work, files) for files in islice(waiting, 1))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
