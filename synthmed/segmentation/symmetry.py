"""Along which axes slices may be mirrored in training: found out from the training patients."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from synthmed.data.schema import CaseRecord
from synthmed.data.store import Store
from synthmed.errors import check_leak
from synthmed.segmentation.augment import Augmentation

LIKE_OTHERS = 1.1
"""How much farther from other patients' slices mirrored ones may be.

Measured: brains mirrored left to right 0.99 to 1.03 (nine draws of 3 to 12 patients), retinas of both eyes 1.06, brains
upside down 1.0 to 1.4, hippocampi, which lean to one side, 1.6 and more along either axis.
"""
GRID = 8
"""Blocks a side whose means are compared; the sides of a slice are multiples of it."""
MOST_ASKED = 512
MOST_COMPARED = 4096


@dataclass(frozen=True)
class Symmetry:
    """How far mirrored slices are from those of other patients, relative to slices as they are.

    Attributes:
        rows: Ratio of the mean distances of slices mirrored along the rows (upside down) and of slices as they are;
            infinity where it cannot be told.
        columns: The same, mirrored along the columns.
    """

    rows: float
    columns: float


def symmetry(store: Store, cases: list[CaseRecord]) -> Symmetry:
    """Compare each slice, mirrored and as it is, with the nearest slice of another patient.

    Args:
        store: Where the slices are.
        cases: Training cases; those of fewer than two patients tell nothing.
    """
    check_leak(all(case.split == "train" for case in cases), "mirroring may be fitted to training patients alone")
    indices = store.training_indices(cases)
    # Evenly spaced, so that each patient has a share, and the same slices answer every time.
    indices = indices[np.linspace(0, len(indices) - 1, min(len(indices), MOST_COMPARED)).astype(int)]
    names = {index: case.patient for case in cases for index in range(case.first, case.first + case.slices)}
    patients = np.array([names[index] for index in indices])
    if len(set(patients)) < 2:
        return Symmetry(np.inf, np.inf)
    coarse = _block_means(store, indices)
    asked = np.linspace(0, len(indices) - 1, min(len(indices), MOST_ASKED)).astype(int)
    same = patients[asked][:, None] == patients[None]

    def nearest(slices: np.ndarray) -> np.ndarray:
        # Each asked slice's distance to the nearest of those that are not of its own patient.
        distances = cdist(slices.reshape(len(slices), -1), coarse.reshape(len(coarse), -1))
        return np.where(same, np.inf, distances).min(axis=1)

    plain = nearest(coarse[asked]).mean()
    if not plain:
        return Symmetry(np.inf, np.inf)
    rows, columns = (float(nearest(np.flip(coarse[asked], axis)).mean() / plain) for axis in (1, 2))
    return Symmetry(rows, columns)


def decided(augmentation: Augmentation, store: Store, cases: list[CaseRecord]) -> Augmentation:
    """Return the augmentation with what was left open decided by training cases: mirroring along rows and columns."""
    asked = [name for name in ("flip_rows", "flip_columns") if getattr(augmentation, name) is None]
    if not asked:
        return augmentation
    found = symmetry(store, cases)
    likely = {"flip_rows": found.rows <= LIKE_OTHERS, "flip_columns": found.columns <= LIKE_OTHERS}
    return augmentation.model_copy(update={name: likely[name] for name in asked})


def _block_means(store: Store, indices: np.ndarray) -> np.ndarray:
    """Return `[n, GRID, GRID, channels]`."""
    height, width = store.size
    means = [
        store.images(part).reshape(len(part), GRID, height // GRID, GRID, width // GRID, -1).mean(axis=(2, 4))
        for part in np.array_split(indices, max(1, len(indices) // 64))
    ]
    return np.concatenate(means)
