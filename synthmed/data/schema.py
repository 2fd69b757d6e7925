"""What is recorded of data: geometry, normalisation, placement, a case, the plan that prepared it, a store's manifest.

All are pydantic models, so that a manifest is checked when it is read and its errors name the field.
"""

import math
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, model_validator

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
Matrix = tuple[tuple[float, ...], ...]
"""A 4 x 4 affine, row by row, in mm (or what the header's units say), RAS+ as in NIfTI."""


def as_matrix(affine: np.ndarray) -> Matrix:
    """Return an affine as it is recorded."""
    return tuple(tuple(float(value) for value in row) for row in affine)


IGNORE = 255
"""Class index in a store's label maps where the source says that the class is not known.

There can be as many classes."""


class Record(BaseModel):
    """Base of all records: immutable, and a field that is not known is an error rather than silently dropped."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Geometry(Record):
    """Where a source volume lies in space, with all that a NIfTI header says about it.

    Attributes:
        shape: Voxels along the three axes of the source array (a 2D source has a last axis of 1).
        affine: Voxel to world, the one that readers use (sform where its code is set, else qform).
        qform: The header's qform where its code is set, since it may differ from `affine`.
        zooms: Voxel sizes as the header gives them.
        xyzt_units: Names of the units of space and time.
        qform_code: NIfTI code of the qform.
        sform_code: NIfTI code of the sform.
        dtype: NumPy name of the type that the source file stores; float32 where it stores scaled whole numbers.
    """

    shape: tuple[int, int, int]
    affine: Matrix
    qform: Matrix | None = None
    zooms: tuple[float, float, float]
    xyzt_units: tuple[str, str] = ("mm", "unknown")
    qform_code: int = 0
    sform_code: int = 2
    dtype: str = "float32"


class Normalisation(Record):
    """How prepared intensities return to the source's units: `source = scale * prepared + offset`, a channel each."""

    scale: tuple[float, ...]
    offset: tuple[float, ...]


class Placement(Record):
    """How a case's slices were turned, resampled and placed in the store's frame; enough to undo it.

    Attributes:
        source_orientation: Directions in which the source array's axes grow, as in nibabel ("RAS").
        orientation: The same for (row, column, slice) of the prepared slices ("PLS" for axial ones).
        shape: Rows, columns and slices of the turned and cropped volume before resampling.
        resampled: Rows and columns after resampling.
        step: Source pixels that one prepared pixel spans, (row, column).
        start: Row and column of the store's frame at which the resampled slice begins; negative where it was cropped.
        origin: Row, column and slice of the whole turned volume at which the prepared part begins.
        whole: Rows, columns and slices of the whole turned volume; None where `shape` is it.
        margin: Intensity of each channel in what was cut off, in the source's units; None where nothing was.
    """

    source_orientation: str
    orientation: str
    shape: tuple[int, int, int]
    resampled: tuple[int, int]
    step: tuple[float, float]
    start: tuple[int, int]
    origin: tuple[int, int, int] = (0, 0, 0)
    whole: tuple[int, int, int] | None = None
    margin: tuple[float, ...] | None = None


class CaseRecord(Record):
    """A case in a store.

    Attributes:
        case: Name of the case, from its files.
        patient: Name of the patient whom it belongs to; all cases of one patient are in the same split.
        split: Where the case belongs.
        hash: SHA-256 of the source's decoded voxels, the same whatever the files are called.
        files: SHA-256 of each source file by name.
        first: Number of its first slice in the store.
        slices: How many slices it has.
        geometry: Of the source volume.
        normalisation: Of each channel.
        placement: Of its slices in the store's frame.
    """

    case: str
    patient: str
    split: Split
    hash: str
    files: dict[str, str]
    first: int
    slices: int
    geometry: Geometry
    normalisation: Normalisation
    placement: Placement


class Scaling(Record):
    """Which intensities of a channel become -1 and 1; what is beyond is clipped.

    Attributes:
        method: "percentiles": of each case and channel; "zscore": distances from the mean of each case's body, in its
            standard deviations; "window": fixed intensities, the same for all cases.
        low: Becomes -1: a percentile 0..100, a number of standard deviations, or an intensity.
        high: Becomes 1, in the same unit; above `low`.
    """

    method: Literal["percentiles", "zscore", "window"] = "percentiles"
    low: float = 0.5
    high: float = 99.5

    @model_validator(mode="after")
    def _is_ordered(self) -> "Scaling":
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise ValueError("low and high must be numbers that are not infinite")
        if not self.low < self.high:
            raise ValueError(f"low {self.low:g} must be below high {self.high:g}")
        if self.method == "percentiles" and not 0 <= self.low < self.high <= 100:
            raise ValueError("percentiles are within 0 to 100")
        return self


class Plan(Record):
    """How cases become slices; the same plan prepares a new case for a trained model.

    Attributes:
        axis: Slicing axis in canonical (RAS) space: 0 sagittal, 1 coronal, 2 axial.
        size: Rows and columns of a prepared slice.
        spacing: Pixel size of a prepared slice, (row, column), in the source's units of length.
        intensities: How each channel is scaled.
        label_values: Value of each class in the source's label files; the position is the class index.
        channels: Number of channels that a case must have.
        ignore_value: Value in the source's label files that means "not known"; None where there is none.
        bias_correction: Whether each channel is freed of a slow shading by N4 before it is scaled.
        crop: Whether margins in which every channel has its lowest value are cut off before slicing.
        slices: Which training slices are offered to a training: all, those with foreground, or a choice in which rare
            classes come up more often.
    """

    axis: Literal[0, 1, 2]
    size: tuple[int, int]
    spacing: tuple[float, float]
    intensities: tuple[Scaling, ...]
    label_values: tuple[int, ...]
    channels: int
    ignore_value: int | None = None
    bias_correction: bool = False
    crop: bool = False
    slices: Literal["all", "foreground", "balanced"] = "all"

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_versions(cls, values: Any) -> Any:
        # Plans of earlier versions, which runs and stores keep, know percentiles alone.
        if isinstance(values, dict) and "percentiles" in values and "intensities" not in values:
            low, high = values["percentiles"]
            rest = {name: value for name, value in values.items() if name != "percentiles"}
            return {**rest, "intensities": [Scaling(low=low, high=high)] * int(values.get("channels", 0))}
        return values

    @model_validator(mode="after")
    def _is_whole(self) -> "Plan":
        if len(self.intensities) != self.channels:
            raise ValueError(f"{len(self.intensities)} intensities for {self.channels} channels")
        if len(self.label_values) > IGNORE:
            raise ValueError(f"{len(self.label_values)} classes, there can be {IGNORE} with the background")
        return self


class Shard(Record):
    """Two NumPy files of consecutive slices and their SHA-256."""

    images: str
    labels: str
    first: int
    slices: int
    images_sha256: str
    labels_sha256: str


class Manifest(Record):
    """What a store says of itself; written last, so that a folder with a manifest is a whole store.

    Attributes:
        format: Marks the file as ours.
        format_version: Raised when an older reader could not read the store.
        version: synthmed's version that wrote it.
        created: Time of writing, ISO 8601, UTC.
        content_hash: SHA-256 over all but `version` and `created`: same input, options and seed give the same.
        dataset: Name of the data set.
        licence: Its licence, as its description states it.
        channels: Names of the channels.
        classes: Names of the classes, background first.
        plan: How the cases were prepared.
        seed: Of the random split and of the draw of training patients.
        cases: In the order of their slices.
        shards: In the order of their slices.
        labelled: Whether its label maps are known; else they are all zero and mean nothing.
        regions: Name of each region and the classes that it is made of, where the data set defines regions.
        class_counts_sha256: SHA-256 of class_counts.npy; None in stores of earlier versions.
    """

    format: Literal["synthmed-store"] = "synthmed-store"
    format_version: Literal[1] = 1
    version: str
    created: str
    content_hash: str
    dataset: str
    licence: str
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    plan: Plan
    seed: int
    cases: tuple[CaseRecord, ...]
    shards: tuple[Shard, ...]
    labelled: bool = True
    regions: dict[str, tuple[int, ...]] = {}
    class_counts_sha256: str | None = None
