"""Options of commands that read a data set, the same everywhere."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from synthmed.errors import UserError

if TYPE_CHECKING:
    from synthmed.data.readers import ReadOptions


def reading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command, which gets them as one `ReadOptions` named `reading`."""

    @click.option(
        "--patient-pattern",
        metavar="REGEX",
        help="Regular expression whose one group is the patient in a case's name, as '(\\d+)[LR]'.  [default: found]",
    )
    @click.option(
        "--channel",
        multiple=True,
        metavar="NAME=PATTERN",
        help="Files of a channel, as T1='*_t1.nii.gz'; once for each channel.  [default: found]",
    )
    @click.option("--label", metavar="PATTERN", help="Files of label maps, as '*_seg.nii.gz'.  [default: found]")
    @click.option(
        "--name",
        metavar="NAME",
        help="Name of the data set, which generated sets and exported models carry; never its folder's.  [default:"
        ' "name" in dataset.json, else "unnamed"]',
    )
    @functools.wraps(command)
    def wrapped(
        *args: Any,
        patient_pattern: str | None,
        channel: tuple[str, ...],
        label: str | None,
        name: str | None,
        **others: Any,
    ) -> Any:
        return command(*args, reading=_options(patient_pattern, channel, label, name), **others)

    return wrapped


def _options(
    patient_pattern: str | None, channels: tuple[str, ...], label: str | None, name: str | None
) -> ReadOptions:
    from synthmed.data.readers import ReadOptions

    pairs = []
    for text in channels:
        name, sign, pattern = text.partition("=")
        if not name.strip() or not sign or not pattern:
            raise UserError(f"--channel {text}: write NAME=PATTERN, for example T1='*_t1.nii.gz'")
        pairs.append((name.strip(), pattern))
    if len({name for name, _ in pairs}) < len(pairs):
        raise UserError("--channel names one channel twice: give each its own name")
    return ReadOptions(patient_pattern=patient_pattern, channels=tuple(pairs), label=label, name=name)
