"""Scores of a trained U-Net on the whole cases of a store."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from synthmed.data.schema import IGNORE, CaseRecord, Split
from synthmed.data.store import Store
from synthmed.files import read_json, write_json
from synthmed.segmentation.postprocess import Flips, largest_components
from synthmed.segmentation.predict import load_predictor, predict, store_slices
from synthmed.segmentation.run import SegmentationRun
from synthmed.segmentation.score import score_folders, score_masks
from synthmed.segmentation.score_table import DEFAULT_TOLERANCE, Score

SCORES = "scores.json"
_AXES = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}


@dataclass(frozen=True)
class StoreScoring:
    """What of a trained network is scored, and how.

    Attributes:
        split: Which cases of the store.
        reference: Data set or folder of label maps to score against in the geometry of the source; None to score in
            that of the store, as prepared slices.
        flips: See `predict`.
        largest_component: See `predict`.
        tolerance: Of the surface Dice, mm; None leaves distances out where the store is scored: they
            take longer than the prediction.
    """

    split: Split
    reference: Path | None = None
    flips: Flips = "none"
    largest_component: bool = False
    tolerance: float | None = DEFAULT_TOLERANCE


def kept_scores(run: SegmentationRun, store: Store, scoring: StoreScoring) -> list[Score]:
    """Return what `score_store` does, from the run's folder where it has been found in the same way already."""
    how = asdict(scoring) | {
        "reference": str(scoring.reference.resolve()) if scoring.reference else None,
        "store": store.content_hash,
    }
    path = run.path / SCORES
    kept = read_json(path) if path.is_file() else {}
    if kept.get("how") == how:
        return read_scores(run)
    rows = score_store(run, store, scoring)
    write_json(path, {"how": how, "scores": [row.model_dump() for row in rows]})
    return rows


def read_scores(run: SegmentationRun) -> list[Score]:
    """Return the scores that `kept_scores` left in a run's folder."""
    return [Score.model_validate(row) for row in read_json(run.path / SCORES)["scores"]]


def score_store(run: SegmentationRun, store: Store, scoring: StoreScoring) -> list[Score]:
    """Return the scores of each case and each foreground class.

    Args:
        run: A trained U-Net that fits the store.
        store: Where the cases are.
        scoring: Which of them, and how.
    """
    split, tolerance = scoring.split, scoring.tolerance
    if scoring.reference is not None:
        owners = {case.case: case.patient for case in store.cases(split)}
        with TemporaryDirectory() as folder:
            out = Path(folder) / "predicted"
            predict(run, store.path, out, split=split, flips=scoring.flips, largest_component=scoring.largest_component)
            measured = DEFAULT_TOLERANCE if tolerance is None else tolerance
            return score_folders(out, scoring.reference, tolerance=measured, patients=owners).scores
    predictor = load_predictor(run, flips=scoring.flips)
    rows = []
    for case, slices in zip(store.cases(split), store_slices(store, split), strict=True):
        labels = store.labels(np.arange(case.first, case.first + case.slices))
        predicted = predictor(slices.images).argmax(-1)
        predicted = largest_components(predicted) if scoring.largest_component else predicted
        rows += _score(case, np.where(labels == IGNORE, IGNORE, predicted), labels, store, tolerance)
    return rows


def patient_dice(repetitions: Sequence[Sequence[Score]]) -> tuple[np.ndarray, list[str]]:
    """Return Dice as `[repetitions, patients, classes]` and the patients' names, sorted.

    NaN where no case of a patient has a class in either map; of several cases the mean. Classes are in the order of
    their labels.
    """
    patients = sorted({row.patient or row.case for rows in repetitions for row in rows})
    labels = sorted({row.label for rows in repetitions for row in rows})
    shape = (len(repetitions), len(patients), len(labels))
    sums, counts = np.zeros(shape), np.zeros(shape)
    for number, rows in enumerate(repetitions):
        for row in rows:
            if row.dice is not None:
                place = number, patients.index(row.patient or row.case), labels.index(row.label)
                sums[place] += row.dice
                counts[place] += 1
    return np.divide(sums, counts, out=np.full(shape, np.nan), where=counts > 0), patients


def slice_distance(case: CaseRecord) -> float:
    """Return the distance between neighbouring slices of a case, in the source's units of length."""
    axis = [_AXES[letter] for letter in case.placement.source_orientation].index(_AXES[case.placement.orientation[2]])
    return float(np.linalg.norm(np.asarray(case.geometry.affine)[:3, axis]))


def _score(
    case: CaseRecord, predicted: np.ndarray, labels: np.ndarray, store: Store, tolerance: float | None
) -> list[Score]:
    spacing = (slice_distance(case), *store.spacing)
    return [
        score_masks(predicted == index, labels == index, spacing, tolerance=tolerance).model_copy(
            update={"case": case.case, "patient": case.patient, "label": index, "name": name}
        )
        for index, name in enumerate(store.classes)
        if index > 0
    ]
