"""From a data set to a store of normalised slices."""

from collections.abc import Callable, Generator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from synthmed import __version__
from synthmed.data.flight import in_order
from synthmed.data.inspect import CaseFingerprint, Fingerprint, fingerprint, refuse_problems
from synthmed.data.placement import plan_placement
from synthmed.data.plan import make_plan
from synthmed.data.readers import CaseFiles, Dataset, load_case, read_dataset, read_unlabelled
from synthmed.data.repair import bring_up_to_date
from synthmed.data.request import REQUEST, Request, make_request
from synthmed.data.schema import CaseRecord, Manifest, Plan, Split
from synthmed.data.shards import ShardWriter, group_cases
from synthmed.data.slicing import PreparedCase, prepare_case
from synthmed.data.split import draw_split, keep_training_patients, read_split
from synthmed.data.store import CLASS_COUNTS, MANIFEST, Store
from synthmed.data.tally import labels_and_counts, memory_of
from synthmed.data.workfolder import FinishedShard, WorkFolder, work_on
from synthmed.errors import UserError
from synthmed.files import sha256_file, sha256_json, write_json
from synthmed.progress import Progress, Say, silent, unheard


def prepare_unlabelled(
    path: Path | str, out: Path | str, *, beside: Store, progress: Progress | None = None, say: Say = unheard
) -> Store:
    """Write a store of images without labels, prepared as another store is, for training beside it.

    All cases become training cases. Those whose images the other store holds, in whatever split, are left out: with
    them a generator would be taught by held-out patients, or by the same slices twice.

    Args:
        path: Folder of images, see `read_unlabelled`.
        out: Folder of the store. One that was made of the same files with the same options is left as it is, but for
            files of it that were damaged, which are made anew.
        beside: The labelled store.
        progress: Told after each case.
        say: Told what a user should know beside the store.

    Raises:
        UserError: If anything is wrong with the images, nothing is left of them, or `out` exists.
    """
    beside.require_labels()
    dataset = read_unlabelled(path, beside.manifest)
    held = {case.hash for case in beside.cases()}

    def choose(found: Fingerprint) -> tuple[Plan, dict[str, Split]]:
        assigned: dict[str, Split] = {case.case: "train" for case in found.cases if case.hash not in held}
        if not assigned:
            raise UserError(f"{beside.path} holds every image of {dataset.path} already: give others")
        return beside.plan, assigned

    request = make_request(dataset, {}, {"unlabelled_for": beside.content_hash})
    return _bring_about(
        dataset, Path(out), request, choose, seed=beside.manifest.seed, tell=progress or silent, say=say
    )


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
    progress: Progress | None = None,
    say: Say = unheard,
) -> Store:
    """Check a data set, plan, and write a store of its slices; nothing is written before all is known to be in order.

    What was interrupted goes on: the cases that were checked and the shards that were finished are kept in a folder
    beside the store, until the store is whole, by a run with the same options, byte for byte as if in one go.

    Args:
        dataset: From `read_dataset`, or its folder.
        out: Folder of the store. One that was made of the same files with the same options is left as it is, but for
            files of it that were damaged, which are made anew.
        axis: Slicing axis, see `make_plan`.
        size: Rows and columns of a slice, see `make_plan`.
        spacing: Pixel size, see `make_plan`.
        split: Fractions of patients for training, validation and test, or a JSON file of case names.
        train_patients: How many training patients to keep; all by default.
        seed: Of the random split and of the draw of training patients.
        progress: Told after each case.
        say: Told what a user should know beside the store.

    Returns:
        The store, opened.

    Raises:
        UserError: If anything is wrong with the data set or an option, or `out` exists.
    """
    if not isinstance(dataset, Dataset):
        dataset = read_dataset(dataset)
    patients = {case.case: case.patient for case in dataset.cases}
    assigned = read_split(split, patients) if isinstance(split, Path) else draw_split(patients, split, seed)
    assigned = keep_training_patients(assigned, patients, train_patients, seed)
    # The options that make the plan; the plan is made once the fingerprint is known.
    planned: dict[str, Any] = {"axis": axis, "size": size, "spacing": spacing}
    named = "a file" if isinstance(split, Path) else split
    options = {**planned, "split": named, "train_patients": train_patients, "seed": seed}
    return _bring_about(
        dataset,
        Path(out),
        make_request(dataset, assigned, options),
        lambda found: (make_plan(found, **planned), assigned),
        seed=seed,
        tell=progress or silent,
        say=say,
    )


def _bring_about(
    dataset: Dataset,
    out: Path,
    request: Request,
    choose: Callable[[Fingerprint], tuple[Plan, dict[str, Split]]],
    *,
    seed: int,
    tell: Progress,
    say: Say,
) -> Store:
    """Return the store that was asked for: as it stands, mended, gone on with, or made anew."""
    if bring_up_to_date(out, dataset, request, say):
        return Store.open(out)
    with work_on(out) as work:
        # While we waited for the lock another process may have finished it.
        if bring_up_to_date(out, dataset, request, say, work=work):
            return Store.open(out)
        work.recall(request)
        wanted = len(dataset.cases) + sum(case.split is not None for case in request.cases)
        found = fingerprint(dataset, progress=lambda done, _, note: tell(done, wanted, note), checks=work)
        refuse_problems(found, dataset.path)
        plan, assigned = choose(found)
        done = work.begin(request, plan)
        if done:
            say(f"goes on where it was interrupted, after {sum(len(shard.cases) for shard in done)} prepared cases")
        done = _write_shards(dataset, found, plan, assigned, work, done, tell)
        _write_manifest(dataset, plan, seed, work.store, done)
        write_json(work.store / REQUEST, request.model_dump(mode="json"))
        if out.is_dir():
            out.rmdir()
        work.store.replace(out)
    return Store.open(out)


def _write_shards(
    dataset: Dataset,
    found: Fingerprint,
    plan: Plan,
    assigned: dict[str, Split],
    work: WorkFolder,
    done: list[FinishedShard],
    tell: Progress,
) -> list[FinishedShard]:
    """Write the shards that are not done yet and return all."""
    known = {case.case: case for case in found.cases}
    chosen = [case for case in dataset.cases if case.case in assigned]
    slices = [plan_placement(known[case.case].geometry, plan).shape[2] for case in chosen]
    done = list(done)
    groups = group_cases(slices, size=plan.size, channels=plan.channels)
    ready = sum(len(shard.cases) for shard in done)
    total = len(dataset.cases) + len(chosen)
    with closing(_prepared(chosen[ready:], known, plan)) as prepared_cases:
        for number in range(len(done), len(groups)):
            group = groups[number]
            first = sum(slices[: group.start])
            records: list[CaseRecord] = []
            counts: list[tuple[int, ...]] = []
            frame: dict[str, Any] = {"size": plan.size, "channels": plan.channels}
            count = sum(slices[case] for case in group)
            with ShardWriter(work.store, number=number, first=first, slices=count, **frame) as writer:
                for case in group:
                    files, own = chosen[case], known[chosen[case].case]
                    prepared, hashes = next(prepared_cases)
                    labels, shown = labels_and_counts(prepared, plan, labelled=dataset.labelled)
                    counts.extend(shown)
                    records.append(
                        CaseRecord(
                            case=files.case,
                            patient=files.patient,
                            split=assigned[files.case],
                            hash=own.hash,
                            files=hashes,
                            first=writer.add(prepared.images, labels),
                            slices=len(prepared.images),
                            geometry=own.geometry,
                            normalisation=prepared.normalisation,
                            placement=prepared.placement,
                        )
                    )
                    tell(len(dataset.cases) + case + 1, total, "prepared")
                shard = writer.close()
            done.append(FinishedShard(shard=shard, cases=tuple(records), class_counts=tuple(counts)))
            work.keep_shard(done[-1])
    return done


def _write_manifest(dataset: Dataset, plan: Plan, seed: int, folder: Path, shards: list[FinishedShard]) -> None:
    counts = np.array([counts for shard in shards for counts in shard.class_counts], np.int64)
    np.save(folder / CLASS_COUNTS, counts)
    content: dict[str, Any] = {
        "dataset": dataset.name,
        "licence": dataset.licence,
        "channels": dataset.channels,
        "classes": dataset.classes,
        "plan": plan.model_dump(),
        "seed": seed,
        "cases": [record.model_dump() for shard in shards for record in shard.cases],
        "shards": [shard.shard.model_dump() for shard in shards],
        "class_counts_sha256": sha256_file(folder / CLASS_COUNTS),
    }
    if not dataset.labelled:
        content["labelled"] = False
    manifest = Manifest.model_validate(
        {
            **content,
            "content_hash": sha256_json(content),
            "version": __version__,
            "created": datetime.now(UTC).isoformat(timespec="microseconds"),
        }
    )
    write_json(folder / MANIFEST, manifest.model_dump(mode="json"))


def _prepared(
    cases: list[CaseFiles], known: dict[str, CaseFingerprint], plan: Plan
) -> Generator[tuple[PreparedCase, dict[str, str]], None, None]:
    """Yield the cases in order, as many being worked on at a time as memory allows."""

    def work(files: CaseFiles) -> tuple[PreparedCase, dict[str, str]]:
        hashes = {name: sha256_file(path) for name, path in files.files.items()}
        return prepare_case(load_case(files), plan), hashes

    yield from in_order(cases, work, cost=lambda files: memory_of(known[files.case].geometry, plan))
