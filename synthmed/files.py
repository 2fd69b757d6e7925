"""Writing so that nothing is ever half-written: a temporary name first, a rename at the end."""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from synthmed.errors import UserError

# A file alone takes some milliseconds to reach the disk; of more than so many, all that waits is written at once.
SYNC_ONE_BY_ONE = 100


@contextmanager
def atomic_file(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block succeeds, remove it when it fails.

    The temporary name keeps all suffixes of `path`, since libraries choose a format by them.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".partial-", suffix="".join(path.suffixes[-2:]), dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp creates files that only their owner can read; results follow the user's umask like any other file.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        # What is in a temporary folder goes to the disk with it.
        lasting = not any(".partial-" in parent.name for parent in path.absolute().parents)
        if lasting:
            sync(temporary)
        os.replace(temporary, path)
        if lasting:
            sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; rename it to `path` when the block succeeds, remove it when it fails.

    Parents that had to be made for it are removed again on failure.

    Raises:
        UserError: If `path` exists already and is not an empty folder.
    """
    path = Path(path)
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise UserError(f"{path} exists already: choose another --out or remove it first")
    made = [parent for parent in path.parents if not parent.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.partial-", dir=path.parent))
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)
        _sync_all(temporary)
        if path.is_dir():
            path.rmdir()
        os.replace(temporary, path)
        sync(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        for parent in made:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()
        raise


def check_resumable(out: Path | str, *, resume: bool) -> None:
    """Do nothing where `out` is free for a new run, or a folder to go on in.

    Raises:
        UserError: If it is a file, or a folder that holds something which is not to be resumed.
    """
    out = Path(out)
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not resume):
        raise UserError(f"{out} exists already: add --resume to go on with it, or choose another --out")


@contextmanager
def hold(path: Path | str, told: str) -> Iterator[None]:
    """Hold the file at `path`, which is made if need be with its folder, against other processes until the block ends.

    A process that dies lets go of it.

    Raises:
        UserError: With the words `told`, if another process holds it.
    """
    while True:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UserError(told) from None
            # Whoever held it may have removed it since we opened it: then we hold a file that nobody else will see.
            if not _is_at(file.fileno(), path):
                continue
            yield
            return


def _is_at(descriptor: int, path: Path | str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path | str) -> Any:
    """Return the parsed content of a JSON file.

    Raises:
        UserError: If the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: correct its name or put it there") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid JSON ({error}): mend or write it anew") from None


def sha256_file(path: Path | str) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Return the hexadecimal SHA-256 of a value's canonical JSON (sorted keys, no white space)."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def sync(path: Path) -> None:
    """Send a file's bytes, or a folder's names, to the disk.

    A rename may reach it before the bytes: a power cut in between would leave an empty file under the final name.
    """
    if path.is_dir() and os.name == "nt":
        # Windows opens no folders, and writes their names by itself.
        return
    descriptor = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_all(folder: Path) -> None:
    paths = [folder, *folder.rglob("*")]
    if len(paths) > SYNC_ONE_BY_ONE and hasattr(os, "sync"):
        os.sync()
        return
    for path in paths:
        if not path.is_symlink():
            sync(path)
