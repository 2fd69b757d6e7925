"""Making a store: what is there already is kept, what is missing is written, case by case and shard by shard."""

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from synthmed import __version__
from synthmed.data.checks import CaseFingerprint, Fingerprint
from synthmed.data.geometry import plan_placement
from synthmed.data.inspect import fingerprint, refuse_problems
from synthmed.data.parallel import in_order
from synthmed.data.pictures import save_png, store_sheet
from synthmed.data.planfile import PLAN, write_plan
from synthmed.data.readers import CaseFiles, Dataset, load_case
from synthmed.data.repair import bring_up_to_date
from synthmed.data.request import REQUEST, Request
from synthmed.data.schema import CaseRecord, Manifest, Plan, Split
from synthmed.data.shards import ShardWriter, group_cases
from synthmed.data.slicing import PreparedCase, prepare_case
from synthmed.data.store import CLASS_COUNTS, MANIFEST, Store
from synthmed.data.tally import labels_and_counts, memory_of
from synthmed.data.workfolder import FinishedShard, WorkFolder, work_on
from synthmed.files import sha256_file, sha256_json, write_json
from synthmed.progress import Progress, Say

PICTURE = "slices.png"
"""Training slices with their labels outlined: what a person should look at before a training is begun."""


@dataclass(frozen=True)
class Chosen:
    """What a store will hold, once its cases are known to be in order.

    Attributes:
        plan: How cases become slices.
        assigned: Split of each case that is wanted.
        text: The plan as a file that a person can read; None for a store that follows another one.
    """

    plan: Plan
    assigned: dict[str, Split]
    text: str | None = None


def bring_about(
    dataset: Dataset,
    out: Path,
    request: Request,
    choose: Callable[[Fingerprint], Chosen],
    *,
    seed: int,
    tell: Progress,
    say: Say,
) -> Store:
    """Return the store that was asked for: as it stands, mended, gone on with, or made anew.

    Args:
        dataset: The data set.
        out: Folder of the store.
        request: What was asked for.
        choose: Makes the plan from the fingerprint of a data set without problems.
        seed: Recorded in the store.
        tell: Told after each case.
        say: Told what a user should know beside the store.

    Raises:
        UserError: If the data set has a problem, or something else stands at `out`.
    """
    if bring_up_to_date(out, dataset, request, say):
        return Store.open(out)
    with work_on(out) as work:
        # While we waited for the lock another process may have finished it.
        if bring_up_to_date(out, dataset, request, say, work=work):
            return Store.open(out)
        work.recall(request)
        for note in dataset.notes:
            say(note)
        wanted = len(dataset.cases) + sum(case.split is not None for case in request.cases)
        found = fingerprint(dataset, progress=lambda done, _, note: tell(done, wanted, note), checks=work)
        refuse_problems(found, dataset.path)
        if found.warnings:
            count = f"{len(found.warnings)} warning{'s' * (len(found.warnings) > 1)}"
            say(f"{count} of what may spoil a study: see `synthmed inspect {dataset.path}`")
        chosen = choose(found)
        done = work.begin(request, chosen.plan)
        if chosen.text is not None:
            (work.store / PLAN).unlink(missing_ok=True)
            write_plan(work.store / PLAN, chosen.text)
        if done:
            say(f"goes on where it was interrupted, after {sum(len(shard.cases) for shard in done)} prepared cases")
        done = _write_shards(dataset, found, chosen, work, done, tell)
        _write_manifest(dataset, chosen.plan, seed, work.store, done)
        save_png(work.store / PICTURE, store_sheet(Store.open(work.store)))
        write_json(work.store / REQUEST, request.model_dump(mode="json"))
        if out.is_dir():
            out.rmdir()
        work.store.replace(out)
    return Store.open(out)


def _write_shards(
    dataset: Dataset,
    found: Fingerprint,
    wanted: Chosen,
    work: WorkFolder,
    done: list[FinishedShard],
    tell: Progress,
) -> list[FinishedShard]:
    """Write the shards that are not done yet and return all."""
    plan, assigned = wanted.plan, wanted.assigned
    known = {case.case: case for case in found.cases}
    chosen = [case for case in dataset.cases if case.case in assigned]
    slices = [plan_placement(known[case.case].geometry, plan, known[case.case].content).shape[2] for case in chosen]
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
                    # The next case must not wait in memory beside this one.
                    del prepared, labels
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


def _prepared(
    cases: list[CaseFiles], known: dict[str, CaseFingerprint], plan: Plan
) -> Generator[tuple[PreparedCase, dict[str, str]], None, None]:
    """Yield the cases in order, as many being worked on at a time as memory allows."""

    def work(files: CaseFiles) -> tuple[PreparedCase, dict[str, str]]:
        hashes = {name: sha256_file(path) for name, path in files.files.items()}
        return prepare_case(load_case(files), plan), hashes

    yield from in_order(cases, work, cost=lambda files: memory_of(known[files.case], plan))
