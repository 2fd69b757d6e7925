"""Public data sets fetched on request and never otherwise: the catalogue, resumed downloads, safe unpacking."""

import hashlib
import http.client
import shutil
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import urlsplit

from synthmed import __version__
from synthmed.errors import UserError
from synthmed.files import atomic_folder, file_lock, folder_lock, read_json, refuse_taken, write_json
from synthmed.progress import Progress, silent

_BUCKET = "https://msd-for-monai.s3-us-west-2.amazonaws.com"
_LICENCE = "CC-BY-SA 4.0"
_CITATION = (
    "Antonelli et al., The Medical Segmentation Decathlon, Nature Communications 13:4128, 2022;"
    " Simpson et al., arXiv:1902.09063"
)


@dataclass(frozen=True)
class Offer:
    """A data set that can be fetched.

    Attributes:
        name: As `synthmed data get` knows it.
        folder: Name of its folder and archive.
        what: What its images show and its labels mark.
        size: About how large the archive is.
        md5: Hexadecimal MD5 of the archive.
        url: Where the archive is.
        licence: Of the data.
        citation: What to cite.
    """

    name: str
    folder: str
    what: str
    size: str
    md5: str
    url: str
    licence: str = _LICENCE
    citation: str = _CITATION


def _decathlon(number: int, task: str, what: str, size: str, md5: str) -> Offer:
    folder = f"Task{number:02d}_{task}"
    return Offer(f"msd-{task.lower()}", folder, what, size, md5, f"{_BUCKET}/{folder}.tar")


CATALOGUE: tuple[Offer, ...] = (
    _decathlon(1, "BrainTumour", "brain MRI, 4 channels: tumour", "7 GB", "240a19d752f0d9e9101544901065d872"),
    _decathlon(2, "Heart", "heart MRI: left atrium", "0.4 GB", "06ee59366e1e5124267b774dbd654057"),
    _decathlon(3, "Liver", "CT: liver and tumour", "27 GB", "a90ec6c4aa7f6a3d087205e23d4e6397"),
    _decathlon(4, "Hippocampus", "brain MRI: hippocampus", "0.03 GB", "9d24dba78a72977dbd1d2e110310f31b"),
    _decathlon(5, "Prostate", "prostate MRI, 2 channels: zones", "0.2 GB", "35138f08b1efaef89d7424d2bcc928db"),
    _decathlon(6, "Lung", "CT: lung tumour", "9 GB", "8afd997733c7fc0432f71255ba4e52dc"),
    _decathlon(7, "Pancreas", "CT: pancreas and tumour", "12 GB", "4f7080cfca169fa8066d17ce6eb061e4"),
    _decathlon(8, "HepaticVessel", "CT: liver vessels and tumour", "9 GB", "641d79e80ec66453921d997fbf12a29c"),
    _decathlon(9, "Spleen", "CT: spleen", "2 GB", "410d4a301da4e5b2f6f86ec3ddba524e"),
    _decathlon(10, "Colon", "CT: colon cancer", "6 GB", "bad7a188931dc2f6acf72b08eb6202d0"),
)


def find_offer(name: str) -> Offer:
    """Return the offer of this name.

    Raises:
        UserError: If there is none.
    """
    known = {offer.name: offer for offer in CATALOGUE}
    if name in known:
        return known[name]
    near = get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise UserError(f"there is no data set {name!r}: `synthmed data list` shows what there is.{hint}")


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


MOST_FILES = 200_000
LARGEST_RATIO = 20
"""Medical images are compressed already: an archive that grows more than this is made to fill a disk."""
SMALLEST_LIMIT = 1 << 28
LARGEST_HEADER = 1 << 20


class _Member(tarfile.TarInfo):
    """A member of an archive, whose extended header (a long name, say) is refused if it would fill memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Member":
        """Return the member of a header block; see `tarfile.TarInfo.frombuf`."""
        member = super().frombuf(buf, encoding, errors)
        if member.type not in tarfile.REGULAR_TYPES and member.size > LARGEST_HEADER:
            raise ValueError(f"a header of {member.size} bytes")
        return member


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar archive of plain files and folders into a folder that exists and is empty.

    Where everything lies in one folder of the archive, that folder is left out. Files named `._*`, which macOS adds,
    are too.

    Raises:
        UserError: If the archive is damaged, holds anything but files and folders, a path that leads elsewhere, or more
            than such an archive can hold. The folder then holds nothing of use.
    """
    try:
        with tarfile.open(archive, tarinfo=_Member) as opened:
            members = _checked(opened, archive)
            needed = sum(member.size for member in members)
            free = shutil.disk_usage(folder).free
            if needed > free:
                raise UserError(
                    f"{archive} unpacks to {needed / 1e9:.1f} GB, {folder.parent} has {free / 1e9:.1f} GB free:"
                    " write elsewhere with --out"
                )
            # A name that the archive cannot hold, too.
            inner = Path(tempfile.mkdtemp(prefix=".unpacked-", dir=folder))
            opened.extractall(inner, members, filter="data")
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise _refused(archive, f"is damaged or unsafe ({' '.join(str(error).split())[:120]})") from None
    entries = list(inner.iterdir())
    top = entries[0] if len(entries) == 1 and entries[0].is_dir() else inner
    for path in top.iterdir():
        path.rename(folder / path.name)
    shutil.rmtree(inner)


def _checked(opened: tarfile.TarFile, archive: Path) -> list[tarfile.TarInfo]:
    limit = max(LARGEST_RATIO * archive.stat().st_size, SMALLEST_LIMIT)
    kept: list[tarfile.TarInfo] = []
    total = 0
    # One by one: each is judged before the archive is read past it.
    for member in opened:
        total += member.size
        _check_name(member.name, archive)
        if member.issparse() or not (member.isreg() or member.isdir()):
            raise _refused(archive, f"holds {_shown(member.name)}, which is no plain file or folder")
        if total > limit or len(kept) >= MOST_FILES:
            raise _refused(archive, f"unpacks to more than {limit / 1e9:.1f} GB or {MOST_FILES} files")
        if not PurePosixPath(member.name).name.startswith("._"):
            kept.append(member)
    return kept


def _check_name(name: str, archive: Path) -> None:
    leaves = ".." in PurePosixPath(name).parts or ".." in PureWindowsPath(name).parts
    windows = PureWindowsPath(name)
    if leaves or name.startswith(("/", "\\")) or windows.drive or windows.root or "\0" in name:
        raise _refused(archive, f"holds {_shown(name)}, a path that leads out of its folder")


def _shown(name: str) -> str:
    return repr(name if len(name) <= 80 else name[:77] + "...")


def _refused(archive: Path, why: str) -> UserError:
    return UserError(f"{archive} {why}; nothing was unpacked: fetch it from where it is published")


def get_dataset(
    offer: Offer,
    out: Path | None = None,
    *,
    url: str | None = None,
    md5: str | None = None,
    pause: float = PAUSE,
    progress: Progress = silent,
) -> Path:
    """Fetch and unpack a data set.

    The archive lies beside the folder meanwhile and is removed at the end. It stays where unpacking failed, and is then
    used again; one that was there before stays whatever happens.

    Args:
        offer: What to fetch.
        out: Folder to make; by default the set's own name, here.
        url: Another place of the same archive.
        md5: Its MD5, where it is another archive.
        pause: Seconds before a failed transfer is tried again.
        progress: Told of mebibytes.

    Returns:
        The folder.

    Raises:
        UserError: If it exists, or anything fails; see `fetch` and `unpack`.
    """
    out = Path(offer.folder) if out is None else out
    digest = (md5 or offer.md5).lower()
    if len(digest) != 32 or not set(digest) <= set("0123456789abcdef"):
        raise UserError(f"--md5 {md5}: an MD5 sum has 32 hexadecimal digits")
    archive = out.parent / f"{offer.folder}.tar"
    busy = f"{archive} is being fetched by another process: wait for it or stop it"
    # The archive has a lock of its own: two folders beside one another are filled from the same one.
    with folder_lock(out), file_lock(archive.with_name(f".{archive.name}.lock"), busy):
        refuse_taken(out)
        was_there = archive.is_file()
        fetch(url or offer.url, archive, md5=digest, pause=pause, progress=progress)
        with atomic_folder(out) as folder:
            unpack(archive, folder)
        if not was_there:
            archive.unlink()
    return out
