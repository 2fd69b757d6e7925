"""Choices that follow from a seed alone: the split of patients, the slices a training is offered, their order."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from synthmed.data.schema import SPLITS, Split
from synthmed.errors import UserError
from synthmed.files import read_json

_WORD = (1 << 64) - 1


def raw_words(seed: int, stream: int, count: int) -> np.ndarray:
    """Return `count` random uint64 that follow from `seed` and `stream` alone."""
    generator = np.random.Philox(key=np.array([seed & _WORD, stream & _WORD], np.uint64))
    return generator.random_raw(count)


def permutation(seed: int, stream: int, count: int) -> np.ndarray:
    """Return a permutation of `count` items (int64) that follows from `seed` and `stream` alone."""
    return np.argsort(raw_words(seed, stream, count), kind="stable")


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


RARE = 0.5
"""A class that a smaller share of the training slices shows comes up more often.

LVIS, with over a thousand categories, takes 0.001; the few classes of a medical set, and foreground as such, are rare
where most slices do not show them.
"""
_STREAM = 3


def select(
    class_counts: np.ndarray,
    how: Literal["all", "foreground", "balanced"],
    *,
    seed: int = 0,
    case: np.ndarray | None = None,
) -> np.ndarray:
    """Return the numbers of the slices that one round over them holds, ascending, with repeats: int64.

    - "all": each slice once.
    - "foreground": slices that show a foreground class, and of those that show none the direct neighbours within the
      case. Without these a network would never see where an anatomy ends, and would go on with it there; the rest of
      the empty slices has nothing to add to that.
    - "balanced": repeat factor sampling (Gupta et al. 2019, LVIS, arXiv:1908.03195, section 4.2). With f the share of
      the slices that show a class, its factor is max(1, sqrt(RARE / f)), and a slice's the largest of its classes.
      Fractions are rounded up or down at random, by seed and slice alone: a training that is resumed sees the same.

    Args:
        class_counts: Pixels of each class in each slice, `[slices, classes]`, background first.
        how: See above.
        seed: Of the random rounding.
        case: Number of each slice's case, `[slices]`; by default each is a case of its own.

    Raises:
        UserError: If no slice shows foreground where that is asked for.
    """
    numbers = np.arange(len(class_counts), dtype=np.int64)
    if how == "all":
        return numbers
    shown = class_counts[:, 1:] > 0
    if not shown.any():
        raise UserError(f"no training slice shows any class, as slices: {how} needs: prepare with --slices all")
    if how == "foreground":
        return numbers[_with_neighbours(shown.any(axis=1), numbers if case is None else case)]
    repeats = np.floor(repeat_factors(shown) + _uniform(seed, len(numbers))).astype(np.int64)
    return np.repeat(numbers, repeats)


def repeat_factors(shown: np.ndarray) -> np.ndarray:
    """Return how often each slice is to come up on average, 1 or more: float64 `[slices]`.

    Args:
        shown: Which foreground classes each slice shows, bool `[slices, classes - 1]`.
    """
    shares = shown.mean(axis=0)
    factors = np.ones(len(shares))
    factors[shares > 0] = np.maximum(1.0, np.sqrt(RARE / shares[shares > 0]))
    return np.max(np.where(shown, factors, 1.0), axis=1, initial=1.0)


def _with_neighbours(foreground: Any, case: np.ndarray) -> np.ndarray:
    kept = foreground.copy()
    together = case[1:] == case[:-1]
    kept[1:] |= foreground[:-1] & together
    kept[:-1] |= foreground[1:] & together
    return kept


def _uniform(seed: int, count: int) -> np.ndarray:
    # 53 bits, all that a double holds: rounding never reaches 1.
    return (raw_words(seed, _STREAM, count) >> np.uint64(11)).astype(np.float64) / 2.0**53


class SliceOrder:
    """An endless sequence of epochs, each a permutation of `count` items.

    Args:
        count: Items in an epoch, at least 1.
        seed: Which sequence.
    """

    def __init__(self, count: int, seed: int):
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        self.count = count
        self.seed = seed
        self._epoch = -1
        self._permutation = np.empty(0, np.int64)

    def take(self, position: int, n: int) -> np.ndarray:
        """Return the `n` items from `position` on as int64; position counts all items since the first epoch."""
        if position < 0 or n < 0:
            raise ValueError(f"position and n must not be negative, got {position} and {n}")
        parts = []
        while n > 0:
            epoch, within = divmod(position, self.count)
            part = self._of_epoch(epoch)[within : within + n]
            parts.append(part)
            position, n = position + len(part), n - len(part)
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def _of_epoch(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            self._permutation = permutation(self.seed, epoch, self.count)
            self._epoch = epoch
        return self._permutation
