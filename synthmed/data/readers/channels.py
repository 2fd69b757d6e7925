"""Channels by the names that a store or a model has for them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from synthmed.data.readers.base import CaseFiles
from synthmed.data.volumes import ReorderedSource, Source
from synthmed.errors import UserError


@dataclass(frozen=True)
class Wanted:
    """Channels that cases must have.

    Attributes:
        names: Their names, in their order.
        of: Who needs them, for messages: "the model".
    """

    names: tuple[str, ...]
    of: str = "the model"


def match_channels(
    cases: Sequence[CaseFiles], own: Sequence[str] | None, wanted: Wanted, path: Path
) -> tuple[list[CaseFiles], tuple[str, ...]]:
    """Return the cases without label maps, their channels in the wanted order, and what the user should know.

    Where the names are the same, case aside, they say which channel is which; else channels are taken in the order in
    which they come, and that is said.

    Args:
        cases: With one file a channel, or one with all of them.
        own: Names of their channels; None where nothing names them, so that their order alone can count.
        wanted: What is needed.
        path: Where the cases are from, for messages.

    Raises:
        UserError: If there are more or fewer channels than wanted.
    """
    if own is not None and len(own) != len(wanted.names):
        raise UserError(
            f"{path} has the channels {', '.join(own)}, {wanted.of} {', '.join(wanted.names)}: give images of the same"
        )
    for case in cases:
        if len(case.images) not in (1, len(wanted.names)):
            raise wrong_count(path, case.case, len(case.images), wanted)
    order, notes = _order(own, wanted) if own is not None else (tuple(range(len(wanted.names))), ())
    return [replace(case, label=None, images=_ordered(case.images, order)) for case in cases], notes


def wrong_count(path: Path, case: str, count: int, wanted: Wanted) -> UserError:
    """Return the error for a case with more or fewer files than channels."""
    files = f"{count} channel file{'s' * (count != 1)}"
    return UserError(
        f"{path}: {case} has {files}, {wanted.of} needs {len(wanted.names)} ({', '.join(wanted.names)}):"
        " add or remove files"
    )


def _order(own: Sequence[str], wanted: Wanted) -> tuple[tuple[int, ...], tuple[str, ...]]:
    folded = [name.casefold() for name in own]
    needed = [name.casefold() for name in wanted.names]
    if set(folded) == set(needed) and len(set(needed)) == len(needed):
        return tuple(folded.index(name) for name in needed), ()
    pairs = ", ".join(f"{one} as {other}" for one, other in zip(own, wanted.names, strict=True))
    note = f"channels are called otherwise than {wanted.of} calls them and taken in their order: {pairs}"
    return tuple(range(len(needed))), (note,)


def _ordered(images: tuple[Source, ...], order: tuple[int, ...]) -> tuple[Source, ...]:
    if order == tuple(range(len(order))):
        return images
    if len(images) == 1:
        return (ReorderedSource(images[0], order),)
    return tuple(images[number] for number in order)
