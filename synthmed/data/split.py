"""Who trains and who is tested: always whole patients, drawn from a seed or named in a file."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from synthmed.data._philox import permutation
from synthmed.data.schema import SPLITS, Split
from synthmed.errors import UserError
from synthmed.files import read_json

_SPLIT_STREAM, _TRAINING_STREAM = 1, 2


def parse_fractions(text: str) -> tuple[float, float, float]:
    """Return training, validation and test fractions from "0.7,0.15,0.15".

    Raises:
        UserError: If these are not three numbers from 0 to 1 whose sum is 1, or training gets nothing.
    """
    try:
        train, val, test = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--split {text}: give three fractions, as 0.7,0.15,0.15, or a JSON file of names") from None
    if not (0 < train <= 1 and 0 <= val < 1 and 0 <= test < 1 and abs(train + val + test - 1) < 1e-6):
        raise UserError(f"--split {text}: fractions must not be negative, sum to 1 and leave something for training")
    return train, val, test


def draw_split(patients: dict[str, str], fractions: tuple[float, float, float], seed: int) -> dict[str, Split]:
    """Return the split of each case, drawn by patient.

    Args:
        patients: Patient of each case.
        fractions: Of the patients, for training, validation and test.
        seed: Of the draw.

    Returns:
        The split of each case. With three patients or more, each part with a fraction above 0 gets one at least; with
        fewer, training comes first.
    """
    names = sorted(set(patients.values()))
    drawn = [names[index] for index in permutation(seed, _SPLIT_STREAM, len(names))]
    least = 1 if len(names) >= 3 else 0
    test, val = (max(round(len(names) * part), least if part > 0 else 0) for part in (fractions[2], fractions[1]))
    while test + val >= len(names):
        test, val = (test, val - 1) if val >= test and val > 0 else (test - 1, val)
    of_patient: dict[str, Split] = {}
    for position, name in enumerate(drawn):
        of_patient[name] = "test" if position < test else "val" if position < test + val else "train"
    return {case: of_patient[patient] for case, patient in patients.items()}


def read_split(path: Path, patients: dict[str, str]) -> dict[str, Split]:
    """Return the split of each case that a JSON file of `{"train": [...], "val": [...], "test": [...]}` names.

    Cases that it does not name are left out.

    Raises:
        UserError: If a name is not in the data set, stands twice, no case is for training, or cases of one patient
            are in different parts.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not set(content) <= set(SPLITS) or not content.get("train"):
        raise UserError(f'{path} must be {{"train": [names], "val": [names], "test": [names]}} with a name in train')
    if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in content.values()):
        raise UserError(f"{path}: each part must be a list of case names")
    return check_split(content, patients, path)


def check_split(content: Mapping[str, Sequence[str]], patients: dict[str, str], path: Path) -> dict[str, Split]:
    """Return the split of each case from the case names of each part, as `path` gives them; see `read_split`."""
    named = [name for names in content.values() for name in names]
    unknown = [name for name in named if name not in patients]
    if unknown:
        raise UserError(f"{path} names {_few(unknown)}, not in the data set: correct the names")
    twice = [name for name, count in Counter(named).items() if count > 1]
    if twice:
        raise UserError(f"{path} names {_few(twice)} more than once: keep each in one part")
    split = {name: cast(Split, part) for part, names in content.items() for name in names}
    parts: dict[str, Split] = {}
    for case, part in split.items():
        if parts.setdefault(patients[case], part) != part:
            raise UserError(f"{path} puts cases of patient {patients[case]} into different parts: keep them together")
    return split


def keep_training_patients(
    split: dict[str, Split], patients: dict[str, str], count: int | None, seed: int
) -> dict[str, Split]:
    """Return the split with `count` training patients kept; validation and test stay as they are.

    One permutation a seed orders the training patients and the first `count` stay, so that smaller draws lie within
    larger ones.

    Raises:
        UserError: If there are fewer training patients than `count`, or `count` is below 1.
    """
    if count is None:
        return split
    names = sorted({patients[case] for case, part in split.items() if part == "train"})
    if not 1 <= count <= len(names):
        raise UserError(f"--train-patients {count}: there are {len(names)} training patients, choose 1 to {len(names)}")
    kept = {names[index] for index in permutation(seed, _TRAINING_STREAM, len(names))[:count]}
    return {case: part for case, part in split.items() if part != "train" or patients[case] in kept}


def _few(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
