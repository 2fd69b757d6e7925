"""Tables of scores, and intervals over patients by the bootstrap."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from synthmed.errors import UserError
from synthmed.files import atomic_file, write_json

DEFAULT_TOLERANCE = 1.0
"""Of the surface Dice, mm: a voxel of what MR and CT are commonly drawn on, below which two careful people differ; and
what the Medical Segmentation Decathlon takes for the hippocampus. Larger organs deserve more."""


class Score(BaseModel):
    """One class of one case.

    Attributes:
        case: Name of the case.
        label: Value of the class in the label files; of a region, its place in the data set's order, from 1.
        name: Name of the class, or its value as text where nobody says.
        dice: Dice similarity in 0..1; None where the class is in neither map.
        hd95: 95th percentile of the Hausdorff distance in mm; None where the class is in neither map.
        predicted: Elements of the class in the prediction.
        reference: Elements of the class in the reference.
        patient: Whose case it is; empty where nobody says, and the case then counts as a patient.
        surface_dice: Surface Dice in 0..1 at the tolerance of the table; None where the class is in neither map.
        volume_ml: Predicted volume minus the reference's, in ml; None for files that know no millimetres, and where
            the class is in neither map.
        volume_relative: The same as a share of the reference's volume; None where the reference has none.
    """

    model_config = ConfigDict(frozen=True)

    case: str
    label: int
    name: str
    dice: float | None
    hd95: float | None
    predicted: int
    reference: int
    patient: str = ""
    surface_dice: float | None = None
    volume_ml: float | None = None
    volume_relative: float | None = None


class Mean(BaseModel):
    """Means over patients of one class, or over classes; a patient with several cases counts once, by their mean.

    Attributes:
        name: Name of the class, or "mean".
        dice: Mean Dice; None where no case has the class.
        hd95: Mean HD95 in mm; None where no case has the class.
        cases: Cases that took part.
        absent: Cases left out because the class is in neither map.
        missed: Cases where the class is in one map only: Dice and surface Dice 0, HD95 the image's diagonal.
        patients: Patients that took part.
        surface_dice: Mean surface Dice.
        volume_ml: Mean size of the volume difference in ml, whether too large or too small.
        volume_relative: Mean size of the relative volume difference.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    dice: float | None
    hd95: float | None
    cases: int
    absent: int
    missed: int
    patients: int = 0
    surface_dice: float | None = None
    volume_ml: float | None = None
    volume_relative: float | None = None


class Scores(BaseModel):
    """All scores of a set, the means of each class, the mean of these means, and the surface Dice's tolerance (mm)."""

    model_config = ConfigDict(frozen=True)

    scores: list[Score]
    classes: list[Mean]
    overall: Mean
    tolerance: float = DEFAULT_TOLERANCE


def summarise(rows: list[Score], *, tolerance: float = DEFAULT_TOLERANCE) -> Scores:
    """Return the rows with the mean of each class over patients, and the mean over classes."""
    labels = {row.label: row.name for row in sorted(rows, key=lambda row: row.label)}
    classes = [_mean(name, [row for row in rows if row.label == label]) for label, name in labels.items()]
    overall = Mean(
        name="mean",
        dice=average([mean.dice for mean in classes]),
        hd95=average([mean.hd95 for mean in classes]),
        surface_dice=average([mean.surface_dice for mean in classes]),
        volume_ml=average([mean.volume_ml for mean in classes]),
        volume_relative=average([mean.volume_relative for mean in classes]),
        patients=len({row.patient or row.case for row in rows}),
        cases=len({row.case for row in rows}),
        absent=sum(mean.absent for mean in classes),
        missed=sum(mean.missed for mean in classes),
    )
    return Scores(scores=rows, classes=classes, overall=overall, tolerance=tolerance)


def write_scores(scores: Scores, path: Path | str) -> None:
    """Write all scores as CSV (a row a case and class) or, with the means, as JSON, as the suffix of `path` says.

    Raises:
        UserError: If the suffix is neither.
    """
    path = Path(path)
    if path.suffix == ".json":
        write_json(path, scores.model_dump())
    elif path.suffix == ".csv":
        rows: list[dict[str, Any]] = [row.model_dump() for row in scores.scores]
        with atomic_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(Score.model_fields))
            writer.writeheader()
            writer.writerows(rows)
    else:
        raise UserError(f"{path} has no suffix that scores are written as: choose .csv or .json")


def _mean(name: str, rows: list[Score]) -> Mean:
    taking_part = [row for row in rows if row.dice is not None]
    return Mean(
        name=name,
        dice=_by_patient(rows, [row.dice for row in rows]),
        hd95=_by_patient(rows, [row.hd95 for row in rows]),
        surface_dice=_by_patient(rows, [row.surface_dice for row in rows]),
        volume_ml=_by_patient(rows, [_size(row.volume_ml) for row in rows]),
        volume_relative=_by_patient(rows, [_size(row.volume_relative) for row in rows]),
        patients=len({row.patient or row.case for row in taking_part}),
        cases=len(taking_part),
        absent=len(rows) - len(taking_part),
        missed=sum((row.predicted == 0) != (row.reference == 0) for row in rows),
    )


def _by_patient(rows: list[Score], values: list[float | None]) -> float | None:
    """Return the mean over patients of the mean over each one's cases; unknown values are left out."""
    of_patient: dict[str, list[float | None]] = {}
    for row, value in zip(rows, values, strict=True):
        of_patient.setdefault(row.patient or row.case, []).append(value)
    return average([average(own) for own in of_patient.values()])


def average(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are known; None where none is."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _size(value: float | None) -> float | None:
    return None if value is None else abs(value)


RESAMPLES = 4000


class Interval(BaseModel):
    """A figure and how sure it is.

    Attributes:
        value: The figure of the data as they are.
        low: Lower end of the 95 % interval.
        high: Upper end.
        error: Standard error: standard deviation over the resamples.
    """

    model_config = ConfigDict(frozen=True)

    value: float
    low: float
    high: float
    error: float


def mean_dice(values: np.ndarray, repetitions: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Return the mean over classes of the weighted mean over patients and repetitions, `[resamples]`.

    Args:
        values: `[repetitions, patients, classes]`; NaN where a patient has nothing of a class, which is left out.
        repetitions: Weights `[resamples, repetitions]`.
        patients: Weights `[resamples, patients]`.
    """
    known = ~np.isnan(values)
    sums, counts = (
        np.einsum("bp,bpc->bc", patients, np.tensordot(repetitions, part, axes=1))
        for part in (np.where(known, values, 0.0), known.astype(float))
    )
    seen = counts > 0
    means = np.divide(sums, counts, out=np.zeros_like(sums), where=seen)
    return np.divide(means.sum(1), seen.sum(1), out=np.full(len(means), np.nan), where=seen.any(1))


def difference(
    values: np.ndarray, base: np.ndarray, *, draws: Sequence[int], seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Return how much higher the mean of `values` is than that of `base`, with a 95 % percentile interval.

    Args:
        values: `[repetitions, patients, classes]`, NaN where a patient has nothing of a class.
        base: The same of what is compared with, in the same order.
        draws: Of each repetition, which draw of training patients it is of. Where there are several, whole draws are
            resampled with all their seeds; else seeds are. A single repetition says nothing of how others would be:
            the interval is then over patients alone.
        seed: Of the resampling.
        resamples: How many.
    """
    random = np.random.default_rng(seed)
    repetitions = _repetition_weights(np.asarray(draws), random, resamples)
    patients = _weights(values.shape[1], random, resamples)
    plain = np.ones((1, len(draws))), np.ones((1, values.shape[1]))
    found = mean_dice(values, repetitions, patients) - mean_dice(base, repetitions, patients)
    found = found[~np.isnan(found)]
    low, high = np.percentile(found, (2.5, 97.5)) if len(found) else (np.nan, np.nan)
    value = mean_dice(values, *plain)[0] - mean_dice(base, *plain)[0]
    return Interval(value=float(value), low=float(low), high=float(high), error=float(found.std()))


def _repetition_weights(draws: np.ndarray, random: np.random.Generator, resamples: int) -> np.ndarray:
    names, owner = np.unique(draws, return_inverse=True)
    if len(names) > 1:
        return _weights(len(names), random, resamples)[:, owner]
    return _weights(len(draws), random, resamples)


def _weights(units: int, random: np.random.Generator, resamples: int) -> np.ndarray:
    """Return how often each unit is drawn, float `[resamples, units]`."""
    drawn = random.multinomial(max(units - 1, 1), np.full(units, 1.0 / units), size=resamples)
    return drawn.astype(float)
