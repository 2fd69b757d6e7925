"""A ready nnU-Net training set of real and synthetic cases, in which no fold validates on a synthetic one."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthmed.data.readers import CaseFiles, Dataset, read_dataset
from synthmed.errors import UserError
from synthmed.files import read_json, write_json
from synthmed.progress import Progress, silent

if TYPE_CHECKING:
    from synthmed.generation.info import BundleInfo

FOLDS = 5


def mergeable(path: Path, info: "BundleInfo", *, fmt: str) -> Dataset:
    """Return the real data set, if the generator's cases can stand beside its own.

    Raises:
        UserError: If it is no data set, a case has no label, or channels or classes differ from the generator's.
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
    for case in dataset.cases:
        if case.label is None:
            raise UserError(f"{path}: case {case.case} has no label: add it or remove the image")
    return dataset


def merge(dataset: Dataset, folder: Path, *, progress: Progress = silent) -> None:
    """Add the real cases to a set of synthetic ones that `NnUnetWriter` wrote, and write its splits anew.

    Label values become class indices, as in the synthetic cases and as nnU-Net asks. Files that need no change are
    copied as they are.

    Args:
        dataset: The real data set.
        folder: The synthetic set.
        progress: Told how many real cases are written.

    Raises:
        UserError: If a real file cannot be read, or a real case has the name of a synthetic one.
    """
    synthetic = sorted(path.name.removesuffix(".nii.gz") for path in (folder / "labelsTr").iterdir())
    for number, case in enumerate(dataset.cases):
        if case.case in synthetic:
            raise UserError(f"{dataset.path} has a case named {case.case}, as a synthetic one is: use another --seed")
        _copy_images(case, folder, channels=len(dataset.channels))
        _copy_label(case, folder, dataset.label_values)
        progress(number + 1, len(dataset.cases), f"real case {case.case}")
    description = read_json(folder / "dataset.json")
    description["numTraining"] = len(synthetic) + len(dataset.cases)
    description["licence"] = dataset.licence
    description["description"] = (
        f"{len(dataset.cases)} real cases of {dataset.name} and {len(synthetic)} synthetic ones"
    )
    write_json(folder / "dataset.json", description)
    write_json(folder / "splits_final.json", splits(dataset.cases, synthetic))


def splits(real: list[CaseFiles], synthetic: list[str]) -> list[dict[str, list[str]]]:
    """Return nnU-Net's folds: patients are kept together, synthetic cases are in training alone."""
    patients = list(dict.fromkeys(case.patient for case in real))
    count = min(FOLDS, len(patients))
    fold_of = {patient: number % count for number, patient in enumerate(patients)}
    return [
        {
            "train": [case.case for case in real if fold_of[case.patient] != fold] + synthetic,
            "val": [case.case for case in real if fold_of[case.patient] == fold],
        }
        for fold in range(count)
    ]


def _copy_images(case: CaseFiles, folder: Path, *, channels: int) -> None:
    targets = [folder / "imagesTr" / f"{case.case}_{channel:04d}.nii.gz" for channel in range(channels)]
    if len(case.images) == channels and all(source.path.name.endswith(".nii.gz") for source in case.images):
        sources = [_opened(source.path) for source in case.images]
        if all(source.ndim < 4 for source in sources):
            for source, target in zip(case.images, targets, strict=True):
                shutil.copyfile(source.path, target)
            return
    volumes = [_opened(source.path) for source in case.images]
    planes = [(volume, channel) for volume in volumes for channel in range(volume.shape[3] if volume.ndim > 3 else 1)]
    if len(planes) != channels:
        raise UserError(f"{case.images[0].path} has {len(planes)} channels, the data set {channels}")
    for (volume, channel), target in zip(planes, targets, strict=True):
        _save(volume, _voxels(volume, case.images[0].path)[..., channel], target)


def _copy_label(case: CaseFiles, folder: Path, label_values: tuple[int, ...]) -> None:
    assert case.label is not None
    target = folder / "labelsTr" / f"{case.case}.nii.gz"
    volume = _opened(case.label.path)
    if label_values == tuple(range(len(label_values))) and volume.ndim < 4 and case.label.path.name.endswith(".nii.gz"):
        shutil.copyfile(case.label.path, target)
        return
    values = _voxels(volume, case.label.path)[..., 0]
    indices = np.zeros(values.shape, np.uint8)
    known = np.zeros(values.shape, bool)
    for index, value in enumerate(label_values):
        indices[values == value] = index
        known |= values == value
    if not known.all():
        raise UserError(f"{case.label.path} has the value {values[~known][0]}, which dataset.json does not name")
    _save(volume, indices, target)


def _opened(path: Path) -> Any:
    import nibabel

    try:
        return nibabel.load(path)
    except Exception as error:
        raise UserError(f"{path} cannot be read ({type(error).__name__}): copy or download it again") from None


def _voxels(volume: Any, path: Path) -> np.ndarray:
    try:
        array = np.asarray(volume.dataobj)
    except Exception as error:
        raise UserError(f"{path} is truncated or damaged ({type(error).__name__}): copy or download it again") from None
    return array if array.ndim > 3 else array[..., np.newaxis]


def _save(like: Any, array: np.ndarray, target: Path) -> None:
    import nibabel

    image = nibabel.Nifti1Image(array, like.affine)
    # Not the old header itself: it may hold a patient's name in its description.
    image.header.set_xyzt_units(*like.header.get_xyzt_units())
    image.set_sform(like.affine, code=int(like.header["sform_code"]))
    if int(like.header["qform_code"]):
        image.set_qform(like.header.get_qform(), code=int(like.header["qform_code"]))
    nibabel.save(image, target)
