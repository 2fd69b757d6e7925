"""Radial power spectra: what is lost at high frequencies is blur, what is gained is noise or a grid."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from synthmed.evaluation.figures import Estimate
from synthmed.evaluation.neighbours import blocks
from synthmed.evaluation.resampling import Units, interval, paired_weights

NYQUIST = 0.5
MOST_BANDS = 32
HIGHEST = 0.75
"""The highest band is that from this share of the Nyquist frequency on."""
LEAST_POWER = 1e-9
"""Power that constant slices are given, so that a ratio to it is finite: noise of a 65,000th of the range has it."""


@dataclass(frozen=True)
class SpectrumFigures:
    """Ratios of power in decibels.

    Attributes:
        difference: Mean over bands and channels of the ratio's magnitude.
        highest: Mean over channels of the ratio in the highest bands, with its sign: below 0 is blur.
    """

    difference: Estimate
    highest: Estimate


def band_frequencies(size: tuple[int, int]) -> NDArray[np.float64]:
    """Return the middle of each band for slices of a size, in cycles a pixel, `[bands]`."""
    edges = _edges(size)
    return (edges[1:] + edges[:-1]) / 2


def radial_power(images: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mean power of each slice in each band, `[n, bands, C]`.

    Bands are rings of equal width up to the Nyquist frequency. Slices lose their mean and are faded out towards the
    border by a Hann window, or else the jump between opposite borders would fill all bands of a blurred slice.

    Args:
        images: `[n, H, W, C]`.
    """
    height, width = images.shape[1:3]
    window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1]).astype(np.float32)
    window /= np.sqrt(np.mean(window**2))
    rings = _rings((height, width))
    power = np.empty((len(images), rings.shape[1], images.shape[3]))
    for block in blocks(len(images), 256):
        planes = np.moveaxis(images[block], 3, 1)
        planes = (planes - planes.mean(axis=(2, 3), keepdims=True)) * window
        found = fft.rfft2(planes, workers=-1)
        squared = (found.real**2 + found.imag**2).reshape(-1, rings.shape[0]) @ rings / (height * width)
        power[block] = np.moveaxis(squared.reshape(len(planes), -1, rings.shape[1]), 1, 2)
    return power


def spectrum_figures(
    drawn: NDArray, real: NDArray, *, drawn_units: Units, real_units: Units, size: tuple[int, int], seed: int = 0
) -> SpectrumFigures:
    """Compare the mean power of two sets band by band.

    Args:
        drawn: Of `radial_power`.
        real: Of `radial_power`.
        drawn_units: What of `drawn` is resampled as a whole.
        real_units: The same of `real`.
        size: Of the slices.
        seed: Of the resampling.
    """
    own, other = paired_weights(drawn_units, real_units, seed=seed)
    # The first row is the data as they are.
    own, other = (np.concatenate([np.ones((1, part.shape[1])), part]) for part in (own, other))
    ratio = decibels(_mean(drawn, drawn_units, own)) - decibels(_mean(real, real_units, other))
    high = band_frequencies(size) >= HIGHEST * NYQUIST
    difference, highest = np.abs(ratio).mean(axis=(1, 2)), ratio[:, high].mean(axis=(1, 2))
    return SpectrumFigures(
        difference=interval(float(difference[0]), difference[1:], lowest=0.0),
        highest=interval(float(highest[0]), highest[1:]),
    )


def decibels(power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return power in decibels of 1."""
    return 10.0 * np.log10(np.maximum(power, LEAST_POWER))


def _mean(power: NDArray, units: Units, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.tensordot(weights, units.sums(power), axes=1) / (weights @ units.sizes)[:, None, None]


def _edges(size: tuple[int, int]) -> NDArray[np.float64]:
    # A ring as wide as the coarser of the two grids of frequencies is empty nowhere.
    bands = min(max(min(size) // 2, 1), MOST_BANDS)
    return np.linspace(0.0, NYQUIST, bands + 1)


def _rings(size: tuple[int, int]) -> NDArray[np.float32]:
    """Return the weights that turn the half spectrum of `rfft2` into means over rings, `[frequencies, bands]`."""
    rows, columns = np.fft.fftfreq(size[0]), np.fft.rfftfreq(size[1])
    radius = np.hypot(rows[:, None], columns[None, :])
    # Columns that stand for their mirror image as well count twice.
    twice = np.where((columns > 0) & (columns < NYQUIST), 2.0, 1.0) * np.ones_like(radius)
    edges = _edges(size)
    band = np.searchsorted(edges, radius.ravel(), side="left") - 1
    rings = np.zeros((radius.size, len(edges) - 1), np.float32)
    inside = (radius.ravel() > 0) & (band < len(edges) - 1)
    rings[np.flatnonzero(inside), band[inside]] = twice.ravel()[inside]
    return rings / rings.sum(axis=0)
