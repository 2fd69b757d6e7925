"""A store that exists already: whether it is what was asked for, and making anew what was damaged in it."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np

from synthmed.data.parallel import in_order
from synthmed.data.readers import CaseFiles, Dataset, load_case
from synthmed.data.request import Request, changed_files, read_request
from synthmed.data.schema import CaseRecord, Manifest, Shard
from synthmed.data.shards import ShardWriter
from synthmed.data.slicing import prepare_case
from synthmed.data.store import CLASS_COUNTS, MANIFEST, read_manifest
from synthmed.data.tally import labels_and_counts
from synthmed.data.workfolder import WorkFolder, damaged_files, work_folder_of, work_on
from synthmed.errors import UserError
from synthmed.files import atomic_file, sha256_file
from synthmed.progress import Say


def bring_up_to_date(
    out: Path, dataset: Dataset, request: Request, say: Say, *, work: WorkFolder | None = None
) -> bool:
    """Return whether the store `out` is there, after making anew those of its files that were damaged.

    Args:
        out: Folder of the store.
        dataset: What it is to be made of.
        request: How.
        say: Told that the store is up to date, or what was rebuilt.
        work: The work folder of the store, where the caller holds it already.

    Raises:
        UserError: If something else is there, or a store that was made otherwise or of other files, or a damaged file
            cannot be made again.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    before = read_request(out) if (out / MANIFEST).is_file() else None
    if before is None:
        raise UserError(f"{out} exists already: choose another --out or remove it first")
    manifest = read_manifest(out)
    different = request.difference(before)
    if different:
        raise UserError(f"{out} exists already, made {different}: choose another --out or remove it first")
    _refuse_changed(out, dataset, request, before, manifest)
    damaged = [(shard, names) for shard, names in _check(out, manifest.shards) if names]
    counts_damaged = _are_counts_damaged(out, manifest)
    if damaged or counts_damaged or work_folder_of(out).exists():
        # A process that was killed when all was done has left the folder, which then goes, too.
        with nullcontext(work) if work else work_on(out) as folder:
            _rebuild(out, folder.path, dataset, manifest, damaged, counts_damaged, say)
    if not damaged and not counts_damaged:
        say(f"{out} is up to date")
    return True


def _refuse_changed(out: Path, dataset: Dataset, request: Request, before: Request, manifest: Manifest) -> None:
    """Refuse files that are others than those of which the store was made; time and size tell which to look into."""
    records = {record.case: record for record in manifest.cases}
    for files, now, then in zip(dataset.cases, request.cases, before.cases, strict=True):
        for name, path in changed_files(files, then, now):
            # Of a case that the store left out, no hash was kept.
            wanted = records[files.case].files.get(name) if files.case in records else None
            if not path.is_file() or sha256_file(path) != wanted:
                raise UserError(
                    f"{path} is not what {out} was made of: put it back, or choose another --out for the new one"
                )


def _check(out: Path, shards: tuple[Shard, ...]) -> list[tuple[Shard, list[str]]]:
    found = in_order(shards, lambda shard: damaged_files(out, shard), cost=lambda _: 0)
    return list(zip(shards, found, strict=True))


def _are_counts_damaged(out: Path, manifest: Manifest) -> bool:
    path, digest = out / CLASS_COUNTS, manifest.class_counts_sha256
    return digest is not None and (not path.is_file() or sha256_file(path) != digest)


def _rebuild(
    out: Path,
    folder: Path,
    dataset: Dataset,
    manifest: Manifest,
    damaged: list[tuple[Shard, list[str]]],
    counts_damaged: bool,
    say: Say,
) -> None:
    sources = {files.case: files for files in dataset.cases}
    for shard, names in damaged:
        last = shard.first + shard.slices
        records = [record for record in manifest.cases if shard.first <= record.first < last]
        _rebuild_shard(out, folder, manifest, shard, [(record, sources[record.case]) for record in records])
        cases = f"{records[0].case} to {records[-1].case}" if len(records) > 1 else records[0].case
        say(f"{' and '.join(str(out / name) for name in names)} was damaged and has been rebuilt from {cases}")
    if counts_damaged:
        _rebuild_counts(out, manifest)
        say(f"{out / CLASS_COUNTS} was damaged and has been rebuilt")


def _rebuild_shard(
    out: Path, folder: Path, manifest: Manifest, shard: Shard, cases: list[tuple[CaseRecord, CaseFiles]]
) -> None:
    plan = manifest.plan
    number = manifest.shards.index(shard)
    with ShardWriter(
        folder, number=number, first=shard.first, slices=shard.slices, size=plan.size, channels=plan.channels
    ) as writer:
        for record, files in cases:
            for name, path in files.files.items():
                if sha256_file(path) != record.files.get(name):
                    raise UserError(f"{path} is not what {out} was made of: put it back to rebuild {shard.images}")
            prepared = prepare_case(load_case(files), plan)
            writer.add(prepared.images, labels_and_counts(prepared, plan, labelled=manifest.labelled)[0])
            del prepared
        made = writer.close()
    if made != shard:
        raise UserError(
            f"{out / shard.images} was damaged and comes out otherwise now, since synthmed or one of its libraries "
            "has changed: remove the store and prepare it again"
        )
    for name in (shard.images, shard.labels):
        (folder / name).replace(out / name)


def _rebuild_counts(out: Path, manifest: Manifest) -> None:
    classes = len(manifest.classes)
    counts = np.zeros((sum(shard.slices for shard in manifest.shards), classes), np.int64)
    if manifest.labelled:
        for shard in manifest.shards:
            labels = np.load(out / shard.labels, mmap_mode="r")
            for plane in range(shard.slices):
                counts[shard.first + plane] = np.bincount(labels[plane].ravel(), minlength=256)[:classes]
    with atomic_file(out / CLASS_COUNTS) as temporary:
        np.save(temporary, counts)
