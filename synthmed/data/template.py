"""The geometry and intensity scale that a generated slice is written with: a training case's, without its name."""

import numpy as np

from synthmed.data.orientation import axis_codes, turn, turn_affine
from synthmed.data.placement import placed_affine
from synthmed.data.schema import CaseRecord, Matrix, Record, as_matrix


class Template(Record):
    """How a slice in store domain becomes a volume in the source's units and space. Names no patient.

    Attributes:
        axis: Position of the axis of length 1 in a volume made of one slice.
        affine: Of the volume `[H, W, 1]`, at the middle of the case.
        orientation: Directions of the source's own array axes ("RAS"), for writing in the same order as real cases.
        xyzt_units: Names of the units of space and time.
        qform_code: NIfTI code of the qform.
        sform_code: NIfTI code of the sform.
        scale: Of each channel: `source = scale * prepared + offset`.
        offset: Of each channel.
        dtype: Type of the source's images.
        slices: How many slices the whole case had; None in templates of earlier versions.
    """

    axis: int = 2
    affine: Matrix
    orientation: str
    xyzt_units: tuple[str, str]
    qform_code: int
    sform_code: int
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    dtype: str
    slices: int | None = None

    def volume(self, slices: np.ndarray, *, whole: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Return prepared slices `[H, W]` or `[H, W, n]` as a volume in the source's axis order, and its affine.

        Geometry only: intensities stay as they are.

        Args:
            slices: Rows and columns, and further slices along the axis.
            whole: Whether they are all slices of a case, rather than slices that count from the template's position
                upwards.

        Raises:
            ValueError: If a whole case is asked for and has another number of slices.
        """
        stacked = slices[:, :, np.newaxis] if slices.ndim == 2 else slices
        affine = np.array(self.affine)
        if whole:
            if self.slices is None or stacked.shape[2] != self.slices:
                raise ValueError(f"the case had {self.slices} slices, got {stacked.shape[2]}")
            affine[:3, 3] -= affine[:3, 2] * (self.slices // 2)
        own = axis_codes(affine)
        turned = turn(stacked, source=own, target=self.orientation)
        return turned, turn_affine(affine, stacked.shape, source=own, target=self.orientation)


def template_of(record: CaseRecord) -> Template:
    """Return the template of a case in a store."""
    affine = placed_affine(record.geometry, record.placement)
    affine[:3, 3] += affine[:3, 2] * (record.slices // 2)
    return Template(
        affine=as_matrix(affine),
        orientation=record.placement.source_orientation,
        xyzt_units=record.geometry.xyzt_units,
        qform_code=record.geometry.qform_code,
        sform_code=record.geometry.sform_code,
        scale=record.normalisation.scale,
        offset=record.normalisation.offset,
        dtype=record.geometry.dtype,
        slices=record.slices,
    )
