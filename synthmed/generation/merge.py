"""A ready nnU-Net training set of real and synthetic cases, in which no fold validates on a synthetic one."""

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthmed.data.formats import NiftiSource, Source, Volume
from synthmed.data.inspect import fingerprint, refuse_problems
from synthmed.data.readers import CaseFiles, Dataset, read_dataset
from synthmed.data.schema import Geometry
from synthmed.data.slicing import as_nifti
from synthmed.errors import UserError
from synthmed.files import read_json, write_json
from synthmed.generation.writers import FOLDS
from synthmed.progress import Progress, silent

if TYPE_CHECKING:
    from synthmed.generation.info import GeneratorInfo

_CHECKSUM, _EXTRA, _NAME, _COMMENT = 2, 4, 8, 16
_FREE_TEXT = ("descrip", "aux_file", "intent_name", "db_name", "data_type")


def file_names(dataset: Dataset) -> dict[str, str]:
    """Return the name of each case's files: the case's own where that can be a file name.

    Raises:
        UserError: If two cases would have the same.
    """
    names = {case.case: re.sub(r"[^\w.+=-]", "_", case.case).lstrip(".") or "_" for case in dataset.cases}
    first: dict[str, str] = {}
    for case, name in names.items():
        if first.setdefault(name, case) != case:
            raise UserError(f"{dataset.path}: the cases {first[name]} and {case} would both be {name}: rename one")
    return names


def write_real_case(case: CaseFiles, dataset: Dataset, folder: Path, *, name: str) -> None:
    """Write a case's channels and label map with its own geometry.

    A NIfTI file that needs no change is copied, unless its header holds words: they may name a patient, as may the name
    that gzip keeps of the file, which is left out. All files of
    the case get the geometry of its first channel, since nnU-Net refuses what differs in the last digit.

    Args:
        case: The case.
        dataset: The set that it is of.
        folder: With `imagesTr` and `labelsTr`.
        name: Of the files.

    Raises:
        UserError: If a file cannot be read, the case has other channels than the set, or an unknown label value.
    """
    geometry = case.images[0].open().geometry
    number = 0
    for source in case.images:
        volume = source.open()
        targets = [
            folder / "imagesTr" / f"{name}_{channel:04d}.nii.gz" for channel in range(number, number + volume.channels)
        ]
        number += volume.channels
        if volume.channels == 1 and _can_be_copied(source, volume, geometry):
            _copy(source.path, targets[0])
            continue
        voxels = volume.voxels()
        for channel, target in enumerate(targets):
            save(voxels[..., channel], geometry, target)
    if number != len(dataset.channels):
        raise UserError(f"{case.images[0].path} has {number} channels, the data set {len(dataset.channels)}")
    _write_label(case, dataset, geometry, folder / "labelsTr" / f"{name}.nii.gz")


def save(array: np.ndarray, geometry: Geometry, target: Path) -> None:
    """Write an array `[X, Y, Z]` as NIfTI with a geometry; numbers of a type that NIfTI readers refuse become smaller.

    Voxels of 64 bits are 32 bits on disk, where they fit, else float64.
    """
    import nibabel

    if array.dtype in (np.int64, np.uint64):
        fits = array.size == 0 or (array.min() >= -(2**31) and array.max() < 2**31)
        array = array.astype(np.int32 if fits else np.float64)
    nibabel.save(as_nifti(array, geometry), target)


def _write_label(case: CaseFiles, dataset: Dataset, geometry: Geometry, target: Path) -> None:
    if case.label is None:
        raise UserError(f"{dataset.path}: case {case.case} has no label: add it or remove the image")
    volume = case.label.open()
    table = {value: index for index, value in enumerate(dataset.label_values)}
    if dataset.ignore_value is not None:
        table[dataset.ignore_value] = len(dataset.label_values)
    unchanged = all(value == index for value, index in table.items())
    if unchanged and volume.geometry.dtype == "uint8" and _can_be_copied(case.label, volume, geometry):
        _copy(case.label.path, target)
        return
    values = volume.voxels()[..., 0]
    indices = np.zeros(values.shape, np.uint8)
    known = np.zeros(values.shape, bool)
    for value, index in table.items():
        here = values == value
        indices[here] = index
        known |= here
    if not known.all():
        raise UserError(f"{case.label.path} has the value {values[~known][0]}, which the data set does not name")
    save(indices, geometry, target)


def _can_be_copied(source: Source, volume: Volume, geometry: Geometry) -> bool:
    if not isinstance(source, NiftiSource) or not source.path.name.endswith(".nii.gz"):
        return False
    # Both of the header's places have to agree, for readers differ in which of them they use.
    same_place = volume.geometry.model_copy(update={"dtype": geometry.dtype}) == geometry
    return same_place and _is_plain(source.path)


def _copy(path: Path, target: Path) -> None:
    """Copy a gzip file without the name and the day of the file that was compressed, which its header keeps.

    Source: RFC 1952, 2.3.
    """
    with path.open("rb") as given, target.open("wb") as made:
        header = given.read(10)
        flags = header[3]
        if flags & _EXTRA:
            given.read(int.from_bytes(given.read(2), "little"))
        for text in (_NAME, _COMMENT):
            while flags & text and given.read(1) not in (b"\0", b""):
                pass
        if flags & _CHECKSUM:
            given.read(2)
        made.write(header[:3] + bytes(5) + header[8:])
        shutil.copyfileobj(given, made)


def _is_plain(path: Path) -> bool:
    """Return whether a NIfTI file is single, three-dimensional and has no words in its header."""
    import nibabel

    image: Any = nibabel.load(path)
    words = any(np.asarray(image.header[field]).tobytes().strip(b"\0 ") for field in _FREE_TEXT)
    return isinstance(image, nibabel.Nifti1Image) and image.ndim == 3 and not words and not image.header.extensions


def mergeable(path: Path, info: "GeneratorInfo", *, format: str, progress: Progress = silent) -> Dataset:
    """Return the real data set, if it is sound and the generator's cases can stand beside its own.

    Raises:
        UserError: If it is no data set, has any problem that `inspect` finds, or channels or classes differ from the
            generator's.
    """
    if format != "nnunet":
        raise UserError(f"--merge-with writes an nnU-Net training set: leave out --format {format}")
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
