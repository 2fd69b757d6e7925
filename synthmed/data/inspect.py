"""A data set's fingerprint and everything that is wrong with it, found in one pass."""

import hashlib
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np

from synthmed.data.checks import (
    CaseFingerprint,
    Fingerprint,
    Problem,
    compare,
    duplicates,
    label_counts,
    not_finite,
    notes_on,
    warnings_on,
)
from synthmed.data.formats import Volume
from synthmed.data.geometry import axis_codes, whole_box
from synthmed.data.intensities import Measures
from synthmed.data.parallel import WORKERS, Budget, slabs
from synthmed.data.readers import CaseFiles, Dataset
from synthmed.errors import UserError
from synthmed.progress import Progress, silent

__all__ = ["CaseFingerprint", "Fingerprint", "Problem", "fingerprint", "refuse_problems", "update_hash"]

BYTES_A_VOXEL = 6
"""Memory that looking at one file takes: its voxels as they are, and what is made of them."""


class Checks(Protocol):
    """What an earlier run found, and where this one keeps what it finds."""

    def get(self, files: CaseFiles) -> CaseFingerprint | None:
        """Return what is known of a case whose files are still the same."""

    def keep(self, files: CaseFiles, found: CaseFingerprint) -> None:
        """Remember a case that has no problem of its own."""


def fingerprint(dataset: Dataset, *, progress: Progress | None = None, checks: Checks | None = None) -> Fingerprint:
    """Read every file of a data set and return what it is like and all that is wrong with it.

    Args:
        dataset: From `read_dataset`.
        progress: Told after each case.
        checks: Cases that need not be read again.
    """
    tell = progress or silent
    budget = Budget()

    def check(files: CaseFiles) -> tuple[CaseFingerprint | None, list[Problem]]:
        known = checks.get(files) if checks else None
        return (known, []) if known else _inspect_case(files, dataset, budget)

    problems = [
        Problem(what="label without an image", file=str(path), mend="add its image or remove the label")
        for path in dataset.orphans
    ]
    cases: list[CaseFingerprint] = []
    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            for done, (found, wrong) in enumerate(pool.map(check, dataset.cases), start=1):
                problems.extend(wrong)
                if found is not None:
                    cases.append(found)
                    if checks:
                        checks.keep(dataset.cases[done - 1], found)
                tell(done, len(dataset.cases), "checked")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    problems.extend(duplicates(cases, dataset))
    return Fingerprint(
        dataset=dataset.name,
        layout=dataset.layout,
        licence=dataset.licence,
        channels=dataset.channels,
        modalities=dataset.modalities,
        classes=dataset.classes,
        label_values=dataset.label_values,
        ignore_value=dataset.ignore_value,
        regions=dataset.regions,
        patients=len({case.patient for case in dataset.cases}),
        cases=tuple(cases),
        problems=tuple(problems),
        warnings=tuple(warnings_on(cases, dataset)),
        notes=(*dataset.notes, *notes_on(cases, dataset)),
    )


def refuse_problems(fingerprint: Fingerprint, path: Path) -> None:
    """Raise the first problem as UserError and say how many more there are; do nothing where there is none."""
    if not fingerprint.problems:
        return
    further = len(fingerprint.problems) - 1
    more = f" (and {further} more: see `synthmed inspect {path}`)" if further else ""
    raise UserError(f"{fingerprint.problems[0]}{more}")


def _inspect_case(files: CaseFiles, dataset: Dataset, budget: Budget) -> tuple[CaseFingerprint | None, list[Problem]]:
    problems: list[Problem] = []
    volumes = _open_images(files, dataset, problems)
    label = _open_label(files, volumes, problems) if dataset.labelled else None
    largest = max((math.prod(volume.geometry.shape) * volume.channels for volume in volumes), default=0)
    with budget.take(BYTES_A_VOXEL * largest):
        return _inspect_voxels(files, dataset, volumes, label, problems)


def _inspect_voxels(
    files: CaseFiles, dataset: Dataset, volumes: list[Volume], label: Volume | None, problems: list[Problem]
) -> tuple[CaseFingerprint | None, list[Problem]]:
    label_voxels = _label_voxels(label, problems) if label is not None else None
    measures = Measures(dataset.modalities, labels=label_voxels, ignore_value=dataset.ignore_value)
    hasher = hashlib.sha256()
    low: list[float] = []
    high: list[float] = []
    for volume in volumes:
        voxels = _read(volume, problems)
        if voxels is None:
            continue
        unusable = not_finite(voxels, volume)
        if unusable:
            problems.append(unusable)
            continue
        update_hash(hasher, voxels)
        low.extend(float(value) for value in voxels.min(axis=(0, 1, 2)))
        high.extend(float(value) for value in voxels.max(axis=(0, 1, 2)))
        measures.add(voxels)
    counts = None
    if label is not None and label_voxels is not None:
        counts = label_counts(label, label_voxels, dataset, problems)
    if not dataset.labelled:
        counts = (0,) * len(dataset.classes), (0, 0, 0), 0
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
        ignored=counts[2],
        content=measures.box or whole_box(geometry.shape),
        hounsfield=tuple(measures.hounsfield),
    ), problems


def update_hash(hasher: "hashlib._Hash", voxels: np.ndarray) -> None:
    """Add one file's voxels `[X, Y, Z, C]` to a case's content hash: shape and float32 values, nothing of the file.

    Channel by channel, so that a case has one hash whether its channels come in one file or in several.
    """
    for channel in range(voxels.shape[-1]):
        hasher.update(repr((*(int(extent) for extent in voxels.shape[:-1]), 1)).encode())
        # Part by part: the whole would double the memory that a case takes.
        for part in slabs(voxels[..., channel]):
            hasher.update(np.ascontiguousarray(part, dtype="<f4").data)


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
        compare(volume, volumes[0], "its first channel", problems)
    return volumes


def _open_label(files: CaseFiles, volumes: list[Volume], problems: list[Problem]) -> Volume | None:
    if files.label is None:
        mend = "add its label map or remove the image"
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
        compare(label, volumes[0], "its image", problems)
    return label


def _read(volume: Volume, problems: list[Problem]) -> np.ndarray | None:
    try:
        return volume.voxels()
    except UserError as error:
        problems.append(_told(error, volume.path))
        return None


def _label_voxels(label: Volume, problems: list[Problem]) -> np.ndarray | None:
    voxels = _read(label, problems)
    if voxels is None:
        return None
    unusable = not_finite(voxels, label)
    if unusable:
        problems.append(unusable)
        return None
    return voxels[..., 0]


def _told(error: UserError, path: Path) -> Problem:
    # A UserError reads "FILE what: mend"; as a problem its three parts stand apart.
    what, _, mend = str(error).removeprefix(f"{path} ").removeprefix("is ").rpartition(": ")
    return Problem(what=what or mend, file=str(path), mend=mend if what else "put the file back")
