"""Scaling intensities to store domain, by rules of each channel."""

import numpy as np

from synthmed.data.foreground import body_floor, lowest_share
from synthmed.data.schema import Normalisation, Scaling

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
