"""The folder beside a store in which `prepare` keeps what it has done, so that an interrupted one goes on."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from synthmed.data.checks import CaseFingerprint
from synthmed.data.readers import CaseFiles
from synthmed.data.request import REQUEST, Request, read_request
from synthmed.data.schema import CaseRecord, Plan, Record, Shard
from synthmed.errors import UserError
from synthmed.files import atomic_file, folder_lock, read_json, sha256_file, write_json

_PLAN, _CHECKED, _SHARDS, _STORE = "plan.json", "checked.jsonl", "shards.jsonl", "store"


class FinishedShard(Record):
    """A shard that is whole.

    Attributes:
        shard: Its files.
        cases: Its cases, in order.
        class_counts: Pixels of each class in each of its slices.
    """

    shard: Shard
    cases: tuple[CaseRecord, ...]
    class_counts: tuple[tuple[int, ...], ...]


class WorkFolder:
    """What an interrupted `prepare` left, and what this one adds. Made by `work_on`.

    Attributes:
        path: The folder.
        store: Where the store grows.
    """

    def __init__(self, path: Path):
        self.path = path
        self.store = path / _STORE
        self._signatures: dict[str, str] = {}
        self._checked: dict[str, CaseFingerprint] = {}

    def recall(self, request: Request) -> None:
        """Read which cases were checked already and are still the same."""
        self._signatures = request.signatures()
        whole = []
        for line in _lines(self.path / _CHECKED):
            try:
                content = json.loads(line)
                self._checked[content["signature"]] = CaseFingerprint.model_validate(content["found"])
                whole.append(line)
            except (ValueError, KeyError, TypeError, ValidationError):
                # The line that was being written when the process was killed.
                continue
        if whole:
            _rewrite(self.path / _CHECKED, whole)

    def get(self, files: CaseFiles) -> CaseFingerprint | None:
        """Return the fingerprint of a case that was checked before."""
        return self._checked.get(self._signatures[files.case])

    def keep(self, files: CaseFiles, found: CaseFingerprint) -> None:
        """Remember that a case is in order."""
        signature = self._signatures[files.case]
        if signature not in self._checked:
            self._checked[signature] = found
            _append(self.path / _CHECKED, {"signature": signature, "found": found.model_dump(mode="json")})

    def begin(self, request: Request, plan: Plan) -> list[FinishedShard]:
        """Return the shards that an interrupted run with this very request and plan finished; forget any others."""
        same = read_request(self.path) == request and self._plan() == plan
        done = self._finished() if same and self.store.is_dir() else []
        if not done:
            shutil.rmtree(self.store, ignore_errors=True)
            self.store.mkdir()
            (self.path / _SHARDS).unlink(missing_ok=True)
            write_json(self.path / _PLAN, plan.model_dump(mode="json"))
            write_json(self.path / REQUEST, request.model_dump(mode="json"))
        return done

    def keep_shard(self, shard: FinishedShard) -> None:
        """Remember that a shard is whole."""
        _append(self.path / _SHARDS, shard.model_dump(mode="json"))

    def _plan(self) -> Plan | None:
        try:
            return Plan.model_validate(read_json(self.path / _PLAN))
        except (UserError, ValidationError):
            return None

    def _finished(self) -> list[FinishedShard]:
        done: list[FinishedShard] = []
        for line in _lines(self.path / _SHARDS):
            try:
                found = FinishedShard.model_validate_json(line)
            except ValidationError:
                break
            if damaged_files(self.store, found.shard):
                break
            done.append(found)
        # What follows a shard that is not whole is made anew, and its lines would stand there twice.
        _rewrite(self.path / _SHARDS, [one.model_dump_json() for one in done])
        return done


def work_folder_of(out: Path) -> Path:
    """Return where the store `out` is being prepared."""
    return out.parent / f".{out.name}.preparing"


@contextmanager
def work_on(out: Path) -> Iterator[WorkFolder]:
    """Yield the work folder of the store `out`, locked against other processes.

    It is removed when the block succeeds, and when one that is new ends with a user's error. When the block is
    interrupted it stays, unless nothing is in it.

    Raises:
        UserError: If another process is preparing `out`.
    """
    path = work_folder_of(out)
    with folder_lock(out, f"{out} is being prepared by another process: wait for it or stop it"):
        path.mkdir(exist_ok=True)
        # After a mistake in the second call, the work of the first one is still worth something.
        kept_before = (path / _CHECKED).exists()
        try:
            yield WorkFolder(path)
        except BaseException as error:
            worthless = not (path / _CHECKED).exists() or (isinstance(error, UserError) and not kept_before)
            if worthless:
                shutil.rmtree(path, ignore_errors=True)
            raise
        shutil.rmtree(path, ignore_errors=True)


def damaged_files(folder: Path, shard: Shard) -> list[str]:
    """Return the names of a shard's files that are missing or whose SHA-256 is not what it was."""
    wanted = ((shard.images, shard.images_sha256), (shard.labels, shard.labels_sha256))
    return [name for name, digest in wanted if not (folder / name).is_file() or sha256_file(folder / name) != digest]


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []


def _rewrite(path: Path, lines: list[str]) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def _append(path: Path, value: object) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(value, separators=(",", ":")) + "\n")
