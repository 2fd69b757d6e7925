"""Writing so that nothing is ever half-written: a temporary name first, a rename at the end."""

import codecs
import fcntl
import hashlib
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from synthmed.errors import UserError

LARGEST_JSON = 1 << 28
DEEPEST_JSON = 100
_LONGEST_NUMBER = 40
_PIECE = 4 << 20
# Few files hold such a number; all others are parsed at full speed.
_LONG_NUMBER = re.compile(r"\d{40}|\d[eE]\+?\d{3}")


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
        _flush_to_disk(temporary)
        os.replace(temporary, path)
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
        if path.is_dir():
            path.rmdir()
        os.replace(temporary, path)
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


def _flush_to_disk(path: Path) -> None:
    # A rename may reach the disk before the data; a crash in between would leave an empty file under the final name.
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
