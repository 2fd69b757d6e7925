"""Writing so that nothing is ever half-written: a temporary name first, a rename at the end, one process at a time."""

import codecs
import errno
import hashlib
import json
import math
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from synthmed.errors import UserError

LARGEST_JSON = 1 << 28
DEEPEST_JSON = 100
_LONGEST_NUMBER = 40
_PIECE = 4 << 20
# Few files hold such a number; all others are parsed at full speed.
_LONG_NUMBER = re.compile(r"\d{40}|\d[eE]\+?\d{3}")
LOCKS_VARIABLE = "SYNTHMED_LOCKS"
"""Environment variable that says `off` where a file system has no locks and nobody else writes to the folder."""
INNER_LOCK = ".lock"
"""Name of a folder's lock inside it, where nothing may be written beside it (the root of a mounted disk)."""
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}
_TEMPORARY = re.compile(r"\.partial-(?:([0-9a-f]{8})-(\d+)-(\d+)-)?")
_FOREIGN_SECONDS = 24 * 3600.0
"""A temporary of a process that cannot be looked at, since it ran on another machine, is left alone for so long."""
# A file alone takes some milliseconds to reach the disk; of more than so many, all that waits is written at once.
SYNC_ONE_BY_ONE = 100


class Busy(UserError):
    """Another process holds the lock."""


@contextmanager
def atomic_file(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block succeeds, remove it when it fails.

    The temporary name keeps all suffixes of `path`, since libraries choose a format by them. What killed processes left
    in the folder is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers_once(os.path.abspath(path.parent))
    suffix = "".join(path.suffixes[-2:])
    handle, name = tempfile.mkstemp(prefix=f".partial-{_owner()}-", suffix=suffix, dir=path.parent)
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

    The folder is locked meanwhile; parents that had to be made for it are removed again on failure.

    Raises:
        UserError: If `path` exists already and is not an empty folder, or another process writes it.
    """
    path = Path(path)
    with folder_lock(path):
        refuse_taken(path)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.partial-{_owner()}-", dir=path.parent))
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
            raise


def is_free(path: Path | str) -> bool:
    """Tell whether nothing is at `path`, or an empty folder; a lock inside it does not count."""
    path = Path(path)
    if not path.is_dir():
        return not path.exists()
    return all(child.name == INNER_LOCK for child in path.iterdir())


def refuse_taken(path: Path | str) -> None:
    """Do nothing where `path` is free for something new.

    Raises:
        UserError: If something is there.
    """
    if not is_free(path):
        raise UserError(f"{path} exists already: choose another --out or remove it first")


def check_resumable(out: Path | str, *, resume: bool) -> None:
    """Do nothing where `out` is free for a new run, or a folder to go on in.

    Raises:
        UserError: If it is a file, or a folder that holds something which is not to be resumed.
    """
    out = Path(out)
    if not is_free(out) and not (resume and out.is_dir()):
        raise UserError(f"{out} exists already: add --resume to go on with it, or choose another --out")


@contextmanager
def folder_lock(path: Path | str, busy: str | None = None) -> Iterator[None]:
    """Lock a folder, which need not exist yet, against other processes until the block ends.

    Whoever writes a folder locks it first. The lock is the file `.NAME.lock` beside it; it is removed at the end, with
    parents that were made for it and are empty. The same thread may lock a folder again inside the block. What killed
    processes left of it under temporary names is removed. A file is locked in the same way.

    Args:
        path: The folder.
        busy: What the error says; by default that another process writes the folder.

    Raises:
        Busy: If another process, or another thread, has locked it.
        UserError: If its file system has no locks.
    """
    path = Path(path)
    real = Path(os.path.realpath(path))
    made = [parent for parent in real.parents if not parent.exists()]
    busy = busy or f"{path} is being written by another process: wait for it or stop it"
    try:
        with file_lock(_lock_of(real), busy, folder=path) as first:
            if first:
                _remove_leftovers(real.parent, of=real.name)
            yield
    finally:
        for parent in made:
            # Somebody else may have put something there.
            with suppress(OSError):
                parent.rmdir()


@contextmanager
def first_free_folder(candidates: Iterable[Path]) -> Iterator[Path]:
    """Yield the first of some folders that is free and that no other process is about to write, locked.

    Two processes at once get two folders.
    """
    for path in candidates:
        if not is_free(path):
            continue
        with ExitStack() as stack:
            try:
                stack.enter_context(folder_lock(path))
            except Busy:
                continue
            # Whoever had the lock before may have made it.
            if is_free(path):
                yield path
                return
    raise UserError("no folder is free: name one with --out")


@contextmanager
def file_lock(file: Path | str, busy: str, *, folder: Path | None = None) -> Iterator[bool]:
    """Hold the lock file `file`, which is made if need be with its folder and removed at the end.

    A process that dies lets go of it. The same thread may take it again inside the block.

    Args:
        file: The lock's own file; nothing is kept in it.
        busy: What the error says where another process has it.
        folder: What it locks, for the error where its file system has no locks.

    Yields:
        Whether this thread took it now; false inside another block that has it, and where locks are switched off.

    Raises:
        Busy: If another process, or another thread, has it.
        UserError: If its file system has no locks.
    """
    if os.environ.get(LOCKS_VARIABLE, "").lower() == "off":
        yield False
        return
    # Threads exclude one another; a thread that has the lock gets it again.
    lock = FileLock(file, timeout=0, is_singleton=True, thread_local=True, preserve_lock_file=True)
    try:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise Busy(busy) from None
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise
        raise UserError(
            f"the file system of {folder or file} has no locks, so a second command on it would not be noticed: write "
            f"to another disk, or set {LOCKS_VARIABLE}=off in the environment where there will be none"
        ) from None
    try:
        yield lock.lock_counter == 1
    finally:
        if lock.lock_counter == 1:
            # While we have it: whoever opened it meanwhile finds it gone, and tries again with a new one.
            with suppress(OSError):
                os.unlink(file)
        lock.release()
        if os.name == "nt" and not lock.is_locked:
            # Windows removes no file that is open.
            with suppress(OSError):
                os.unlink(file)


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_text(path: Path | str, *, most: int) -> str:
    """Return the text of a file in UTF-8.

    Args:
        path: The file.
        most: Bytes that it may have.

    Raises:
        UserError: If it is missing, cannot be read, is in another encoding or is larger.
    """
    try:
        content = b""
        with open(path, "rb") as file:
            # In pieces: asked for all at once, Python would reserve `most` bytes for the smallest file.
            while len(content) <= most and (piece := file.read(_PIECE)):
                content += piece
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: correct its name or put it there") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}): give a file that you may read") from None
    if len(content) > most:
        raise UserError(f"{path} has more than {most >> 20} MiB, which no such file has: give another")
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UserError(f"{path} is in UTF-16: save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}: not in UTF-8: save it as UTF-8") from None


def read_json(path: Path | str) -> Any:
    """Return the parsed content of a JSON file.

    Raises:
        UserError: If the file is missing, is not JSON, or holds what `parse_json` refuses.
    """
    return parse_json(read_text(path, most=LARGEST_JSON), str(path))


def parse_json(text: str, where: str) -> Any:
    """Return what a JSON text says; `where` names it in messages.

    Raises:
        UserError: If it is not JSON; is nested more than 100 deep; holds a number beyond those that can be used, half a
            character, or one key with two values.
    """
    try:
        value = json.loads(text, object_pairs_hook=_object, **(_NUMBERS if _LONG_NUMBER.search(text) else {}))
    except RecursionError:
        raise _too_deep(where) from None
    except ValueError as error:
        raise UserError(f"{where} is not valid JSON ({error}): correct it or write it anew") from None
    level = [value]
    for _ in range(DEEPEST_JSON):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ())
            if isinstance(inner, (dict, list))
        ]
        if not level:
            break
    else:
        raise _too_deep(where)
    if "\\ud" in text.lower():
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise UserError(f"{where} is not valid JSON (half a character, \\ud...): write it anew") from None
    return value


def _too_deep(where: str) -> UserError:
    return UserError(f"{where} is nested more than {DEEPEST_JSON} deep: write it flatter")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        # The first value would be lost without a word.
        twice = next((key for key, value in pairs if found[key] != value), None)
        if twice is not None:
            raise ValueError(f"{twice!r} has two values")
    return found


def _whole(digits: str) -> int:
    if len(digits.lstrip("-")) > _LONGEST_NUMBER:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _fraction(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"{digits[:20]} is larger than any number that can be used")
    return value


_NUMBERS: dict[str, Any] = {"parse_int": _whole, "parse_float": _fraction}


def sha256_file(path: Path | str) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Return the hexadecimal SHA-256 of a value's canonical JSON (sorted keys, no white space)."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _lock_of(real: Path) -> Path:
    beside = real.parent / f".{real.name}.lock"
    writable = not real.is_dir() or os.access(real.parent, os.W_OK)
    return beside if writable else real / INNER_LOCK


def _owner() -> str:
    """Return what a temporary's name says of its process: the machine, its number, when it started."""
    return f"{_machine()}-{os.getpid()}-{_started(os.getpid()) or 0}"


@cache
def _machine() -> str:
    """Return what stands for this machine, in this container, as long as it runs; the name cannot be read from it."""
    return hashlib.sha256(f"{socket.gethostname()} {_started(1)}".encode()).hexdigest()[:8]


def _started(process: int) -> int | None:
    """Return when a process started, in seconds since the machine did, whatever the clock was set to since."""
    try:
        return round(psutil.Process(process).create_time() - psutil.boot_time())
    except (psutil.Error, OSError):
        return None


def _is_alive(process: int, started: int) -> bool:
    """Tell whether a process runs; one that may not be looked at does, a later one with its number does not count."""
    if not psutil.pid_exists(process):
        return False
    try:
        if psutil.Process(process).status() == psutil.STATUS_ZOMBIE:
            return False
    except (psutil.Error, OSError):
        return True
    now = _started(process)
    return now is None or abs(now - started) <= 2


@cache
def _remove_leftovers_once(folder: str) -> None:
    _remove_leftovers(Path(folder))


def _remove_leftovers(folder: Path, *, of: str | None = None) -> None:
    """Remove temporaries whose process is dead; with the lock of the folder `of` at hand, all temporaries of it."""
    with suppress(OSError):
        for path in list(folder.glob(".*partial-*")):
            found = _TEMPORARY.search(path.name)
            own = of is not None and found is not None and path.name[: found.start()] == f".{of}"
            if found is None or not (own or _is_abandoned(path, found)):
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _is_abandoned(path: Path, owner: re.Match[str]) -> bool:
    machine, process, started = owner.groups()
    if machine == _machine():
        return not _is_alive(int(process), int(started))
    try:
        newest = max(one.lstat().st_mtime for one in (path, *path.rglob("*")))
    except OSError:
        return False
    return time.time() - newest > _FOREIGN_SECONDS


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
