"""What a store and its making need to know of a case: its label maps, their counts, and the memory that it takes."""

import math

import numpy as np

from synthmed.data.checks import CaseFingerprint
from synthmed.data.geometry import plan_placement
from synthmed.data.schema import IGNORE, Plan
from synthmed.data.slicing import PreparedCase
from synthmed.errors import present


def labels_and_counts(
    prepared: PreparedCase, plan: Plan, *, labelled: bool
) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    """Return the label maps that a store keeps, uint8 `[n, H, W]`, and the pixels of each class in each slice.

    Where labels are not known, both are 0 throughout.
    """
    classes = len(plan.label_values)
    if not labelled:
        return np.zeros(prepared.images.shape[:-1], np.uint8), [(0,) * classes] * len(prepared.images)
    labels = present(prepared.labels, "the fingerprint refuses cases without labels")
    # Pixels whose class is not known are counted last, and left out.
    counts = [np.bincount(label.ravel(), minlength=IGNORE + 1)[:classes] for label in labels]
    return labels, [tuple(int(count) for count in line) for line in counts]


def memory_of(case: CaseFingerprint, plan: Plan) -> int:
    """Return about how many bytes preparing a case takes at its worst, with its files and its slices (measured)."""
    voxels = math.prod(case.geometry.shape)
    count = plan_placement(case.geometry, plan, case.content).shape[2]
    slices = count * math.prod(plan.size) * (4 * plan.channels + 1)
    # The images, a copy of one channel while its percentiles are found, the label values, and what comes out.
    return voxels * (4 * plan.channels + 5) + slices
