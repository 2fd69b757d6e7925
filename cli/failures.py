"""Words for errors that the code did not foresee: a full disk, a lack of memory, a fault of our own."""

import errno

from synthmed.extras import install_hint

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
# Libraries with their own writers (TensorFlow, HDF5) put the system's words into exceptions of their own.
_DISK_FULL_WORDS = ("no space left on device", "disk quota exceeded")
_MEMORY_WORDS = ("out of memory", "oom when allocating", "unable to allocate", "cannot allocate memory")


def explain(error: Exception) -> str:
    """Return one line for any exception: what is wrong, where, and how to mend it."""
    text = str(error).lower()
    name = getattr(error, "filename", None)
    where = f" at {name}" if name else ""
    if getattr(error, "errno", None) in _DISK_FULL or any(words in text for words in _DISK_FULL_WORDS):
        return f"the disk is full{where}: free some space or write to another disk with --out"
    if isinstance(error, MemoryError) or any(words in text for words in _MEMORY_WORDS):
        return "not enough memory: use smaller batches or smaller images, or stop other programs"
    if isinstance(error, PermissionError):
        return f"no permission{where}: choose another folder or change its permissions"
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("synthmed"):
        return f"the Python package {error.name} is missing: {install_hint(error.name)}"
    if isinstance(error, OSError):
        return f"{error.strerror or first_line(error)}{where}: check the path and the disk"
    return (
        f"{type(error).__name__}: {first_line(error)}; this is a fault of synthmed itself,"
        " please report it with what --debug shows"
    )


def first_line(error: Exception) -> str:
    """Return the first line of an exception's text, shortened to what fits a terminal."""
    lines = str(error).strip().splitlines() or ["no further words"]
    return lines[0][:300]
