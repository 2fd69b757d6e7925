"""Scores of predicted label maps beside reference ones, case by case, grouped by patient."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from synthmed.data.formats import PictureSource, Source, ending_of, source_of
from synthmed.data.readers import Dataset, read_dataset
from synthmed.data.store import MANIFEST, read_manifest
from synthmed.errors import UserError
from synthmed.files import read_json
from synthmed.progress import Progress, silent
from synthmed.segmentation.metrics import dice, relative_volume_difference, surface_distances
from synthmed.segmentation.score_table import DEFAULT_TOLERANCE, Mean, Score, Scores, summarise, write_scores


@dataclass(frozen=True)
class LabelMap:
    """Values of one label map and where they lie.

    Attributes:
        values: Integers, `[X, Y, Z]`.
        spacing: Size of an element along each axis, in mm where the file says so.
        affine: Index to world, or None where the file type carries no geometry.
    """

    values: np.ndarray
    spacing: tuple[float, float, float]
    affine: np.ndarray | None


def find_label_maps(path: Path | str) -> dict[str, Source]:
    """Return {case: label map} of a label file, of a folder of them, or of the `labelsTr` of a data set folder.

    Raises:
        UserError: If there is none, or two files belong to one case.
    """
    path = Path(path)
    if path.is_file():
        return {_case_name(path): source_of(path, mask=True)}
    if not path.is_dir():
        raise UserError(f"{path} does not exist: give a label map or a folder of them")
    folder = path / "labelsTr" if (path / "labelsTr").is_dir() else path
    found: dict[str, Source] = {}
    for file in _image_files(folder):
        case = _case_name(file)
        if case in found:
            raise UserError(f"{file} and {found[case].path.name} are of one case: keep one of them")
        found[case] = source_of(file, mask=True)
    if not found:
        raise UserError(f"{folder} holds no label maps that can be read, as .nii.gz or .png")
    return found


def labelled_dataset(path: Path) -> Dataset | None:
    """Return the data set in a folder where its reader finds label maps beside images; else None.

    Raises:
        UserError: Why its reader fails, where the folder holds no label files of its own either.
    """
    if not path.is_dir() or (path / "labelsTr").is_dir():
        # Of the layouts with a description the label maps are enough, and their images may be elsewhere.
        return None
    try:
        dataset = read_dataset(path)
    except UserError:
        # A folder of label maps alone need not be a data set.
        if not _image_files(path):
            raise
        return None
    return dataset if any(case.label for case in dataset.cases) else None


def read_label_map(source: Source) -> LabelMap:
    """Read a label map.

    Raises:
        UserError: If it cannot be read, has channels, or holds values that are no whole numbers.
    """
    volume = source.open()
    if volume.channels != 1:
        raise UserError(f"{volume.path} has {volume.channels} channels: give one class number an element")
    values = volume.voxels()[..., 0]
    if values.dtype.kind == "f":
        whole = np.rint(values)
        if not np.array_equal(whole, values):
            raise UserError(f"{volume.path} is no label map: it holds values that are no whole numbers")
        values = whole.astype(np.int64)
    geometry = volume.geometry
    placed = None if isinstance(source, PictureSource) else np.asarray(geometry.affine)
    return LabelMap(values, geometry.zooms, placed)


def _image_files(folder: Path) -> list[Path]:
    """Return the files of a folder whose names end as those of images do, sorted."""
    files = (file for file in folder.iterdir() if not file.name.startswith(".") and file.is_file())
    return sorted(file for file in files if ending_of(file.name) is not None)


def _case_name(path: Path) -> str:
    """Return the file's name without the ending of an image format."""
    return path.name.removesuffix(ending_of(path.name) or path.suffix)


def find_patients(source: Path | str | None, reference: Path | str) -> dict[str, str]:
    """Return the patient of each case, as far as it is known.

    Args:
        source: A store, or a JSON file of `{"case": "patient"}`; None to ask the reference.
        reference: What is scored against. Of a data set its reader knows the patients; of label files nobody does.

    Raises:
        UserError: If `source` is neither.
    """
    if source is None:
        return known_patients(Path(reference), labelled_dataset(Path(reference)))
    source = Path(source)
    if (source / MANIFEST).is_file():
        return {case.case: case.patient for case in read_manifest(source).cases}
    if source.is_dir():
        raise UserError(f"--patients {source} is no store: give a store, or a JSON file of case and patient")
    content = read_json(source)
    if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
        raise UserError(f'--patients {source} must be {{"case": "patient"}}, names as text: mend it')
    return content


def known_patients(folder: Path, dataset: Dataset | None) -> dict[str, str]:
    """Return the patient of each case of what is scored against; nothing where nobody says.

    Args:
        folder: Where it is.
        dataset: What `labelled_dataset` found there.
    """
    if dataset is None and (folder / "labelsTr").is_dir():
        try:
            dataset = read_dataset(folder)
        except UserError:
            # The images of a data set with a description may be elsewhere; its label maps are enough.
            return {}
    return {} if dataset is None else {case.case: case.patient for case in dataset.cases}


DESCRIPTION = "dataset.json"


@dataclass(frozen=True)
class Target:
    """One class or region.

    Attributes:
        label: Number by which it is known in a table: the class's value, or the region's place in their order from 1.
        name: Its name.
        values: The values in the label files that it is made of.
    """

    label: int
    name: str
    values: tuple[int, ...]


@dataclass(frozen=True)
class Targets:
    """All that a description names.

    Attributes:
        named: Classes or regions.
        regions: Whether they are regions, which share values.
        ignore: Value in the reference that means "not known"; None where there is none.
    """

    named: tuple[Target, ...] = ()
    regions: bool = False
    ignore: int | None = None


def find_targets(reference: Path, first: Path) -> Targets:
    """Return what the description names that lies nearest to a folder of label files; nothing where there is none.

    Args:
        reference: The folder, or a data set with `labelsTr`.
        first: One of its label files.
    """
    folders = [reference, reference.parent, first.parent.parent]
    path = next((folder / DESCRIPTION for folder in folders if (folder / DESCRIPTION).is_file()), None)
    content = read_json(path) if path else {}
    labels = content.get("labels") if isinstance(content, dict) else None
    return _targets(labels) if isinstance(labels, dict) else Targets()


def targets_of(dataset: Dataset) -> Targets:
    """Return what a data set names, as its reader understood it."""
    classes = {name: (value,) for name, value in zip(dataset.classes[1:], dataset.label_values[1:], strict=True)}
    named = tuple(
        Target(number if dataset.regions else values[0], name, values)
        for number, (name, values) in enumerate((dataset.regions or classes).items(), start=1)
    )
    return Targets(named, bool(dataset.regions), dataset.ignore_value)


def _targets(labels: dict[str, Any]) -> Targets:
    # Medical Segmentation Decathlon writes {"1": "name"}, nnU-Net {"name": 1}, or {"name": [1, 2]} for a region.
    pairs = [(str(value), _whole([key])) if key.isdecimal() else (key, _whole(value)) for key, value in labels.items()]
    ignore = next((values[0] for name, values in pairs if name == "ignore" and len(values) == 1), None)
    kept = [(name, values) for name, values in pairs if values and values != (0,) and name != "ignore"]
    regions = any(len(values) > 1 for _, values in kept)
    named = tuple(
        Target(number if regions else values[0], name, values) for number, (name, values) in enumerate(kept, start=1)
    )
    return Targets(named, regions, ignore)


def _whole(value: Any) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(int(one) for one in values) if all(str(one).isdecimal() for one in values) else ()


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
