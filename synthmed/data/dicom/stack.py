"""Slices of a series in their order, and where the volume that they make lies in space."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synthmed.data.dicom.slices import Slice
from synthmed.data.orientation import LPS_TO_RAS
from synthmed.data.schema import Geometry, as_matrix
from synthmed.errors import UserError, present

# Header numbers are decimal texts, often rounded to a few digits.
_SAME_DIRECTION = 1e-3
_SAME_LENGTH = 1e-3
_THERE = "slices without orientation or spacing are refused"
# Gaps may differ by this share of the usual gap, and by this many mm whatever it is.
_EVEN, _ROUNDED = 0.05, 0.02


class SeveralVolumesError(UserError):
    """A series that holds the same positions several times, such as echoes or b values."""


@dataclass(frozen=True)
class Stack:
    """A series as a volume.

    Attributes:
        slices: In the order of their positions along the normal (row x column directions).
        geometry: Of the volume `[X, Y, Z]`: columns, rows, slices.
    """

    slices: tuple[Slice, ...]
    geometry: Geometry

    @property
    def affine(self) -> np.ndarray:
        """Voxel to world in mm, RAS+."""
        return np.asarray(self.geometry.affine)


def plane(one: Slice) -> tuple[object, ...]:
    """Return size, pixel spacing and direction of a slice, rounded, by which series can be compared."""
    spacing = tuple(round(value, 3) for value in one.spacing or ())
    # Adding 0 turns -0 into 0.
    direction = tuple(round(value, 2) + 0.0 for value in one.orientation or ())
    return one.rows, one.columns, one.samples, spacing, direction


def stack(slices: tuple[Slice, ...], path: Path) -> Stack:
    """Return the slices of one series in order, with their geometry.

    Args:
        slices: At least one, in any order.
        path: The series' file or folder, for messages.

    Raises:
        SeveralVolumesError: If each position is taken several times.
        UserError: If the slices make no single volume.
    """
    first = slices[0]
    _refuse_pixels(slices, path)
    if len(slices) == 1 and (first.position is None or first.orientation is None):
        return Stack(slices, _flat(first))
    _refuse_mixture(slices, path)
    orientation, spacing = present(first.orientation, _THERE), present(first.spacing, _THERE)
    along_columns, along_rows = np.array(orientation[:3]), np.array(orientation[3:])
    normal = np.cross(along_columns, along_rows)
    positions = np.array([one.position for one in slices], dtype=np.float64)
    order = np.argsort(positions @ normal, kind="stable")
    ordered = tuple(slices[number] for number in order)
    positions = positions[order]
    _refuse_gaps(ordered, positions @ normal, path)
    step = _step(positions, normal, first.thickness, min(spacing), path)
    affine = np.eye(4)
    affine[:3, 0] = along_columns * spacing[1]
    affine[:3, 1] = along_rows * spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = positions[0]
    return Stack(ordered, _geometry(ordered, LPS_TO_RAS @ affine))


def _geometry(slices: tuple[Slice, ...], affine: np.ndarray, unit: str = "mm") -> Geometry:
    zooms = [float(length) for length in np.linalg.norm(affine[:3, :3], axis=0)]
    return Geometry(
        shape=(slices[0].columns, slices[0].rows, len(slices)),
        affine=as_matrix(affine),
        zooms=(zooms[0], zooms[1], zooms[2]),
        xyzt_units=(unit, "unknown"),
        qform_code=0,
        sform_code=1,
        dtype=stored_type(slices),
    )


def _flat(one: Slice) -> Geometry:
    """Return the geometry of a single picture that lies nowhere in space, such as a radiograph."""
    rows, columns = one.spacing or (1.0, 1.0)
    affine = LPS_TO_RAS @ np.diag([columns or 1.0, rows or 1.0, one.thickness or 1.0, 1.0])
    return _geometry((one,), affine, "mm" if one.spacing else "unknown")


def stored_type(slices: tuple[Slice, ...]) -> str:
    """Return the smallest sensible NumPy type of the slices' intensities; whole numbers stay whole."""
    if all(one.slope == 1.0 and one.intercept == 0.0 for one in slices):
        types = [np.dtype(f"{'int' if one.signed else 'uint'}{max(one.bits[0], 8)}") for one in slices]
        return str(np.result_type(*types))
    if any(one.slope % 1 or one.intercept % 1 for one in slices):
        return "float32"
    ends = [one.slope * value + one.intercept for one in slices for value in _range(one)]
    for name in ("int16", "int32"):
        if np.iinfo(name).min <= min(ends) and max(ends) <= np.iinfo(name).max:
            return name
    return "float32"


def _range(one: Slice) -> tuple[int, int]:
    used = one.bits[1]
    return (-(1 << (used - 1)), (1 << (used - 1)) - 1) if one.signed else (0, (1 << used) - 1)


def _refuse_pixels(slices: tuple[Slice, ...], path: Path) -> None:
    for one in slices:
        if one.bits[0] == 64:
            raise UserError(f"{one.path} has 64 bits a pixel: export it with whole numbers of 16 and a RescaleSlope")
        if one.rows < 1 or one.columns < 1 or one.bits[0] not in (1, 8, 16, 32) or not 1 <= one.bits[1] <= one.bits[0]:
            raise UserError(f"{one.path} has an impossible number of rows, columns or bits: export it again")
        if one.slope == 0.0:
            raise UserError(f"{one.path} has the RescaleSlope 0: export it again")
        if one.table:
            raise UserError(f"{one.path} has its intensities in a table (Modality LUT): export it with a slope instead")
        if one.samples not in (1, 3) or one.photometric in ("PALETTE COLOR", "MONOCHROME1"):
            kind = one.photometric if one.samples in (1, 3) else f"{one.samples} samples a pixel"
            raise UserError(f"{one.path} has {kind}: convert it to MONOCHROME2 or RGB")
    if len({one.samples for one in slices}) > 1:
        raise UserError(f"{path} mixes grey and colour slices in one series: keep one kind")


def _refuse_mixture(slices: tuple[Slice, ...], path: Path) -> None:
    for name, what in (
        ("position", "ImagePositionPatient"),
        ("orientation", "ImageOrientationPatient"),
        ("spacing", "PixelSpacing"),
    ):
        lacking = [one for one in slices if getattr(one, name) is None]
        if lacking:
            raise UserError(f"{lacking[0].path} has no {what}, so its place is not known: remove it or export it again")
    for what, tolerance, values in (
        ("sizes", 0.0, np.array([(one.rows, one.columns) for one in slices], np.float64)),
        ("orientations", _SAME_DIRECTION, np.array([one.orientation for one in slices])),
        ("pixel spacings", _SAME_LENGTH, np.array([one.spacing for one in slices])),
    ):
        # What most slices have is right; the odd ones are named.
        rounded = Counter(map(tuple, np.round(values, 3)))
        usual = np.array(rounded.most_common(1)[0][0])
        odd = np.flatnonzero(np.abs(values - usual).max(axis=1) > tolerance + 1e-3)
        if len(odd):
            example = slices[odd[0]].path
            raise UserError(
                f"{path} mixes {what} in one series ({len(odd)} of {len(slices)} slices differ, such as"
                f" {example.name}): move the odd ones out"
            )
    first = slices[0]
    orientation, spacing = present(first.orientation, _THERE), present(first.spacing, _THERE)
    columns, rows = np.array(orientation[:3]), np.array(orientation[3:])
    lengths = np.array([columns @ columns, rows @ rows])
    if np.abs(lengths - 1).max() > 0.01 or abs(columns @ rows) > 0.01:
        raise UserError(f"{first.path} has an orientation that is no pair of right-angled directions: export it again")
    if min(spacing) <= 0:
        raise UserError(f"{first.path} has a PixelSpacing that is not above 0: export it again")


def _refuse_gaps(ordered: tuple[Slice, ...], heights: np.ndarray, path: Path) -> None:
    gaps = np.diff(heights)
    if not len(gaps):
        return
    if gaps.min() < 1e-3:
        counts = Counter(np.round(heights, 2))
        times = set(counts.values())
        if times == {max(times)} and max(times) > 1:
            raise SeveralVolumesError(
                f"{path} holds {max(times)} volumes in one series (echoes, phases or b values):"
                " export each as a series of its own"
            )
        twin = int(np.argmin(gaps))
        raise UserError(
            f"{path} has two slices at one position ({ordered[twin].path.name} and {ordered[twin + 1].path.name}):"
            " remove one"
        )
    # The lower of two middle ones: of three slices that are left, one gap may be too wide.
    usual = float(np.sort(gaps)[(len(gaps) - 1) // 2])
    tolerance = max(_EVEN * usual, _ROUNDED)
    uneven = np.flatnonzero(np.abs(gaps - usual) > tolerance)
    if not len(uneven):
        return
    at = int(uneven[0])
    more = f" and in {len(uneven) - 1} more places" if len(uneven) > 1 else ""
    missing = round(float(gaps[at]) / usual) - 1
    if missing >= 1 and abs(gaps[at] - (missing + 1) * usual) <= tolerance * (missing + 1):
        lost = f"slice {at + 2}" if missing == 1 else f"slices {at + 2} to {at + 1 + missing}"
        raise UserError(
            f"{path} lacks {lost} of the series, between {ordered[at].path.name} and {ordered[at + 1].path.name}{more}:"
            " add the missing files"
        )
    raise UserError(
        f"{path} has uneven gaps between slices ({gaps[at]:.3g} mm between {ordered[at].path.name} and"
        f" {ordered[at + 1].path.name}, usually {usual:.3g} mm{more}): resample it or add the missing files"
    )


def _step(positions: np.ndarray, normal: np.ndarray, thickness: float, pixel: float, path: Path) -> np.ndarray:
    """Return the way from one slice to the next; with a tilted gantry it does not follow the normal."""
    if len(positions) == 1:
        return normal * (thickness if thickness > 0 else 1.0)
    step = (positions[-1] - positions[0]) / (len(positions) - 1)
    line = positions[0] + np.arange(len(positions))[:, None] * step
    aside = (positions - line) - np.outer((positions - line) @ normal, normal)
    if np.linalg.norm(aside, axis=1).max() > 0.5 * pixel:
        raise UserError(f"{path} has slices that are shifted against each other: move the odd ones out or resample it")
    return step
