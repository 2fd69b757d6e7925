"""Giving back the room of what a study does not need any more."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from synthmed.errors import UserError
from synthmed.files import read_json
from synthmed.segmentation.run import CHECKPOINTS
from synthmed.study.folder import DONE, FOLDERS, STUDY, Kind, StudyFolder
from synthmed.study.work import CONTENT

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
