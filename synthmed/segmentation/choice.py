"""Selection of synthetic slices as a step of a training: what it decides, and what a run keeps of it."""

import csv
from pathlib import Path

from synthmed.data.schema import CaseRecord
from synthmed.data.store import Store
from synthmed.data.synthetic import SyntheticSet
from synthmed.files import atomic_file, sha256_file, sha256_json
from synthmed.segmentation.filter import Choice, SampleTable, choose, score_samples
from synthmed.segmentation.run import ChoiceRecord, SegmentationRun
from synthmed.segmentation.schedule import Blending

CHOICE = "chosen.csv"


def choose_slices(
    synthetic: SyntheticSet, store: Store, cases: list[CaseRecord], blending: Blending
) -> tuple[SyntheticSet, ChoiceRecord, list[list[str]]]:
    """Return the slices of a set that `blending` keeps, what a run records of the choice, and a row for each sample.

    Args:
        synthetic: A set that fits the store.
        store: Real slices.
        cases: Training cases, the only ones that are looked at.
        blending: Its `keep` and `judge` say how.

    Raises:
        UserError: If the segmenter cannot be used, or nothing is left.
    """
    judge = SegmentationRun.open(blending.judge) if blending.judge else None
    table = score_samples(synthetic, store, cases, judge)
    choice = choose(table, keep=blending.keep)
    record = ChoiceRecord(
        kept=len(choice.indices),
        dropped=choice.summary(),
        hash=sha256_json([table.names[index] for index in choice.indices]),
        judge=sha256_file(judge.weights("last")) if judge else None,
    )
    return synthetic.subset(choice.indices), record, _rows(table, choice)


def write_choice(folder: Path, rows: list[list[str]]) -> None:
    """Write the rows of `choose_slices` into a run folder."""
    with atomic_file(folder / CHOICE) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["slice", "agreement", "distance", "dropped"], *rows])


def _rows(table: SampleTable, choice: Choice) -> list[list[str]]:
    agreement = [""] * len(table.names) if table.agreement is None else [f"{value:.4f}" for value in table.agreement]
    distance = [f"{value:.4f}" for value in table.distance]
    return [list(row) for row in zip(table.names, agreement, distance, choice.reasons, strict=True)]
