"""How much memory there is, and whether what a file claims to hold fits: asked of its header, before anything is read.

Compressed files can stand for a thousand times their size, and real ones do (a label map that is mostly empty). So the
limit is what the machine has, not a ratio.
"""

import os
import zipfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from synthmed.errors import UserError

if TYPE_CHECKING:
    import numpy as np

VARIABLE = "SYNTHMED_MEMORY"
"""Environment variable: GiB that one file may take in memory, instead of what the machine has free."""
_CGROUP = Path("/sys/fs/cgroup")
_UNKNOWN = 8 << 30


def memory() -> tuple[int | None, int | None]:
    """Return (total, available) bytes; a container's limit counts where it is lower. None where nobody says."""
    # Here, since `import synthmed` must not wait for it.
    import psutil

    try:
        found = psutil.virtual_memory()
    except (psutil.Error, OSError):
        return None, None
    total, available = found.total, found.available
    try:
        limit = int((_CGROUP / "memory.max").read_text())
        used = int((_CGROUP / "memory.current").read_text())
    except (OSError, ValueError):  # No such file, or "max": no limit.
        return total, available
    if limit < total:
        return limit, min(available, max(limit - used, 0))
    return total, available


def check_memory(path: Path | str, size: int) -> None:
    """Do nothing where the content of a file fits into memory.

    Args:
        path: The file, for messages.
        size: Bytes that reading it takes, as its header says.

    Raises:
        UserError: If it does not fit.
    """
    limit = _limit()
    if size > limit:
        raise UserError(
            f"{path} takes {size / 2**30:.1f} GiB of memory, {limit / 2**30:.1f} GiB may be used: if it is"
            f" meant to be so large, use a machine with more memory, or allow a file more with {VARIABLE}=GIB"
        )


def check_zip(path: Path | str, file: Path | str | IO[bytes] | None = None) -> None:
    """Do nothing where what a zip archive (.npz, .keras) unpacks to fits into memory; no reader gets more out of it.

    Args:
        path: The archive, for messages.
        file: Its content where that is open already.

    Raises:
        UserError: If it does not fit.
        zipfile.BadZipFile: If it is no such archive.
    """
    with zipfile.ZipFile(path if file is None else file) as archive:
        check_memory(path, sum(member.file_size for member in archive.infolist()))


def check_hdf5(path: Path | str, file: Path | str | IO[bytes] | None = None) -> None:
    """Do nothing where all arrays of an HDF5 file fit into memory; see `check_zip`.

    Raises:
        UserError: If they do not fit.
        OSError: If it is no such file.
    """
    import h5py

    sizes: list[int] = []

    def add(_: str, one: Any) -> None:
        if isinstance(one, h5py.Dataset):
            sizes.append(one.size * one.dtype.itemsize if one.size else 0)

    with h5py.File(path if file is None else file, "r") as opened:
        opened.visititems(add)
    check_memory(path, sum(sizes))


def check_keras(path: Path) -> None:
    """Do nothing where a Keras model file, `.keras` or HDF5, fits into memory.

    Raises:
        UserError: If it does not fit.
        OSError, zipfile.BadZipFile: If it is no such file.
    """
    if path.suffix != ".keras":
        check_hdf5(path)
        return
    check_zip(path)
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            if member.endswith(".h5"):
                with archive.open(member) as inner:
                    check_hdf5(path, inner)


def read_npz(path: Path | str, keys: tuple[str, ...] | None = None) -> "dict[str, np.ndarray]":
    """Return arrays of an `.npz` file.

    Args:
        path: The file.
        keys: Names of the wanted arrays; None for all.

    Raises:
        UserError: If they do not fit into memory.
        KeyError: If it lacks one.
        OSError, ValueError, EOFError, zipfile.BadZipFile: If it is damaged, or holds Python objects.
    """
    import numpy as np

    check_zip(path)
    with np.load(path, allow_pickle=False) as arrays:
        return {key: arrays[key] for key in (arrays.files if keys is None else keys)}


def npz_shape(path: Path | str, key: str) -> tuple[int, ...]:
    """Return the shape of an array of an `.npz` file from its header alone.

    Raises:
        KeyError: If there is no such array.
        OSError, ValueError, EOFError, zipfile.BadZipFile: If the file is damaged.
    """
    from numpy.lib import format as npy

    with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as file:
        read = npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
        shape: tuple[int, ...] = read(file)[0]
    return shape


def _limit() -> int:
    told = os.environ.get(VARIABLE)
    if told:
        try:
            limit = float(told)
        except ValueError:
            limit = 0.0
        if not 0 < limit < 1e9:
            raise UserError(f"{VARIABLE}={told} is no number of GiB: write one, for example {VARIABLE}=8")
        return int(limit * 2**30)
    available = memory()[1]
    return _UNKNOWN if available is None else available
