"""Selection of synthetic slices as a step of a training: what it decides, and what a run keeps of it."""

import csv
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from synthmed.data.schema import CaseRecord
from synthmed.data.store import Store
from synthmed.data.synthetic import SyntheticSet
from synthmed.files import atomic_file, sha256_file, sha256_json
from synthmed.segmentation.filter import Choice, SampleTable, choose, score_samples
from synthmed.segmentation.run import ChoiceRecord, SegmentationRun
from synthmed.segmentation.schedule import Blending

CHOICE = "chosen.csv"

_Decided = tuple[np.ndarray, ChoiceRecord, list[list[str]]]
_decided: WeakKeyDictionary[SyntheticSet, dict[Any, _Decided]] = WeakKeyDictionary()
"""What was decided about sets that are still open: every seed and arm of a comparison asks for the same again."""


def choose_slices(
    synthetic: SyntheticSet, store: Store, cases: list[CaseRecord], blending: Blending
) -> tuple[SyntheticSet, ChoiceRecord, list[list[str]]]:
    """Return the slices of a set that `blending` keeps, what a run records of the choice, and a row for each sample.

    The same question about the same set is answered once in a process.

    Args:
        synthetic: A set that fits the store.
        store: Real slices.
        cases: Training cases, the only ones that are looked at.
        blending: Its `keep` and `judge` say how.

    Raises:
        UserError: If the segmenter cannot be used, or nothing is left.
    """
    judge = SegmentationRun.open(blending.judge) if blending.judge else None
    # Of an unfinished judge there is no hash, and no answer either: asking for one says why.
    judged_by = judge_hash(blending)
    known = _decided.setdefault(synthetic, {})
    question = (store.content_hash, tuple(case.case for case in cases), blending.keep, blending.judge, judged_by)
    if question not in known:
        known[question] = _decide(synthetic, store, cases, judge, keep=blending.keep, judged_by=judged_by)
    indices, record, rows = known[question]
    return synthetic.subset(indices), record, rows


def judge_hash(blending: Blending) -> str | None:
    """Return the hash over the weights of the U-Net that judges; None without one, or before it is trained."""
    weights = SegmentationRun.open(blending.judge).weights("last") if blending.judge else None
    return sha256_file(weights) if weights and weights.is_file() else None


def _decide(
    synthetic: SyntheticSet,
    store: Store,
    cases: list[CaseRecord],
    judge: SegmentationRun | None,
    *,
    keep: float,
    judged_by: str | None,
) -> _Decided:
    table = score_samples(synthetic, store, cases, judge)
    choice = choose(table, keep=keep)
    record = ChoiceRecord(
        kept=len(choice.indices),
        dropped=choice.summary(),
        hash=sha256_json([table.names[index] for index in choice.indices]),
        judge=judged_by,
    )
    return choice.indices, record, _rows(table, choice)


def write_choice(folder: Path, rows: list[list[str]]) -> None:
    """Write the rows of `choose_slices` into a run folder."""
    with atomic_file(folder / CHOICE) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["slice", "agreement", "distance", "dropped"], *rows])


def _rows(table: SampleTable, choice: Choice) -> list[list[str]]:
    agreement = [""] * len(table.names) if table.agreement is None else [f"{value:.4f}" for value in table.agreement]
    distance = [f"{value:.4f}" for value in table.distance]
    return [list(row) for row in zip(table.names, agreement, distance, choice.reasons, strict=True)]
