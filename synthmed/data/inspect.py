"""A data set's fingerprint and everything that is wrong with it, found in one pass."""

import hashlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from synthmed.data.orientation import axis_codes
from synthmed.data.readers import CaseFiles, Dataset
from synthmed.data.schema import Geometry, Record
from synthmed.data.volumes import Volume
from synthmed.errors import UserError
from synthmed.progress import Progress, silent

WORKERS = 2


class Problem(Record):
    """One thing that is wrong: what, in which file, and how to mend it."""

    what: str
    file: str
    mend: str

    def __str__(self) -> str:
        """Return the problem as one line."""
        return f"{self.file}: {self.what}; {self.mend}"


class CaseFingerprint(Record):
    """What one case is like.

    Attributes:
        case: Name of the case.
        patient: Name of its patient.
        geometry: Of its volume.
        orientation: Directions of the source array's axes.
        minimum: Smallest intensity of each channel.
        maximum: Largest intensity of each channel.
        hash: SHA-256 of the decoded voxels of all channels.
        voxels: How many voxels each class has.
        foreground_slices: Slices with foreground along each axis of the source array.
    """

    case: str
    patient: str
    geometry: Geometry
    orientation: str
    minimum: tuple[float, ...]
    maximum: tuple[float, ...]
    hash: str
    voxels: tuple[int, ...]
    foreground_slices: tuple[int, int, int]


class Fingerprint(Record):
    """What a data set is like, and its problems; empty `problems` means that it can be prepared."""

    dataset: str
    layout: str
    licence: str
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    label_values: tuple[int, ...]
    patients: int
    cases: tuple[CaseFingerprint, ...]
    problems: tuple[Problem, ...]

    def orientations(self) -> dict[str, int]:
        """Return how many cases have each orientation."""
        return dict(Counter(case.orientation for case in self.cases).most_common())

    def class_shares(self) -> tuple[float, ...]:
        """Return the share of all voxels that each class has, 0..1."""
        total = np.sum([case.voxels for case in self.cases], axis=0) if self.cases else np.zeros(len(self.classes))
        return tuple(float(share) for share in total / max(float(np.sum(total)), 1.0))


def fingerprint(dataset: Dataset, *, progress: Progress | None = None) -> Fingerprint:
    """Read every file of a data set and return what it is like and all that is wrong with it.

    Args:
        dataset: From `read_dataset`.
        progress: Told after each case.
    """
    tell = progress or silent
    problems = [
        Problem(what="label without an image", file=str(path), mend="add its image to imagesTr or remove the label")
        for path in dataset.orphans
    ]
    cases: list[CaseFingerprint] = []
    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            results = pool.map(lambda files: _inspect_case(files, dataset), dataset.cases)
            for done, (found, wrong) in enumerate(results, start=1):
                problems.extend(wrong)
                if found is not None:
                    cases.append(found)
                tell(done, len(dataset.cases), "checked")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    problems.extend(_duplicates(cases, dataset))
    return Fingerprint(
        dataset=dataset.name,
        layout=dataset.layout,
        licence=dataset.licence,
        channels=dataset.channels,
        classes=dataset.classes,
        label_values=dataset.label_values,
        patients=len({case.patient for case in dataset.cases}),
        cases=tuple(cases),
        problems=tuple(problems),
    )


def refuse_problems(fingerprint: Fingerprint, path: Path) -> None:
    """Raise the first problem as UserError and say how many more there are; do nothing where there is none."""
    if not fingerprint.problems:
        return
    further = len(fingerprint.problems) - 1
    more = f" (and {further} more: see `synthmed inspect {path}`)" if further else ""
    raise UserError(f"{fingerprint.problems[0]}{more}")


def _inspect_case(files: CaseFiles, dataset: Dataset) -> tuple[CaseFingerprint | None, list[Problem]]:
    problems: list[Problem] = []
    volumes = _open_images(files, dataset, problems)
    label = _open_label(files, volumes, problems) if dataset.labelled else None
    hasher = hashlib.sha256()
    low: list[float] = []
    high: list[float] = []
    for volume in volumes:
        voxels = _read(volume, problems)
        if voxels is None:
            continue
        bad = int(np.size(voxels) - np.count_nonzero(np.isfinite(voxels)))
        if bad:
            what, mend = f"NaN or infinite in {bad} voxel{'s' * (bad > 1)}", "replace them, as by background"
            problems.append(Problem(what=what, file=str(volume.path), mend=mend))
            continue
        update_hash(hasher, voxels)
        low.extend(float(value) for value in voxels.min(axis=(0, 1, 2)))
        high.extend(float(value) for value in voxels.max(axis=(0, 1, 2)))
    counts = _label_counts(label, dataset, problems) if label is not None else None
    if not dataset.labelled:
        counts = (0,) * len(dataset.classes), (0, 0, 0)
    if problems or counts is None:
        return None, problems
    geometry = volumes[0].geometry
    return CaseFingerprint(
        case=files.case,
        patient=files.patient,
        geometry=geometry,
        orientation=axis_codes(np.asarray(geometry.affine)),
        minimum=tuple(low),
        maximum=tuple(high),
        hash=hasher.hexdigest(),
        voxels=counts[0],
        foreground_slices=counts[1],
    ), problems


def update_hash(hasher: "hashlib._Hash", voxels: np.ndarray) -> None:
    """Add one file's voxels `[X, Y, Z, C]` to a case's content hash: shape and float32 values, nothing of the file.

    Channel by channel, so that a case has one hash whether its channels come in one file or in several.
    """
    for channel in range(voxels.shape[-1]):
        hasher.update(repr((*(int(extent) for extent in voxels.shape[:-1]), 1)).encode())
        hasher.update(np.ascontiguousarray(voxels[..., channel], dtype="<f4").tobytes())


def _open_images(files: CaseFiles, dataset: Dataset, problems: list[Problem]) -> list[Volume]:
    volumes = []
    for source in files.images:
        try:
            volumes.append(source.open())
        except UserError as error:
            problems.append(_told(error, source.path))
    if len(volumes) < len(files.images):
        return volumes
    channels = sum(volume.channels for volume in volumes)
    if channels != len(dataset.channels):
        what = f"{files.case} has {channels} channels, the data set {len(dataset.channels)}"
        mend = "add or remove channels so that all cases have the same"
        problems.append(Problem(what=what, file=str(files.images[0].path), mend=mend))
    for volume in volumes[1:]:
        _compare(volume, volumes[0], "its first channel", problems)
    return volumes


def _open_label(files: CaseFiles, volumes: list[Volume], problems: list[Problem]) -> Volume | None:
    if files.label is None:
        mend = "add its label to labelsTr or remove the image"
        problems.append(Problem(what="image without its label", file=str(files.images[0].path), mend=mend))
        return None
    try:
        label = files.label.open()
    except UserError as error:
        problems.append(_told(error, files.label.path))
        return None
    if label.channels != 1:
        mend = "write one class number a voxel"
        problems.append(Problem(what=f"the label has {label.channels} channels", file=str(files.label.path), mend=mend))
        return None
    if volumes:
        _compare(label, volumes[0], "its image", problems)
    return label


def _compare(volume: Volume, other: Volume, name: str, problems: list[Problem]) -> None:
    mend = f"resample it onto {other.path.name}"
    own, reference = volume.geometry, other.geometry
    if own.shape != reference.shape:
        what = f"shape {own.shape} differs from {name} {reference.shape}"
        problems.append(Problem(what=what, file=str(volume.path), mend=mend))
    elif not np.allclose(own.affine, reference.affine, rtol=1e-4, atol=1e-3):
        problems.append(Problem(what=f"affine differs from {name}", file=str(volume.path), mend=mend))


def _read(volume: Volume, problems: list[Problem]) -> np.ndarray | None:
    try:
        return volume.voxels()
    except UserError as error:
        problems.append(_told(error, volume.path))
        return None


def _label_counts(
    label: Volume, dataset: Dataset, problems: list[Problem]
) -> tuple[tuple[int, ...], tuple[int, int, int]] | None:
    voxels = _read(label, problems)
    if voxels is None:
        return None
    voxels = voxels[..., 0]
    values, counts = np.unique(voxels, return_counts=True)
    unknown = [f"{value:g}" for value in values.tolist() if value not in dataset.label_values]
    if unknown:
        what = f"has {'values' if len(unknown) > 1 else 'the value'} {', '.join(unknown[:5])} that no class has"
        mend = 'correct the label map, or add them to "labels" where dataset.json names classes'
        problems.append(Problem(what=what, file=str(label.path), mend=mend))
        return None
    found = dict(zip(values.tolist(), counts.tolist(), strict=True))
    foreground = voxels != 0
    slices = [int(foreground.any(axis=tuple({0, 1, 2} - {axis})).sum()) for axis in range(3)]
    return tuple(int(found.get(value, 0)) for value in dataset.label_values), (slices[0], slices[1], slices[2])


def _duplicates(cases: list[CaseFingerprint], dataset: Dataset) -> list[Problem]:
    files = {case.case: case.images[0].path for case in dataset.cases}
    first: dict[str, CaseFingerprint] = {}
    problems = []
    for case in cases:
        other = first.setdefault(case.hash, case)
        if other is not case:
            what = f"the same images as {other.case}"
            mend = "remove one: a copy in another split would spoil every score"
            problems.append(Problem(what=what, file=str(files[case.case]), mend=mend))
    return problems


def _told(error: UserError, path: Path) -> Problem:
    # A UserError reads "FILE what: mend"; as a problem its three parts stand apart.
    what, _, mend = str(error).removeprefix(f"{path} ").removeprefix("is ").rpartition(": ")
    return Problem(what=what or mend, file=str(path), mend=mend if what else "put the file back")
