"""Which training slices are offered to a training, and how often in one round."""

from typing import Any, Literal

import numpy as np

from synthmed.data._philox import raw_words
from synthmed.errors import UserError

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
