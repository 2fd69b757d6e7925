"""A ready nnU-Net training set of real and synthetic cases, in which no fold validates on a synthetic one."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthmed.data.inspect import fingerprint, refuse_problems
from synthmed.data.readers import CaseFiles, Dataset, read_dataset
from synthmed.errors import UserError
from synthmed.files import read_json, write_json
from synthmed.generation.realcases import file_names, write_real_case
from synthmed.generation.writers import FOLDS
from synthmed.progress import Progress, silent

if TYPE_CHECKING:
    from synthmed.generation.info import BundleInfo


def mergeable(path: Path, info: "BundleInfo", *, fmt: str, progress: Progress = silent) -> Dataset:
    """Return the real data set, if it is sound and the generator's cases can stand beside its own.

    Raises:
        UserError: If it is no data set, has any problem that `inspect` finds, or channels or classes differ from the
            generator's.
    """
    if fmt != "nnunet":
        raise UserError(f"--merge-with writes an nnU-Net training set: leave out --format {fmt}")
    dataset = read_dataset(path)
    if info.variant == "mask":
        raise UserError(
            f"{info.name} draws label maps alone, --merge-with needs images: use a 'base' or 'cond' generator"
        )
    for what, theirs, ours in (
        ("channels", dataset.channels, info.channels),
        ("classes", dataset.classes, info.classes),
    ):
        if tuple(theirs) != tuple(ours):
            raise UserError(f"{path} has the {what} {', '.join(theirs)}; {info.name} draws {', '.join(ours)}")
    if not dataset.labelled:
        raise UserError(f"{path} has no label maps: --merge-with needs a labelled set")
    file_names(dataset)
    refuse_problems(fingerprint(dataset, progress=progress), path)
    return dataset


def merge(dataset: Dataset, folder: Path, *, progress: Progress = silent) -> None:
    """Add the real cases to a set of synthetic ones that `NnUnetWriter` wrote, and write its splits anew.

    Label values become class indices, as in the synthetic cases and as nnU-Net asks; what is not known gets the value
    after them.

    Args:
        dataset: The real data set.
        folder: The synthetic set.
        progress: Told how many real cases are written.

    Raises:
        UserError: If a real file cannot be read, or a real case has the name of a synthetic one.
    """
    synthetic = sorted(path.name.removesuffix(".nii.gz") for path in (folder / "labelsTr").iterdir())
    taken = set(synthetic)
    names = file_names(dataset)
    for number, case in enumerate(dataset.cases):
        if names[case.case] in taken:
            raise UserError(f"{dataset.path} has a case named {case.case}, as a synthetic one is: use another --seed")
        write_real_case(case, dataset, folder, name=names[case.case])
        progress(number + 1, len(dataset.cases), f"real case {case.case}")
    description = read_json(folder / "dataset.json")
    description |= label_description(dataset)
    description["numTraining"] = len(synthetic) + len(dataset.cases)
    description["licence"] = dataset.licence
    description["description"] = (
        f"{len(dataset.cases)} real cases of {dataset.name} and {len(synthetic)} synthetic ones"
    )
    write_json(folder / "dataset.json", description)
    write_json(folder / "splits_final.json", splits(dataset.cases, synthetic, names))


def label_description(dataset: Dataset) -> dict[str, Any]:
    """Return what nnU-Net's dataset.json says of labels, once values are class indices.

    Source: nnU-Net's documentation, region_based_training.md and ignore_label.md.
    """
    index_of = {value: index for index, value in enumerate(dataset.label_values)}
    described: dict[str, Any] = {"labels": {name: index for index, name in enumerate(dataset.classes)}}
    if dataset.regions:
        regions = {name: [index_of[value] for value in values] for name, values in dataset.regions.items()}
        described = {
            "labels": {dataset.classes[0]: 0, **{name: _one_or_all(values) for name, values in regions.items()}},
            "regions_class_order": _class_order(list(regions.values())),
        }
    if dataset.ignore_value is not None:
        described["labels"]["ignore"] = len(dataset.label_values)
    return described


def splits(
    real: list[CaseFiles], synthetic: list[str], names: dict[str, str] | None = None
) -> list[dict[str, list[str]]]:
    """Return nnU-Net's folds: patients are kept together, synthetic cases are in training alone.

    Args:
        real: The real cases.
        synthetic: Names of the synthetic ones.
        names: Name of each real case's files; its own by default.
    """
    patients = list(dict.fromkeys(case.patient for case in real))
    count = min(FOLDS, len(patients))
    fold_of = {patient: number % count for number, patient in enumerate(patients)}
    named = names or {case.case: case.case for case in real}
    return [
        {
            "train": [named[case.case] for case in real if fold_of[case.patient] != fold] + synthetic,
            "val": [named[case.case] for case in real if fold_of[case.patient] == fold],
        }
        for fold in range(count)
    ]


def _one_or_all(values: list[int]) -> int | list[int]:
    return values[0] if len(values) == 1 else values


def _class_order(regions: list[list[int]]) -> list[int]:
    """Return the class that each region stands for: one that no later region, which is drawn over it, holds."""
    order = []
    for number, region in enumerate(regions):
        later = {value for other in regions[number + 1 :] for value in other}
        order.append(next((value for value in region if value not in later), region[0]))
    return order
