"""Small data sets that the tests of data write for themselves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from synthmed.files import write_json

Writer = Callable[..., Path]


def _affine(spacing: tuple[float, float, float], codes: str) -> np.ndarray:
    affine = np.zeros((4, 4))
    affine[3, 3] = 1.0
    for column, code in enumerate(codes):
        row = ["LR", "PA", "IS"].index(next(pair for pair in ("LR", "PA", "IS") if code in pair))
        affine[row, column] = spacing[column] * (1.0 if code in "RAS" else -1.0)
    affine[:3, 3] = [-20.0, 13.5, 7.25]
    return affine


def _case(number: int, shape: tuple[int, int, int], channels: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([7, number])
    ramp = np.indices(shape).sum(axis=0)
    images = np.stack([100.0 * (c + 1) + 3.0 * ramp + rng.normal(0, 5, shape) for c in range(channels)], axis=-1)
    labels = np.zeros(shape, np.uint8)
    labels[tuple(slice(extent // 4, extent // 2) for extent in shape)] = 1
    labels[tuple(slice(extent // 2, 3 * extent // 4) for extent in shape)] = 2
    return images.astype(np.float32), labels


@pytest.fixture
def affine_of() -> Callable[[tuple[float, float, float], str], np.ndarray]:
    """Return a function from voxel sizes and axis directions ("RAS") to an affine."""
    return _affine


@pytest.fixture
def nnunet_set(tmp_path: Path) -> Writer:
    """Return a writer of nnU-Net raw sets: `write(cases=, shape=, spacing=, codes=, channels=, values=)`."""

    def write(
        *,
        cases: int = 4,
        shape: tuple[int, int, int] = (30, 34, 6),
        spacing: tuple[float, float, float] = (1.0, 1.0, 3.0),
        codes: str = "RAS",
        channels: int = 2,
        values: tuple[int, int] = (1, 2),
        name: str = "set",
    ) -> Path:
        folder = tmp_path / name
        for part in ("imagesTr", "labelsTr"):
            (folder / part).mkdir(parents=True)
        affine = _affine(spacing, codes)
        for number in range(cases):
            images, labels = _case(number, shape, channels)
            for channel in range(channels):
                path = folder / "imagesTr" / f"case_{number}_{channel:04d}.nii.gz"
                nib.save(nib.Nifti1Image(images[..., channel], affine), path)
            stored = np.array([0, *values], np.uint8)[labels]
            nib.save(nib.Nifti1Image(stored, affine), folder / "labelsTr" / f"case_{number}.nii.gz")
        description: dict[str, Any] = {
            "channel_names": {str(channel): f"channel {channel}" for channel in range(channels)},
            "labels": {"background": 0, "organ": values[0], "lesion": values[1]},
            "numTraining": cases,
            "file_ending": ".nii.gz",
            "licence": "CC0-1.0",
        }
        write_json(folder / "dataset.json", description)
        return folder

    return write


@pytest.fixture
def decathlon_set(tmp_path: Path) -> Writer:
    """Return a writer of Decathlon sets, channels along a fourth axis."""

    def write(*, cases: int = 3, shape: tuple[int, int, int] = (30, 34, 6), channels: int = 2) -> Path:
        folder = tmp_path / "decathlon"
        for part in ("imagesTr", "labelsTr"):
            (folder / part).mkdir(parents=True)
        affine = _affine((1.0, 1.0, 3.0), "RAS")
        names = [f"task_{number}.nii.gz" for number in (10, 2, 1)[:cases]]
        for number, name in enumerate(names):
            images, labels = _case(number, shape, channels)
            stored = images if channels > 1 else images[..., 0]
            nib.save(nib.Nifti1Image(stored, affine), folder / "imagesTr" / name)
            nib.save(nib.Nifti1Image(labels, affine), folder / "labelsTr" / name)
        description = {
            "name": "Task",
            "licence": "CC-BY-SA 4.0",
            "modality": {str(channel): f"channel {channel}" for channel in range(channels)},
            "labels": {"0": "background", "1": "organ", "2": "lesion"},
            "training": [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names],
        }
        write_json(folder / "dataset.json", description)
        return folder

    return write


@pytest.fixture
def change() -> Callable[[Path, Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]], None]:
    """Return a function that rewrites a NIfTI file with `edit(voxels, affine) -> (voxels, affine)`."""

    def rewrite(path: Path, edit: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]) -> None:
        image = nib.load(path)
        voxels, affine = edit(np.asarray(image.dataobj).copy(), image.affine.copy())
        nib.save(nib.Nifti1Image(voxels, affine), path)

    return rewrite
