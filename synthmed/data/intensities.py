"""Scaling intensities to store domain, by rules of each channel."""

import numpy as np

from synthmed.data.schema import Normalisation, Scaling


def normalise(images: np.ndarray, scalings: tuple[Scaling, ...]) -> tuple[np.ndarray, Normalisation]:
    """Scale each channel of `[X, Y, Z, C]` as its rule asks, to [-1, 1], and clip."""
    scales, offsets = [], []
    scaled = np.empty(images.shape, np.float32)
    for channel, scaling in enumerate(scalings):
        values = images[..., channel]
        low, high = (float(value) for value in np.percentile(values, (scaling.low, scaling.high)))
        if not high > low:
            # All but a few voxels have one value: only the whole range tells them apart.
            low, high = float(values.min()), float(values.max())
        scale, offset = ((high - low) / 2, (high + low) / 2) if high > low else (1.0, low + 1.0)
        scaled[..., channel] = np.clip((values.astype(np.float64) - offset) / scale, -1.0, 1.0)
        scales.append(scale)
        offsets.append(offset)
    return scaled, Normalisation(scale=tuple(scales), offset=tuple(offsets))
