"""What is known of a data set before it is prepared: records that `synthmed.data.inspect` fills."""

from collections import Counter

import numpy as np

from synthmed.data.foreground import Box
from synthmed.data.readers.base import Modality
from synthmed.data.schema import Geometry, Record


class Problem(Record):
    """One thing that is wrong, or a warning: what, in which file, and how to mend it."""

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
        ignored: How many voxels are marked as not known.
        content: Voxels of the source array outside which every channel has its lowest value, along each axis.
        hounsfield: Of each channel that is CT, how many foreground voxels have which HU (see `hounsfield_counts`);
            of each other one, nothing.
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
    ignored: int = 0
    content: Box | None = None
    hounsfield: tuple[dict[int, int], ...] = ()


class Fingerprint(Record):
    """What a data set is like and what is wrong with it.

    Attributes:
        dataset: Name of the data set.
        layout: Name of its layout.
        licence: As its description states it.
        channels: Names of the channels.
        modalities: Kind of each channel's intensities; empty where it is not known.
        classes: Names of the classes, background first.
        label_values: Value of each class in the label files.
        ignore_value: Value that means "not known".
        regions: Name of each region and the label values that it is made of.
        patients: How many patients there are.
        cases: Those that have no problem.
        problems: What must be mended: with any of them the set is not prepared.
        warnings: What may spoil a study; the set can be prepared all the same.
        notes: What is good to know.
    """

    dataset: str
    layout: str
    licence: str
    channels: tuple[str, ...]
    modalities: tuple[Modality, ...] = ()
    classes: tuple[str, ...]
    label_values: tuple[int, ...]
    ignore_value: int | None = None
    regions: dict[str, tuple[int, ...]] = {}
    patients: int
    cases: tuple[CaseFingerprint, ...]
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    def orientations(self) -> dict[str, int]:
        """Return how many cases have each orientation."""
        return dict(Counter(case.orientation for case in self.cases).most_common())

    def class_shares(self) -> tuple[float, ...]:
        """Return the share of all known voxels that each class has, 0..1."""
        total = np.sum([case.voxels for case in self.cases], axis=0) if self.cases else np.zeros(len(self.classes))
        return tuple(float(share) for share in total / max(float(np.sum(total)), 1.0))

    def class_cases(self) -> tuple[int, ...]:
        """Return how many cases show each class."""
        return tuple(sum(case.voxels[index] > 0 for case in self.cases) for index in range(len(self.classes)))

    def ignored_share(self) -> float:
        """Return the share of all voxels that are marked as not known, 0..1."""
        ignored = sum(case.ignored for case in self.cases)
        return ignored / max(ignored + sum(sum(case.voxels) for case in self.cases), 1)
