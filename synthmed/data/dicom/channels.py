"""Which series of each study are the channels of a data set, so that all cases have the same."""

from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatchcase

from synthmed.data.dicom.names import tidy
from synthmed.data.dicom.study import Series, Study
from synthmed.errors import UserError

COLOURS = ("red", "green", "blue")
MEND = "add the series, move the study out, or choose channels with --channel NAME=PATTERN"


@dataclass(frozen=True)
class Choice:
    """The series of one study that are its channels.

    Attributes:
        study: The study.
        series: A series for each channel, None where the study lacks it.
        spare: How many series of the same grid are no channel.
        away: How many series lie on other grids.
    """

    study: Study
    series: tuple[Series | None, ...]
    spare: int
    away: int


def choose_channels(
    studies: list[Study], wanted: tuple[tuple[str, str], ...] = ()
) -> tuple[tuple[str, ...], list[Choice]]:
    """Return the names of the channels and, for each study, its series.

    Args:
        studies: At least one.
        wanted: Name of each channel and a pattern (as in a shell) of its description; by default the descriptions
            that most studies have on their chosen grid are the channels, or "CT" where each has one CT series there.

    Raises:
        UserError: If no study has a series that a pattern asks for.
    """
    if wanted:
        names = tuple(name for name, _ in wanted)
        patterns = tuple(pattern.casefold() for _, pattern in wanted)
        choices = [_matching(study, patterns) for study in studies]
        for name, pattern, found in zip(
            names, patterns, zip(*(one.series for one in choices), strict=True), strict=True
        ):
            if not any(found):
                known = ", ".join(sorted({one.name for study in studies for group in study.groups for one in group}))
                raise UserError(f"--channel {name}={pattern} fits no series: choose among {known}")
        return names, choices
    if all(len(study.groups[0]) == 1 and study.groups[0][0].header.modality == "CT" for study in studies):
        # One CT series each: Hounsfield units are the same everywhere, whatever a site calls its protocol.
        return ("CT",), [_choice(study, study.groups[0], 1) for study in studies]
    named = [[_named(group) for group in study.groups] for study in studies]
    counts = Counter(tuple(sorted(_folded(groups[0]))) for groups in named)
    # The set of names that most studies have; of two as frequent ones the larger.
    usual = max(counts, key=lambda names: (counts[names], len(names), names))
    first = next(groups[0] for groups in named if tuple(sorted(_folded(groups[0]))) == usual)
    names = tuple(first)
    return names, [_best(study, groups, names) for study, groups in zip(studies, named, strict=True)]


def _folded(names: dict[str, Series]) -> dict[str, Series]:
    return {name.casefold(): one for name, one in names.items()}


def _named(group: tuple[Series, ...]) -> dict[str, Series]:
    """Return the series of a group by names that are told apart: what has none or repeats becomes "MR 1", "MR 2"."""
    counts = Counter(one.name.casefold() for one in group)
    named: dict[str, Series] = {}
    numbers: Counter[str] = Counter()
    for one in group:
        name = one.name
        if not one.described or counts[name.casefold()] > 1:
            numbers[one.header.modality] += 1
            name = f"{one.header.modality or 'series'} {numbers[one.header.modality]}"
        named[name] = one
    return named


def _best(study: Study, groups: list[dict[str, Series]], names: tuple[str, ...]) -> Choice:
    wanted = [name.casefold() for name in names]
    # max takes the first of equals, and groups come best first.
    folded = max((_folded(group) for group in groups), key=lambda group: sum(name in group for name in wanted))
    return _choice(study, tuple(folded.get(name) for name in wanted), len(folded))


def _matching(study: Study, patterns: tuple[str, ...]) -> Choice:
    best: tuple[tuple[Series | None, ...], int] = ((None,) * len(patterns), 0)
    for group in study.groups:
        found: list[Series | None] = []
        for pattern in patterns:
            fitting = [one for one in group if fnmatchcase(_spoken(one).casefold(), pattern)]
            if len(fitting) > 1:
                names = ", ".join(one.name for one in fitting)
                raise UserError(f"{study.path}: the pattern {pattern} fits {len(fitting)} series ({names}): narrow it")
            found.append(fitting[0] if fitting else None)
        if sum(one is not None for one in found) > sum(one is not None for one in best[0]):
            best = tuple(found), len(group)
    return _choice(study, *best)


def _spoken(series: Series) -> str:
    """Return what a pattern of the user is compared with: a name that is withheld, too, for the user knows it."""
    return tidy(series.header.description) if series.withheld else series.name


def _choice(study: Study, series: tuple[Series | None, ...], in_group: int) -> Choice:
    total = sum(len(group) for group in study.groups)
    taken = sum(one is not None for one in series)
    return Choice(study, series, in_group - taken, total - in_group)
