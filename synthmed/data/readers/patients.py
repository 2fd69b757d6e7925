"""Which cases are of one patient, by a given pattern or by what their names say."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from synthmed.data.readers.base import CaseFiles
from synthmed.data.readers.naming import Parts, names_patient
from synthmed.errors import UserError

_BIDS = re.compile(r"(sub-[0-9A-Za-z]+)(?:_.*)?")
_TCGA = re.compile(r"(TCGA[-_][0-9A-Za-z]{2}[-_][0-9A-Za-z]{4})(?:[-_].*)?")
_SIDE = re.compile(r"(.*\d)[LR]|(.+?)[_\-. ](?:left|right|l|r|od|os|lt|rt)", re.IGNORECASE)
_VISIT = re.compile(
    r"(.+?)[_\-. ](?:(?:v|visit|t|tp|timepoint|ses|session|fu|followup|follow-up)"
    r"[_-]?\d+|baseline|follow-?up|(?:19|20)\d{6}|(?:19|20)\d\d-\d\d-\d\d)",
    re.IGNORECASE,
)
_NUMBERED = re.compile(r"(.*\d.*?)[_\-. ]\d+")
Folders = dict[str, Parts]


@dataclass(frozen=True)
class _Rule:
    what: str
    patient: Callable[[str], str]


def assign_patients(
    cases: Sequence[CaseFiles], pattern: str | None, *, folders: Folders | None = None, numbered: bool = False
) -> tuple[list[CaseFiles], tuple[str, ...]]:
    """Return the cases with their patients, and what the user should know of how these were found.

    Args:
        cases: The cases.
        pattern: Regular expression with one group, which finds the patient in a case's name or, where it does not
            match that, in its path in the data set; None to look for common habits.
        folders: Folders in which each case lies, where folders may be patients.
        numbered: Whether cases `AB12_1` and `AB12_2` are slices of one patient.

    Raises:
        UserError: If the pattern is wrong or does not match a case.
    """
    names = [case.case for case in cases]
    places = folders or {}
    if pattern is not None:
        patients = _by_pattern(names, pattern, places)
        what = f"--patient-pattern {pattern}"
    else:
        patients, what = _by_habit(names, places, numbered)
    found = [replace(case, patient=patient) for case, patient in zip(cases, patients, strict=True)]
    count = len(set(patients))
    if not what or count == len(names) and pattern is None:
        return found, ()
    note = f"{len(names)} case{'s' * (len(names) != 1)} of {count} patient{'s' * (count != 1)}: {what}"
    return found, (note if pattern is not None else f"{note}; --patient-pattern says it otherwise",)


def _by_pattern(names: list[str], pattern: str, folders: Folders) -> list[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f"--patient-pattern {pattern} is no regular expression ({error}): mend it") from None
    if compiled.groups != 1:
        raise UserError(
            f"--patient-pattern {pattern} has {compiled.groups} groups: put brackets around the patient alone, as in"
            r" '(\d+)[LR]'"
        )
    patients = []
    for name in names:
        match = compiled.search(name) or compiled.search("/".join((*folders.get(name, ()), name)))
        if match is None or not match[1]:
            raise UserError(f"--patient-pattern {pattern} finds no patient in the case {name}: widen it")
        patients.append(match[1])
    return patients


def _by_habit(names: list[str], folders: Folders, numbered: bool) -> tuple[list[str], str]:
    for pattern, what in ((_BIDS, "names begin as in BIDS (sub-...)"), (_TCGA, "names begin with a TCGA patient")):
        matches = [pattern.fullmatch(name) for name in names]
        if all(matches):
            return [match[1] for match in matches if match], what
    patients, used = list(names), []
    inside = [_patient_folder(folders.get(name, ())) for name in names]
    if all(inside):
        patients = [folder for folder in inside if folder]
        if len(set(patients)) < len(names):
            used.append("they lie in a folder each")
    best, chosen = patients, list[str]()
    for rules in _RULES:
        shorter = patients
        for rule in rules:
            shorter = [rule.patient(name) for name in shorter]
        if len(set(shorter)) < len(set(best)) and _groups(patients, shorter):
            best = shorter
            chosen = [rule.what for rule in rules]
    if best is not patients:
        patients = best
        used.extend(chosen)
    if numbered and not all(inside) and not used:
        matches = [_NUMBERED.fullmatch(name) for name in names]
        shorter = [match[1] if match else name for match, name in zip(matches, names, strict=True)]
        if all(matches) and _groups(names, shorter):
            return shorter, "names that differ in the last number alone"
    return patients, " and ".join(dict.fromkeys(used))


def _groups(names: list[str], shorter: list[str]) -> bool:
    """Return whether shorter names bring cases together, and not all of them: then it is no patient's name."""
    patients = Counter(shorter)
    before = len(set(names))
    return len(patients) < before and (len(patients) > 1 or before == 2)


def _without_side(name: str) -> str:
    match = _SIDE.fullmatch(name)
    return (match[1] or match[2]) if match else name


def _without_visit(name: str) -> str:
    match = _VISIT.fullmatch(name)
    return match[1] if match else name


_SIDES = _Rule("names that differ in left and right alone", _without_side)
_VISITS = _Rule("names that differ in visit or date alone", _without_visit)
# A side may stand before a visit or behind it; the least that brings most together is taken.
_RULES = ((_SIDES,), (_VISITS,), (_VISITS, _SIDES), (_SIDES, _VISITS))


def _patient_folder(folders: Parts) -> str | None:
    """Return the name of the outermost folder that may be a patient's: one with a digit that holds one alone."""
    for level, name in enumerate(folders):
        if names_patient(name):
            # Hospitals may number their patients alike.
            return "_".join((*(own for own in folders[:level] if re.search(r"\d", own)), name))
    return None
