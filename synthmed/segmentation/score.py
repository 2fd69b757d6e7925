"""Scores of predicted label maps against reference ones, per case and class, and their means."""

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from synthmed.errors import UserError
from synthmed.files import atomic_file, write_json
from synthmed.progress import Progress, silent
from synthmed.segmentation.label_maps import LabelMap, find_label_maps, read_label_map
from synthmed.segmentation.metrics import dice, hausdorff_95
from synthmed.segmentation.targets import Target, Targets, find_targets

_AFFINE_TOLERANCE = 1e-3


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
    """

    model_config = ConfigDict(frozen=True)

    case: str
    label: int
    name: str
    dice: float | None
    hd95: float | None
    predicted: int
    reference: int


class Mean(BaseModel):
    """Means over cases of one class, or over classes.

    Attributes:
        name: Name of the class, or "mean".
        dice: Mean Dice; None where no case has the class.
        hd95: Mean HD95 in mm; None where no case has the class.
        cases: Cases that took part.
        absent: Cases left out because the class is in neither map.
        missed: Cases where the class is in one map only: Dice 0, HD95 the image's diagonal.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    dice: float | None
    hd95: float | None
    cases: int
    absent: int
    missed: int


class Scores(BaseModel):
    """All scores of a set, the means of each class, and the mean of these means."""

    model_config = ConfigDict(frozen=True)

    scores: list[Score]
    classes: list[Mean]
    overall: Mean


def score_folders(predicted: Path | str, reference: Path | str, *, progress: Progress | None = None) -> Scores:
    """Score every predicted label map against the reference of the same name.

    Args:
        predicted: A label file or a folder of them.
        reference: The same, or a data set folder, whose `labelsTr` and class names are used.
        progress: Told after each case.

    Raises:
        UserError: If a reference is missing, a file cannot be read, or two maps differ in shape or position.
    """
    report = progress or silent
    predictions, references = find_label_maps(predicted), find_label_maps(reference)
    pairs = _match(predictions, references, Path(reference))
    targets = find_targets(Path(reference), next(iter(references.values())))
    rows: list[Score] = []
    for number, (case, mine, theirs) in enumerate(pairs):
        report(number, len(pairs), case)
        rows += score_case(case, mine, theirs, targets)
    report(len(pairs), len(pairs), "")
    return summarise(_with_absent(rows, targets))


def score_case(case: str, predicted: Path, reference: Path, targets: Targets) -> list[Score]:
    """Score one pair of files: what is named, and without regions any other class that one of the two holds.

    Elements whose class the reference does not know take part in nothing.
    """
    mine, theirs = read_label_map(predicted), read_label_map(reference)
    _check_same_place(mine, theirs, predicted, reference)
    known = np.ones(theirs.values.shape, bool) if targets.ignore is None else theirs.values != targets.ignore
    wanted = {target.label: target for target in targets.named}
    if not targets.regions:
        present = {int(value) for labels in (mine, theirs) for value in np.unique(labels.values[known])} - {0}
        wanted |= {label: Target(label, str(label), (label,)) for label in present - set(wanted)}
    rows = []
    for label in sorted(wanted):
        a, b = (np.isin(labels.values, wanted[label].values) & known for labels in (mine, theirs))
        overlap, distance = dice(a, b), hausdorff_95(a, b, theirs.spacing)
        rows.append(
            Score(
                case=case,
                label=label,
                name=wanted[label].name,
                dice=None if math.isnan(overlap) else overlap,
                hd95=None if math.isnan(distance) else distance,
                predicted=int(np.count_nonzero(a)),
                reference=int(np.count_nonzero(b)),
            )
        )
    return rows


def summarise(rows: list[Score]) -> Scores:
    """Return the rows with the mean of each class over cases, and the mean over classes."""
    labels = {row.label: row.name for row in sorted(rows, key=lambda row: row.label)}
    classes = [_mean(name, [row for row in rows if row.label == label]) for label, name in labels.items()]
    overall = Mean(
        name="mean",
        dice=_average([mean.dice for mean in classes]),
        hd95=_average([mean.hd95 for mean in classes]),
        cases=len({row.case for row in rows}),
        absent=sum(mean.absent for mean in classes),
        missed=sum(mean.missed for mean in classes),
    )
    return Scores(scores=rows, classes=classes, overall=overall)


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


def _match(predictions: dict[str, Path], references: dict[str, Path], folder: Path) -> list[tuple[str, Path, Path]]:
    if len(predictions) == 1 and len(references) == 1 and folder.is_file():
        # Two files named one by one belong together whatever they are called.
        (case, mine), theirs = next(iter(predictions.items())), next(iter(references.values()))
        return [(case, mine, theirs)]
    missing = sorted(set(predictions) - set(references))
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(f"{folder} has no reference for {missing[0]}{more}: names of files must agree")
    return [(case, path, references[case]) for case, path in predictions.items()]


def _with_absent(rows: list[Score], targets: Targets) -> list[Score]:
    """Add the classes that some cases have to the cases that have them in neither map."""
    names = {row.label: row.name for row in rows} | {target.label: target.name for target in targets.named}
    by_key = {(row.case, row.label): row for row in rows}
    cases = list(dict.fromkeys(row.case for row in rows))
    return [
        by_key.get((case, label))
        or Score(case=case, label=label, name=names[label], dice=None, hd95=None, predicted=0, reference=0)
        for case in cases
        for label in sorted(names)
    ]


def _check_same_place(mine: LabelMap, theirs: LabelMap, predicted: Path, reference: Path) -> None:
    if mine.values.shape != theirs.values.shape:
        raise UserError(
            f"{predicted} has shape {mine.values.shape}, its reference {reference} {theirs.values.shape}: "
            "predict in the source's geometry or resample it"
        )
    if mine.affine is None or theirs.affine is None:
        return
    if not np.allclose(mine.affine, theirs.affine, atol=_AFFINE_TOLERANCE):
        raise UserError(f"{predicted} and its reference {reference} lie at different places in space (affines differ)")


def _mean(name: str, rows: list[Score]) -> Mean:
    return Mean(
        name=name,
        dice=_average([row.dice for row in rows]),
        hd95=_average([row.hd95 for row in rows]),
        cases=sum(row.dice is not None for row in rows),
        absent=sum(row.dice is None for row in rows),
        missed=sum((row.predicted == 0) != (row.reference == 0) for row in rows),
    )


def _average(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
