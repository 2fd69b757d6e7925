"""What must be looked up in the files where no description gives it: label values, classes, channels."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from synthmed.data.readers.base import CaseFiles
from synthmed.data.slabs import count_values
from synthmed.data.volumes import PictureSource, Source
from synthmed.data.volumes.pictures import LOSSY_ENDINGS
from synthmed.errors import UserError

MOST_VALUES = 32
_WORKERS = 2
_GREYS = 256


@dataclass(frozen=True)
class Labels:
    """What the label maps of a set hold.

    Attributes:
        cases: The cases, with label maps that are read as the whole set asks.
        classes: Names of the classes, background first.
        values: Value of each class.
        note: What was found, for the user.
    """

    cases: list[CaseFiles]
    classes: tuple[str, ...]
    values: tuple[int, ...]
    note: str


def find_labels(cases: Sequence[CaseFiles], path: Path) -> Labels:
    """Read all label maps once and return which values they hold; damaged ones are left to the inspection.

    Args:
        cases: Those of the set.
        path: The set, for messages.

    Raises:
        UserError: If the values are too many for classes, no whole numbers, negative, or nothing but background.
    """
    cases = list(cases)
    sources = [case.label for case in cases if case.label is not None]
    _refuse_lossy(sources)
    values = _values_of(sources)
    coloured = any(
        isinstance(source, PictureSource) and max(own, default=0) >= _GREYS * _GREYS for source, own in values
    )
    if coloured:
        cases = [replace(case, label=_coloured(case.label)) for case in cases]
        values = _values_of([case.label for case in cases if case.label is not None])
    found = sorted({value for _, own in values for value in own} | {0})
    if len(found) > MOST_VALUES:
        source, own = max(values, key=lambda item: len(item[1]))
        raise UserError(
            f"{source.path} has {len(own)} different values ({len(found)} in all label maps), classes can be"
            f" {MOST_VALUES}: save masks without smoothing or compression, one value a class, as PNG or NIfTI"
        )
    if found[0] < 0:
        source = next(source for source, own in values if found[0] in own)
        raise UserError(f"{source.path} has the value {found[0]}: write classes as whole numbers from 0")
    if len(found) == 1 and values:
        raise UserError(f"{path}: all label maps hold nothing but 0: give those in which something is labelled")
    foreground = [_name(value, coloured) for value in found[1:]]
    if len(foreground) == 1 and not coloured:
        foreground = ["foreground"]
    shown = ", ".join(_name(value, True) if coloured else str(value) for value in found)
    note = f"label values {shown} found in {len(values)} label map{'s' * (len(values) != 1)}"
    return Labels(cases=cases, classes=("background", *foreground), values=tuple(found), note=note)


def _name(value: int, coloured: bool) -> str:
    return f"#{value:06x}" if coloured else f"class {value}"


def _refuse_lossy(sources: Sequence[Source]) -> None:
    for source in sources:
        files = source.paths if isinstance(source, PictureSource) else ()
        lossy = next((file for file in files if file.suffix.lower() in LOSSY_ENDINGS), None)
        if lossy is not None:
            raise UserError(f"{lossy} is a JPEG mask, whose compression changes class numbers: save masks as PNG")


def _values_of(sources: Sequence[Source]) -> list[tuple[Source, set[int]]]:
    with ThreadPoolExecutor(_WORKERS) as pool:
        found = list(pool.map(_values, sources))
    return [(source, own) for source, own in zip(sources, found, strict=True) if own is not None]


def _values(source: Source) -> set[int] | None:
    try:
        voxels = source.open().voxels()
    except UserError:
        return None
    found = count_values(voxels)
    if any(value != round(value) for value in found if np.isfinite(value)) or not all(map(np.isfinite, found)):
        raise UserError(f"{source.path} has values that are no whole numbers: write class numbers")
    return {int(value) for value in found}


def _coloured(source: Source | None) -> Source | None:
    return replace(source, coloured=True) if isinstance(source, PictureSource) else source


def channel_count(cases: Sequence[CaseFiles]) -> int:
    """Return how many channels most cases with one image file have; 1 where none can be opened."""
    counts: Counter[int] = Counter()
    for case in cases:
        if len(case.images) == 1:
            try:
                counts[case.images[0].open().channels] += 1
            except UserError:
                continue
    return counts.most_common(1)[0][0] if counts else 1
