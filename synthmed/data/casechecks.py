"""What can be wrong with the files of one case: where they lie, and what their voxels hold."""

import numpy as np

from synthmed.data.fingerprint import Problem
from synthmed.data.orientation import axis_codes
from synthmed.data.readers import Dataset
from synthmed.data.slabs import count_values
from synthmed.data.volumes import Volume


def compare(volume: Volume, other: Volume, name: str, problems: list[Problem]) -> None:
    """Add a problem where a volume does not lie on another one, which the message calls `name`."""
    own, reference = volume.geometry, other.geometry
    mend = f"resample it onto {other.path.name}"
    if own.shape != reference.shape:
        what = f"shape {own.shape} differs from {name} {reference.shape}"
        problems.append(Problem(what=what, file=str(volume.path), mend=mend))
        return
    affine, wanted = np.asarray(own.affine), np.asarray(reference.affine)
    if np.allclose(affine, wanted, rtol=1e-4, atol=1e-3):
        return
    spacing, wanted_spacing = (np.linalg.norm(matrix[:3, :3], axis=0) for matrix in (affine, wanted))
    if not np.allclose(spacing, wanted_spacing, rtol=1e-4, atol=1e-3):
        what = f"spacing {_join(spacing)} differs from {name} {_join(wanted_spacing)}"
    elif not np.allclose(affine[:3, :3], wanted[:3, :3], rtol=1e-4, atol=1e-3):
        what = f"directions of its axes ({axis_codes(affine)}) differ from {name} ({axis_codes(wanted)})"
    else:
        what = f"origin {_join(affine[:3, 3])} differs from {name} {_join(wanted[:3, 3])}"
    mend += ", or copy that header where the voxels do lie on each other"
    problems.append(Problem(what=what, file=str(volume.path), mend=mend))


def _join(values: np.ndarray) -> str:
    return " x ".join(f"{value:.5g}" for value in values)


def not_finite(voxels: np.ndarray, volume: Volume) -> Problem | None:
    """Return a problem where voxels are NaN or infinite, else None."""
    bad = int(np.size(voxels) - np.count_nonzero(np.isfinite(voxels))) if voxels.dtype.kind == "f" else 0
    if not bad:
        return None
    what, mend = f"NaN or infinite in {bad} voxel{'s' * (bad > 1)}", "replace them, as by background"
    if bad > voxels.size / 2:
        what, mend = f"{what}, more than half of them", "export the image again, or remove the case"
    return Problem(what=what, file=str(volume.path), mend=mend)


def label_counts(
    label: Volume, voxels: np.ndarray, dataset: Dataset, problems: list[Problem]
) -> tuple[tuple[int, ...], tuple[int, int, int], int] | None:
    """Return voxels of each class, slices with foreground along each axis, and voxels that are ignored.

    None, and a problem more, where a value is no class of the data set.
    """
    found = count_values(voxels)
    known = {*dataset.label_values, *([] if dataset.ignore_value is None else [dataset.ignore_value])}
    unknown = [value for value in found if value not in known]
    if unknown:
        shown = ", ".join(f"{value:.6g}" for value in unknown[:5]) + ", ..." * (len(unknown) > 5)
        what = f"has {'values' if len(unknown) > 1 else 'the value'} {shown} not named in the data set's description"
        mend = 'correct the label map, or add them to "labels" where dataset.json names classes'
        if all(value != round(value) and abs(value - round(value)) < 0.01 for value in unknown):
            mend = "round them: they are almost whole numbers, as a scaled header or an interpolation leaves them"
        elif any(value != round(value) for value in unknown):
            mend = "write whole class numbers: resample label maps by nearest neighbour alone"
        problems.append(Problem(what=what, file=str(label.path), mend=mend))
        return None
    foreground = voxels != 0
    ignored = 0
    if dataset.ignore_value is not None:
        foreground &= voxels != dataset.ignore_value
        ignored = found.get(dataset.ignore_value, 0)
    slices = [int(foreground.any(axis=tuple({0, 1, 2} - {axis})).sum()) for axis in range(3)]
    counts = tuple(found.get(value, 0) for value in dataset.label_values)
    return counts, (slices[0], slices[1], slices[2]), ignored
