"""Scores of predicted label maps against reference ones, per case and class."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from synthmed.data.volumes import Source
from synthmed.errors import UserError
from synthmed.progress import Progress, silent
from synthmed.segmentation.label_maps import LabelMap, find_label_maps, labelled_dataset, read_label_map
from synthmed.segmentation.metrics import dice, relative_volume_difference, surface_distances
from synthmed.segmentation.patients import known_patients
from synthmed.segmentation.score_table import DEFAULT_TOLERANCE, Mean, Score, Scores, summarise, write_scores
from synthmed.segmentation.targets import Target, Targets, find_targets, targets_of

__all__ = [
    "DEFAULT_TOLERANCE",
    "Mean",
    "Score",
    "Scores",
    "score_case",
    "score_folders",
    "score_masks",
    "summarise",
    "write_scores",
]

_AFFINE_TOLERANCE = 1e-3


def score_folders(
    predicted: Path | str,
    reference: Path | str,
    *,
    tolerance: float = DEFAULT_TOLERANCE,
    patients: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Scores:
    """Score every predicted label map against the reference of the same name.

    Args:
        predicted: A label file or a folder of them.
        reference: The same, or a data set in any layout, whose label maps and class names are used. It may hold more
            cases.
        tolerance: Of the surface Dice, in mm (in elements for files that know no millimetres).
        patients: Patient of each case; by default what the data set says, and else each case is a patient.
        progress: Told after each case.

    Returns:
        Scores of all cases in order, and means.

    Raises:
        UserError: If a prediction has no reference, or differs from it in shape or place; if a file cannot be read.
    """
    report = progress or silent
    if not tolerance >= 0:
        raise UserError(f"--tolerance {tolerance:g}: give millimetres, 0 or more")
    predictions, dataset = find_label_maps(predicted), labelled_dataset(Path(reference))
    if dataset is None:
        references = find_label_maps(reference)
        targets = find_targets(Path(reference), next(iter(references.values())).path)
    else:
        references = {case.case: case.label for case in dataset.cases if case.label}
        targets = targets_of(dataset)
    if patients is None:
        patients = known_patients(Path(reference), dataset)
    pairs = _match(predictions, references, Path(reference))
    rows: list[Score] = []
    for number, (case, mine, theirs) in enumerate(pairs):
        report(number, len(pairs), case)
        found = score_case(case, mine, theirs, targets, tolerance=tolerance)
        rows += [row.model_copy(update={"patient": patients.get(case, "")}) for row in found]
    report(len(pairs), len(pairs), "")
    return summarise(_with_absent(rows, targets), tolerance=tolerance)


def score_case(
    case: str, predicted: Source, reference: Source, targets: Targets, *, tolerance: float = DEFAULT_TOLERANCE
) -> list[Score]:
    """Score one pair of files: what is named, and without regions any other class that one of the two holds.

    Elements whose class the reference does not know take part in nothing.
    """
    mine, theirs = read_label_map(predicted), read_label_map(reference)
    _check_same_place(mine, theirs, predicted.path, reference.path)
    known = np.ones(theirs.values.shape, bool) if targets.ignore is None else theirs.values != targets.ignore
    wanted = {target.label: target for target in targets.named}
    if not targets.regions:
        present = {int(value) for labels in (mine, theirs) for value in np.unique(labels.values[known])} - {0}
        wanted |= {label: Target(label, str(label), (label,)) for label in present - set(wanted)}
    rows = []
    for label in sorted(wanted):
        a, b = (np.isin(labels.values, wanted[label].values) & known for labels in (mine, theirs))
        row = score_masks(a, b, theirs.spacing, tolerance=tolerance, measured=theirs.affine is not None)
        rows.append(row.model_copy(update={"case": case, "label": label, "name": wanted[label].name}))
    return rows


def score_masks(
    predicted: np.ndarray,
    reference: np.ndarray,
    spacing: Sequence[float],
    *,
    tolerance: float | None = DEFAULT_TOLERANCE,
    measured: bool = True,
) -> Score:
    """Return the scores of two Boolean masks of one shape, without names.

    Args:
        predicted: The predicted mask.
        reference: The reference mask.
        spacing: Size of an element along each axis.
        tolerance: Of the surface Dice, in the unit of `spacing`; None leaves out all distances.
        measured: Whether that unit is the millimetre.
    """
    distances = None if tolerance is None else surface_distances(predicted, reference, spacing)
    mine, theirs = int(np.count_nonzero(predicted)), int(np.count_nonzero(reference))
    volumes = measured and len(spacing) == 3 and mine + theirs > 0
    return Score(
        case="",
        label=0,
        name="",
        dice=_known(dice(predicted, reference)),
        hd95=_known(distances.hausdorff()) if distances else None,
        predicted=mine,
        reference=theirs,
        surface_dice=_known(distances.surface_dice(tolerance)) if distances and tolerance is not None else None,
        volume_ml=(mine - theirs) * math.prod(spacing) / 1000.0 if volumes else None,
        volume_relative=_known(relative_volume_difference(mine, theirs)),
    )


def _match(
    predictions: dict[str, Source], references: dict[str, Source], folder: Path
) -> list[tuple[str, Source, Source]]:
    if len(predictions) == 1 and len(references) == 1 and folder.is_file():
        # Two files named one by one belong together whatever they are called.
        (case, mine), theirs = next(iter(predictions.items())), next(iter(references.values()))
        return [(case, mine, theirs)]
    missing = sorted(set(predictions) - set(references))
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(f"{folder} has no reference for {missing[0]}{more}: names of files must agree")
    return [(case, mine, references[case]) for case, mine in predictions.items()]


def _with_absent(rows: list[Score], targets: Targets) -> list[Score]:
    """Add the classes that some cases have to the cases that have them in neither map."""
    names = {row.label: row.name for row in rows} | {target.label: target.name for target in targets.named}
    by_key = {(row.case, row.label): row for row in rows}
    owner = {row.case: row.patient for row in rows}
    cases = list(dict.fromkeys(row.case for row in rows))
    return [
        by_key.get((case, label))
        or Score(
            case=case,
            label=label,
            name=names[label],
            dice=None,
            hd95=None,
            predicted=0,
            reference=0,
            patient=owner[case],
        )
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


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
