"""Where an image has something to show: the box of its content, its body, and what its CT numbers are there."""

import math
from collections.abc import Sequence

import numpy as np

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""First voxel and the one after the last along each axis."""

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


def whole_box(shape: tuple[int, ...]) -> Box:
    """Return the box that holds a whole volume of this shape."""
    return (0, shape[0]), (0, shape[1]), (0, shape[2])


def kept_share(box: Box, shape: tuple[int, int, int]) -> float:
    """Return the share of a volume's voxels within a box, 0..1."""
    return float(np.prod([(stop - start) / extent for (start, stop), extent in zip(box, shape, strict=True)]))


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
