"""What this machine can do, read without importing TensorFlow."""

import math
import os
from pathlib import Path
from platform import machine

BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"})


def processor_flags() -> frozenset[str]:
    """Return the feature flags that Linux reports for the processor; empty where it reports none."""
    return frozenset(_processor_says("flags", "Features").split())


def processor_name() -> str:
    """Return the processor's name, or its kind where the system does not tell."""
    return _processor_says("model name") or machine()


def _processor_says(*names: str) -> str:
    # psutil knows neither flags nor names; other systems than Linux have no such file.
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    fields = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in fields if name.strip() in names), "")


def has_bfloat16() -> bool:
    """Tell whether the processor multiplies bfloat16 in hardware; elsewhere the format is slower than float32."""
    return bool(BFLOAT16_FLAGS & processor_flags())


def core_count() -> int:
    """Return the number of cores that this process may use: by its affinity, and by the quota of its container."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _core_quota()
    return count if quota is None else max(1, min(count, math.ceil(quota)))


def _core_quota(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> float | None:
    """Return how many cores' time the control group of this process may take, the least of it and those above.

    Args:
        root: Where Linux shows control groups, of version 2 or 1.
        membership: Where it says which are those of this process.

    Returns:
        The number; None without a quota, and on other systems.
    """
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "cpu" if controllers else root
        own = top / group.lstrip("/")
        # In a container the path may be that of the machine, of which only the root is there.
        for folder in (own, *own.parents):
            if folder.is_relative_to(top) and (quota := _quota_of(folder)) is not None:
                found.append(quota)
    return min(found, default=None)


def _quota_of(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota, period = ((folder / f"cpu.cfs_{one}_us").read_text(encoding="ascii") for one in ("quota", "period"))
        return float(quota) / float(period) if float(quota) > 0 else None
    except (OSError, ValueError):
        # "max" is no number, and no limit.
        return None


def thread_count() -> int:
    """Return the number of threads that TensorFlow divides an operation among: as told, or one for each core."""
    told = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    return int(told) if told.isdigit() and int(told) else core_count()


def resolve_precision(choice: str, *, accelerator: bool = False) -> str:
    """Turn "auto", "float32" or "bfloat16" into a Keras dtype policy.

    Args:
        choice: What the user asked for; "auto" takes bfloat16 where the hardware has it.
        accelerator: Whether a GPU or TPU does the work; these have bfloat16.

    Returns:
        "float32" or "mixed_bfloat16".
    """
    if choice == "auto":
        choice = "bfloat16" if accelerator or has_bfloat16() else "float32"
    return "mixed_bfloat16" if choice == "bfloat16" else "float32"
