"""Whether images show what their label maps say: by the eyes of a segmenter that has seen real slices alone."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthmed.data.schema import IGNORE
from synthmed.evaluation.resampling import Units, mean
from synthmed.evaluation.result import Estimate, Figure, Section

Segmenter = Callable[[NDArray[np.float32]], NDArray[np.uint8]]
"""Finds class indices, uint8 `[n, H, W]`, in slices float32 `[n, H, W, C]` in [-1, 1]."""

NAME, TITLE = "adherence", "Do images follow their label maps?"
HOW = (
    "Not measured: it needs a segmenter trained on real slices of the same training patients. Train one with "
    "synthmed segment train --data STORE --out RUN, and give it as --segmenter RUN."
)
_DEFINITION = (
    "Mean Dice between the label map and what a segmenter trained on real slices finds in the image, over slices where "
    "either shows the class. The real baseline is its Dice on held-out real slices: more cannot be asked of "
    "synthetic ones, and a higher figure means that they are easier than real ones."
)


@dataclass(frozen=True)
class Agreement:
    """Label maps and what a segmenter found.

    Attributes:
        dice: Of each class in each slice, `[n, classes - 1]`; NaN where neither shows the class.
        groups: Which patient or generated case each slice is of, `[n]`.
    """

    dice: NDArray[np.float64]
    groups: NDArray[np.int64]

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean over the classes of each slice, `[n]`; 1 where there is nothing and nothing was found."""
        known = np.isfinite(self.dice)
        sums = np.where(known, self.dice, 0.0).sum(axis=1)
        return np.where(known.any(axis=1), sums / np.maximum(known.sum(axis=1), 1), 1.0)


def agreement(
    labels: NDArray[np.uint8], found: NDArray[np.uint8], *, classes: int, groups: NDArray[np.int64]
) -> Agreement:
    """Compare label maps with what a segmenter found.

    Args:
        labels: `[n, H, W]`; pixels of `IGNORE` do not count.
        found: `[n, H, W]`.
        classes: Number of classes, background included.
        groups: Which patient or generated case each slice is of, `[n]`.
    """
    known = labels != IGNORE
    table = np.full((len(labels), classes - 1), np.nan)
    for index in range(1, classes):
        asked, seen = (labels == index), (found == index) & known
        both, either = (part.sum(axis=(1, 2)) for part in (asked & seen, asked))
        total = either + seen.sum(axis=(1, 2))
        np.divide(2.0 * both, total, out=table[:, index - 1], where=total > 0)
    return Agreement(table, groups)


def adherence_section(
    drawn: Agreement | None, held_out: Agreement | None, *, classes: tuple[str, ...], seed: int = 0
) -> Section:
    """Return the figures of synthetic slices, with those of held-out real ones as the real baseline.

    Args:
        drawn: Of the synthetic set; None where there is no segmenter: the section then says how to get one.
        held_out: Of held-out real slices.
        classes: Names, background first.
        seed: Of the resampling for intervals.
    """
    if drawn is None or held_out is None:
        return Section(name=NAME, title=TITLE, notes=(HOW,))
    figures, notes = [], []
    for index, name in enumerate(classes[1:]):
        own, baseline = (_mean(one, index, seed + number) for number, one in enumerate((drawn, held_out)))
        if own is None:
            notes.append(f"{name} is neither asked for nor found in any synthetic slice: no Dice.")
            continue
        figures.append(
            Figure(
                name=f"dice_{index + 1}",
                label=f"{name}: Dice",
                estimate=own,
                real_baseline=baseline,
                better="higher",
                definition=_DEFINITION,
            )
        )
    return Section(name=NAME, title=TITLE, figures=tuple(figures), notes=tuple(notes))


def _mean(one: Agreement, index: int, seed: int) -> Estimate | None:
    known = np.isfinite(one.dice[:, index])
    if not known.any():
        return None
    return mean(one.dice[known, index], Units.of_patients(one.groups[known]), seed=seed)
