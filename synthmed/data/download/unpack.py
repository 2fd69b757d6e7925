"""Unpacking an archive that somebody else made, so that nothing of it can land outside its folder.

Python's own filter (`tarfile.data_filter`) refuses most of this, too; here whatever a data set has no use for is
refused before anything is written, and in one line.
"""

import shutil
import tarfile
import tempfile
from pathlib import Path, PurePosixPath, PureWindowsPath

from synthmed.errors import UserError

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
