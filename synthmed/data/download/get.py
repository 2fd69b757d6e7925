"""From a name to a data set's folder."""

from pathlib import Path

from synthmed.data.download.catalogue import Offer
from synthmed.data.download.fetch import PAUSE, fetch
from synthmed.data.download.unpack import unpack
from synthmed.errors import UserError
from synthmed.files import atomic_folder, file_lock, folder_lock, refuse_taken
from synthmed.progress import Progress, silent


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
