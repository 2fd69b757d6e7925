"""Fetching one file over HTTP so that a transfer which was cut off goes on where it stopped.

urllib rather than pooch, which verifies checksums but begins every transfer anew: 27 GB over a hospital's network are
not fetched in one piece.
"""

import hashlib
import http.client
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from synthmed import __version__
from synthmed.errors import UserError
from synthmed.files import read_json, write_json
from synthmed.progress import Progress, silent

TRIES = 4
"""How often in a row a transfer may bring nothing before it is given up."""
PAUSE = 2.0
"""Seconds before the second try; twice as long before each further one."""
TIMEOUT = 60.0
_CHUNK = 1 << 20
_TEMPORARY = {408, 425, 429, 500, 502, 503, 504}
_PARTIAL, _BEYOND_THE_END = 206, 416


def fetch(url: str, target: Path, *, md5: str, pause: float = PAUSE, progress: Progress = silent) -> None:
    """Fetch `url` into `target`, or what of it is still missing, and verify it.

    What has come is kept as `target` + ".part", with a note of the server's version of the file beside it, so that
    parts of two versions are never put together.

    Args:
        url: Address, http or https.
        target: File to write; one that is there and right is kept.
        md5: Hexadecimal MD5 that the file must have.
        pause: Seconds before the second try.
        progress: Told of mebibytes.

    Raises:
        UserError: If the address is no web address, the server refuses or cannot be reached, the disk is too small, or
            the file is not what it should be; what was fetched is then removed, a part of a file and a file that was
            there before are kept.
    """
    if not _is_address(url):
        raise UserError(f"--url {url!r}: give a web address, as https://HOST/FILE.tar")
    if target.is_file():
        found = _md5(target)
        if found != md5:
            mend = "move it away, or give its own MD5 with --md5"
            raise UserError(f"{target} is there already and has the MD5 {found}, not {md5}: {mend}")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    idle = 0
    while True:
        before = _size(part)
        try:
            _transfer(url, part, progress)
            break
        except urllib.error.HTTPError as error:
            reason = f"the server answers {error.code} {error.reason}"
            if error.code not in _TEMPORARY:
                raise UserError(f"{url} cannot be fetched: {reason}; check the address or give another --url") from None
        except (http.client.HTTPException, urllib.error.URLError, TimeoutError, ConnectionError) as error:
            reason = str(getattr(error, "reason", None) or error) or type(error).__name__
        idle = 0 if _size(part) > before else idle + 1
        if idle >= TRIES:
            kept = f"; {_size(part) >> 20} MiB are kept" if _size(part) else ""
            raise UserError(f"{url} cannot be fetched ({reason}){kept}: run the same command again to go on")
        time.sleep(pause * 2 ** max(idle - 1, 0))
    found = _md5(part)
    if found != md5:
        part.unlink()
        _note_of(part).unlink(missing_ok=True)
        raise UserError(f"{target.name} from {url} has the MD5 {found}, not {md5}; removed it: fetch it again")
    part.rename(target)
    _note_of(part).unlink(missing_ok=True)


def _is_address(url: str) -> bool:
    try:
        address = urlsplit(url)
        # Asked for, a port that is none raises.
        known = address.scheme in ("http", "https") and address.hostname and address.port != 0
    except ValueError:
        return False
    # http.client raises on these only when it is to send them.
    return bool(known) and url.isascii() and url.isprintable() and " " not in url


def _transfer(url: str, part: Path, progress: Progress) -> None:
    """Append what the server still has to `part`; start over where it has another version or sends all."""
    version = _version_of(part, url)
    had = _size(part) if version else 0
    request = urllib.request.Request(url, headers={"User-Agent": f"synthmed/{__version__}"})
    if had and version:
        request.add_header("Range", f"bytes={had}-")
        request.add_header("If-Range", version)
    try:
        reply = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == _BEYOND_THE_END and error.headers.get("Content-Range") == f"bytes */{had}":
            return
        if error.code == _BEYOND_THE_END and had:
            # What is here is longer than the file: it belongs to another version.
            part.unlink()
            return _transfer(url, part, progress)
        raise
    with reply:
        goes_on = reply.status == _PARTIAL and str(reply.headers.get("Content-Range")).startswith(f"bytes {had}-")
        had = had if goes_on else 0
        left = int(reply.headers.get("Content-Length") or 0)
        _check_space(part, left, url)
        new = reply.headers.get("ETag") or reply.headers.get("Last-Modified")
        if not goes_on:
            write_json(_note_of(part), {"url": url, "version": new})
        with open(part, "ab" if goes_on else "wb") as file:
            done, total = had, had + left
            while chunk := reply.read(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                progress(done >> 20, max(total, done) >> 20, "MiB")
        if done < total:
            raise http.client.IncompleteRead(b"", total - done)


def _version_of(part: Path, url: str) -> str | None:
    # Without a strong mark of its version a file cannot be continued safely (RFC 9110, section 13.1.5).
    try:
        note = read_json(_note_of(part))
    except UserError:
        return None
    known = isinstance(note, dict) and note.get("url") == url and isinstance(note.get("version"), str)
    return note["version"] if known and not note["version"].startswith("W/") else None


def _note_of(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _check_space(part: Path, needed: int, url: str) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise UserError(
            f"{part.parent} has {free / 1e9:.1f} GB free, {url} needs {needed / 1e9:.1f} GB: write elsewhere with --out"
        )


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
