"""Intensities of a case: what is foreground, the bias field of MRI, and scaling to [-1, 1]."""

import math
from collections.abc import Sequence

import numpy as np

from synthmed.data.geometry import Box
from synthmed.data.schema import Normalisation, Scaling

HOUNSFIELD_STEP = 10
"""Width of a bin in which CT numbers are counted, HU."""
HOUNSFIELD_RANGE = (-1024, 3071)
"""What 12 bits of a CT scanner hold; values beyond are those of its padding or of metal."""
CT_BODY = -500
"""Between air and lung on one side and soft tissue on the other, HU."""
_BINS = 64
# Voxels at most from which a threshold is found.
_SAMPLE = 2**22
# Whatever has its most frequent grey value above this share of its range has no dark surroundings.
_DARK = 0.25


class Measures:
    """What a plan is fitted to, gathered over the channels of a case.

    Args:
        modalities: Kind of each channel's intensities, see `Dataset`.
        labels: Label values `[X, Y, Z]`; None where there are none.
        ignore_value: Label value that means "not known".

    Attributes:
        box: Joined content of the channels so far; None where all of them are constant.
        hounsfield: Of each channel so far, its `hounsfield_counts` where it is CT, else nothing.
    """

    def __init__(self, modalities: Sequence[str], *, labels: np.ndarray | None, ignore_value: int | None):
        self._modalities, self._labels, self._ignore_value = modalities, labels, ignore_value
        self.box: Box | None = None
        self.hounsfield: list[dict[int, int]] = []

    def add(self, voxels: np.ndarray) -> None:
        """Measure the channels of one file, `[X, Y, Z, C]`."""
        found = content_box(voxels)
        self.box = _joined(self.box, found) if self.box and found else self.box or found
        for channel in range(voxels.shape[3]):
            number = len(self.hounsfield)
            is_ct = number < len(self._modalities) and self._modalities[number] == "CT"
            values = voxels[..., channel]
            self.hounsfield.append(hounsfield_counts(values, self._foreground(values.shape)) if is_ct else {})

    def _foreground(self, shape: tuple[int, ...]) -> np.ndarray | None:
        if self._labels is None or self._labels.shape != shape:
            return None
        known = self._labels != 0
        return known if self._ignore_value is None else known & (self._labels != self._ignore_value)


def content_box(images: np.ndarray) -> Box | None:
    """Return the smallest box outside which every channel has its lowest value, of `[X, Y, Z, C]`.

    nnU-Net crops to what is not 0; a background need not be 0. Where all channels are constant, there is none.
    """
    filled = [np.zeros(extent, bool) for extent in images.shape[:3]]
    for channel in range(images.shape[3]):
        values = images[..., channel]
        above = values > values.min()
        for axis, line in enumerate(filled):
            line |= above.any(axis=tuple({0, 1, 2} - {axis}))
    if not filled[0].any():
        return None
    first, second, third = (_ends(line) for line in filled)
    return first, second, third


def lowest_share(values: np.ndarray) -> float:
    """Return the share of voxels with the lowest value, 0..1: a constant background, where there is one."""
    return float(np.count_nonzero(values == values.min()) / values.size)


def body_mask(values: np.ndarray) -> np.ndarray:
    """Return where one channel, a volume or a slice, shows the body, bool; see `body_floor`."""
    return values > body_floor(values)


def body_floor(values: np.ndarray) -> float:
    """Return the intensity above which a volume or slice shows the body; minus infinity where all of it does.

    - Where a fifth of the voxels or more have exactly the lowest value (a skull-stripped or padded image): that value.
    - Where the most frequent grey value is not a dark one (a crop from within the body): none.
    - Else Zack's triangle threshold, which is made for one dark peak with a long tail. On a head of known tissue it
      kept all of it; Otsu's, Huang's and Li's lost up to 15 % of the darker ones.
    """
    import SimpleITK as sitk

    lowest = float(values.min())
    if lowest == values.max():
        return -np.inf
    if lowest_share(values) >= 0.2:
        return lowest
    # A part of the voxels has the histogram of all: a large CT or a whole body would need several copies of itself.
    step = max(1, math.ceil((values.size / _SAMPLE) ** (1 / 3)))
    sample = values[(slice(None, None, step),) * values.ndim]
    low, high = (float(value) for value in np.percentile(sample, (0.5, 99.5)))
    if not high > low:
        return lowest
    # A few voxels of another order of magnitude would leave all others in one bin of the histogram.
    clipped = np.clip(sample, low, high)
    counts, _ = np.histogram(clipped, _BINS, (low, high))
    if np.argmax(counts) >= _DARK * _BINS:
        return -np.inf
    threshold = sitk.TriangleThresholdImageFilter()
    threshold.Execute(sitk.GetImageFromArray(np.ascontiguousarray(clipped)))
    return float(threshold.GetThreshold())


def hounsfield_counts(values: np.ndarray, foreground: np.ndarray | None) -> dict[int, int]:
    """Return how many voxels have which CT numbers: by the lower end of each bin of 10 HU, empty bins left out.

    Args:
        values: One channel `[X, Y, Z]` in HU.
        foreground: bool `[X, Y, Z]`: the voxels that count; None where there is no label map: those above -500 HU.
    """
    chosen = values[values > CT_BODY if foreground is None else foreground]
    steps = np.floor(np.clip(chosen, *HOUNSFIELD_RANGE) / HOUNSFIELD_STEP).astype(np.int64)
    bins, counts = np.unique(steps, return_counts=True)
    return {int(number) * HOUNSFIELD_STEP: int(count) for number, count in zip(bins, counts, strict=True)}


def _ends(line: np.ndarray) -> tuple[int, int]:
    filled = np.flatnonzero(line)
    return int(filled[0]), int(filled[-1]) + 1


def _joined(first: Box, second: Box) -> Box:
    bounds = [(min(a[0], b[0]), max(a[1], b[1])) for a, b in zip(first, second, strict=True)]
    return bounds[0], bounds[1], bounds[2]


COARSE = 32
"""Voxels along an axis with which the field is sought at most: it is smooth over a large part of the image."""
# At three scales of the field, as in 3D Slicer; a fourth follows anatomy in a head, and takes twice as long.
_ITERATIONS = [50, 40, 30]
# Along a shorter axis a cubic spline has nothing to hold on to, so that its slices are treated one by one.
_SHORTEST = 4


def correct_bias(values: np.ndarray, zooms: tuple[float, float, float]) -> np.ndarray:
    """Return one channel `[X, Y, Z]` freed of a slow multiplicative field, float32; its mean within the body stays.

    The field is sought within the body of a shrunken image and divided out at full resolution. Where an axis has fewer
    than 4 voxels, that is done for each of its slices by itself.

    Args:
        values: float32 intensities.
        zooms: Voxel sizes.
    """
    if values.min() == values.max():
        return values.astype(np.float32)
    short = [axis for axis in range(3) if values.shape[axis] < _SHORTEST]
    if not short:
        return _corrected(values, zooms)
    corrected = np.empty(values.shape, np.float32)
    axis = short[-1]
    rest = tuple(size for number, size in enumerate(zooms) if number != axis)
    for index in range(values.shape[axis]):
        plane = np.take(values, index, axis=axis)
        place = tuple(slice(None) if number != axis else index for number in range(3))
        corrected[place] = plane if min(plane.shape) < _SHORTEST else _corrected(plane, rest)
    return corrected


def _corrected(values: np.ndarray, zooms: tuple[float, ...]) -> np.ndarray:
    """Return an array of two or three axes divided by its field."""
    import SimpleITK as sitk

    body = body_mask(values)
    if not body.any() or values.min() == values.max():
        return values.astype(np.float32)
    # N4 works on logarithms: what is not positive cannot have been multiplied by a field.
    body &= values > 0
    if np.count_nonzero(body) < _SHORTEST**2:
        return values.astype(np.float32)
    image = sitk.GetImageFromArray(np.ascontiguousarray(values, np.float32))
    mask = sitk.GetImageFromArray(body.astype(np.uint8))
    # SimpleITK counts axes from the last of a NumPy array.
    image.SetSpacing([float(size) for size in reversed(zooms)])
    mask.CopyInformation(image)
    shrink = [-(-extent // COARSE) for extent in reversed(values.shape)]
    field_filter = sitk.N4BiasFieldCorrectionImageFilter()
    field_filter.SetMaximumNumberOfIterations(_ITERATIONS)
    field_filter.Execute(sitk.Shrink(image, shrink), sitk.Shrink(mask, shrink))
    field = np.exp(sitk.GetArrayFromImage(field_filter.GetLogBiasFieldAsImage(image)))
    corrected = values / field
    corrected *= float(values[body].mean() / corrected[body].mean())
    return corrected.astype(np.float32)


# Voxels that are scaled at a time: what is needed in double precision stays small.
_BLOCK = 2**22


def normalise(images: np.ndarray, scalings: tuple[Scaling, ...]) -> tuple[np.ndarray, Normalisation]:
    """Scale each channel of `[X, Y, Z, C]` as its rule asks, to [-1, 1], and clip; `images` stays as it is."""
    normalisation = fit_normalisation(images, scalings)
    scaled = np.empty(images.shape, np.float32)
    for channel in range(images.shape[-1]):
        scale, offset = normalisation.scale[channel], normalisation.offset[channel]
        scale_into(scaled[..., channel], images[..., channel], scale, offset)
    return scaled, normalisation


def fit_normalisation(images: np.ndarray, scalings: tuple[Scaling, ...]) -> Normalisation:
    """Return how the channels of one case, `[X, Y, Z, C]` in the source's units, are scaled."""
    fitted = [scale_and_offset(images[..., channel], scaling) for channel, scaling in enumerate(scalings)]
    return Normalisation(scale=tuple(scale for scale, _ in fitted), offset=tuple(offset for _, offset in fitted))


def scale_and_offset(values: np.ndarray, scaling: Scaling) -> tuple[float, float]:
    """Return scale and offset of one channel `[X, Y, Z]`: `values = scale * prepared + offset`."""
    low, high = _limits(values, scaling)
    if not high > low:
        # All but a few voxels have one value: only the whole range tells them apart.
        low, high = float(values.min()), float(values.max())
    return ((high - low) / 2, (high + low) / 2) if high > low else (1.0, low + 1.0)


def scale_into(target: np.ndarray, values: np.ndarray, scale: float, offset: float) -> None:
    """Write `values` to `target` (float32, same shape) in store domain, -1 to 1; what is beyond is clipped.

    In double precision, a block at a time: CT numbers of 16 bits and counts of 24 bits return as the whole numbers
    that they were.
    """
    rows = max(1, _BLOCK // max(1, values[0].size))
    for first in range(0, len(values), rows):
        block = values[first : first + rows].astype(np.float64)
        block -= offset
        block /= scale
        target[first : first + rows] = np.clip(block, -1.0, 1.0, out=block)


def _mean_and_deviation(values: np.ndarray, floor: float) -> tuple[float, float]:
    """Return mean and standard deviation of the voxels above `floor`, in double precision, a plane at a time."""
    count = sum(int(np.count_nonzero(plane > floor)) for plane in values)
    if not count:
        return float(values.mean(dtype=np.float64)), 0.0
    mean = sum(float(plane[plane > floor].sum(dtype=np.float64)) for plane in values) / count
    squares = sum(float(np.square(plane[plane > floor] - np.float64(mean)).sum()) for plane in values)
    return mean, float(np.sqrt(squares / count))


def _limits(values: np.ndarray, scaling: Scaling) -> tuple[float, float]:
    if scaling.method == "window":
        return scaling.low, scaling.high
    if scaling.method == "zscore":
        mean, deviation = _mean_and_deviation(values, body_floor(values))
        return mean + scaling.low * deviation, mean + scaling.high * deviation
    low, high = (float(value) for value in np.percentile(values, (scaling.low, scaling.high)))
    if lowest_share(values) > 0.5:
        # Most of the image is a constant background, which stays the darkest there is; of all voxels together it would
        # leave the bright percentile somewhere within the body, or in the background itself.
        high = float(np.percentile(values[values > values.min()], scaling.high)) if values.max() > low else high
    return low, high
