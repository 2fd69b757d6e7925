"""Texture, sharpness and intensities: sliced Wasserstein distance of patches, power spectra, histograms."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from synthmed.evaluation.distances import PATCH, blocks, laplacian_pyramid
from synthmed.evaluation.resampling import Units, interval, weights_with_original
from synthmed.evaluation.result import Estimate

PATCHES_A_SLICE = 16
DIRECTIONS = 64
PROJECTION_BINS = 512
REACH = 8.0
"""Bins reach so many standard deviations of the training slices to either side; what is beyond counts as at the end."""
_SLICES_FOR_SCALE = 1000
_PATCH_BLOCK = 128
# Of a channel that is flat in all training slices, whose deviation of 0 gives no scale; in units of [-1, 1].
_LEAST_DEVIATION = 1e-3
NYQUIST = 0.5
MOST_BANDS = 32
HIGHEST_BAND = 0.75
"""The highest band is that from this share of the Nyquist frequency on."""
LEAST_POWER = 1e-9
"""Power that constant slices are given, so that a ratio to it is finite: noise of a 65,000th of the range has it."""
INTENSITY_BINS = 256
INTENSITY_EDGES = np.linspace(-1.0, 1.0, INTENSITY_BINS + 1)
_BIN_WIDTH = 2.0 / INTENSITY_BINS


@dataclass(frozen=True)
class _Level:
    """How patches of a level become projections of about mean 0 and deviation 1 over the training slices.

    Attributes:
        side: The level's smaller side.
        directions: Unit vectors over their channels' deviations, `[features, directions]`.
        centre: Mean of each projection over the training slices, `[directions]`.
        width: Standard deviation of each projection over them, `[directions]`.
    """

    side: int
    directions: NDArray[np.float32]
    centre: NDArray[np.float32]
    width: NDArray[np.float32]


class PatchDistance:
    """Sliced Wasserstein distances of patches at each level of a Laplacian pyramid, with intervals.

    What Karras et al. 2018 (arXiv:1710.10196, section 5) compare: fine levels see texture and blur, coarse ones the
    anatomy. The projected patches of each unit are counted in bins, so that the distance of every resample follows from
    sums of counts. Distances are in standard deviations of the training slices.

    Args:
        training: Slices that the scale is taken from, `[n, H, W, C]`.
        seed: Of directions and of the places of patches.
    """

    def __init__(self, training: NDArray[np.float32], *, seed: int = 0):
        self.seed = seed
        chosen = training[np.linspace(0, len(training) - 1, min(len(training), _SLICES_FOR_SCALE)).astype(int)]
        bands = laplacian_pyramid(chosen)
        random = np.random.default_rng(seed)
        self.levels = [_fit_level(band, random) for band in bands]

    def counts(self, images: NDArray[np.float32], units: Units) -> list[NDArray[np.float64]]:
        """Return for each level how many patches of each unit fall into each bin, `[units, directions, bins]`."""
        found = [np.zeros((units.count, DIRECTIONS, PROJECTION_BINS)) for _ in self.levels]
        random = np.random.default_rng(self.seed)
        for unit in range(units.count):
            members = np.flatnonzero(units.owner == unit)
            for block in blocks(len(members), _PATCH_BLOCK):
                bands = laplacian_pyramid(images[members[block]])
                for total, level, band in zip(found, self.levels, bands, strict=True):
                    total[unit] += _binned(level, band, random)
        return found

    def distances(
        self, first: list[NDArray], second: list[NDArray], *, first_units: Units, second_units: Units
    ) -> dict[str, Estimate]:
        """Return the distance at each level, by its smaller side ("64", "32", ...), and their mean as "mean".

        Args:
            first: Of `counts`.
            second: Of `counts`.
            first_units: Of `first`.
            second_units: Of `second`.
        """
        own, other = weights_with_original(first_units, second_units, seed=self.seed)
        rows = {}
        for level, one, two in zip(self.levels, first, second, strict=True):
            curves = _cumulative(one, own), _cumulative(two, other)
            rows[str(level.side)] = (np.abs(curves[0] - curves[1]).mean(axis=2) * 2 * REACH * level.width).mean(axis=1)
        rows["mean"] = np.mean(list(rows.values()), axis=0)
        return {name: interval(float(row[0]), row[1:], lowest=0.0) for name, row in rows.items()}


def _fit_level(band: NDArray[np.float32], random: np.random.Generator) -> _Level:
    deviation = np.maximum(band.std(axis=(0, 1, 2)), _LEAST_DEVIATION)
    features = PATCH * PATCH * band.shape[3]
    directions = random.standard_normal((features, DIRECTIONS)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=0)
    # Patches are (channel, row, column), as windows of a slice come.
    directions /= np.repeat(deviation, PATCH * PATCH)[:, None]
    found = _patches(band, random) @ directions
    width = np.maximum(found.std(axis=0), _LEAST_DEVIATION)
    return _Level(min(band.shape[1:3]), directions, found.mean(axis=0), width)


def _binned(level: _Level, band: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.int64]:
    found = (_patches(band, random) @ level.directions - level.centre) / level.width
    places = ((found + REACH) * (PROJECTION_BINS / (2 * REACH))).clip(0, PROJECTION_BINS - 1).astype(np.int64)
    places += np.arange(DIRECTIONS) * PROJECTION_BINS
    return np.bincount(places.ravel(), minlength=DIRECTIONS * PROJECTION_BINS).reshape(DIRECTIONS, PROJECTION_BINS)


def _cumulative(counts: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the share of patches at or below the end of each bin, `[resamples, directions, bins]`."""
    total = (weights @ counts.reshape(len(counts), -1)).reshape(-1, DIRECTIONS, PROJECTION_BINS)
    return (np.cumsum(total, axis=2) / total.sum(axis=2, keepdims=True)).astype(np.float32)


def _patches(band: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    windows = np.lib.stride_tricks.sliding_window_view(band, (PATCH, PATCH), axis=(1, 2))
    rows = random.integers(0, windows.shape[1], (len(band), PATCHES_A_SLICE))
    columns = random.integers(0, windows.shape[2], (len(band), PATCHES_A_SLICE))
    return windows[np.arange(len(band))[:, None], rows, columns].reshape(len(band) * PATCHES_A_SLICE, -1)


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
    edges = _band_edges(size)
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
        channels = np.moveaxis(images[block], 3, 1)
        channels = (channels - channels.mean(axis=(2, 3), keepdims=True)) * window
        found = fft.rfft2(channels, workers=-1)
        squared = (found.real**2 + found.imag**2).reshape(-1, rings.shape[0]) @ rings / (height * width)
        power[block] = np.moveaxis(squared.reshape(len(channels), -1, rings.shape[1]), 1, 2)
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
    own, other = weights_with_original(drawn_units, real_units, seed=seed)
    ratio = decibels(_mean_power(drawn, drawn_units, own)) - decibels(_mean_power(real, real_units, other))
    high = band_frequencies(size) >= HIGHEST_BAND * NYQUIST
    difference, highest = np.abs(ratio).mean(axis=(1, 2)), ratio[:, high].mean(axis=(1, 2))
    return SpectrumFigures(
        difference=interval(float(difference[0]), difference[1:], lowest=0.0),
        highest=interval(float(highest[0]), highest[1:]),
    )


def decibels(power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return power in decibels of 1."""
    return 10.0 * np.log10(np.maximum(power, LEAST_POWER))


def _mean_power(power: NDArray, units: Units, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.tensordot(weights, units.sums(power), axes=1) / (weights @ units.sizes)[:, None, None]


def _band_edges(size: tuple[int, int]) -> NDArray[np.float64]:
    # A ring as wide as the coarser of the two grids of frequencies is empty nowhere.
    bands = min(max(min(size) // 2, 1), MOST_BANDS)
    return np.linspace(0.0, NYQUIST, bands + 1)


def _rings(size: tuple[int, int]) -> NDArray[np.float32]:
    """Return the weights that turn the half spectrum of `rfft2` into means over rings, `[frequencies, bands]`."""
    rows, columns = np.fft.fftfreq(size[0]), np.fft.rfftfreq(size[1])
    radius = np.hypot(rows[:, None], columns[None, :])
    # Columns that stand for their mirror image as well count twice.
    twice = np.where((columns > 0) & (columns < NYQUIST), 2.0, 1.0) * np.ones_like(radius)
    edges = _band_edges(size)
    band = np.searchsorted(edges, radius.ravel(), side="left") - 1
    rings = np.zeros((radius.size, len(edges) - 1), np.float32)
    inside = (radius.ravel() > 0) & (band < len(edges) - 1)
    rings[np.flatnonzero(inside), band[inside]] = twice.ravel()[inside]
    return rings / rings.sum(axis=0)


@dataclass(frozen=True)
class HistogramFigures:
    """How far the intensities of one channel are apart.

    Attributes:
        wasserstein: Wasserstein-1 distance, in the unit of the intensities, whose range is [-1, 1].
        divergence: Jensen-Shannon divergence in bits, 0 to 1.
    """

    wasserstein: Estimate
    divergence: Estimate


def intensity_counts(images: NDArray[np.float32], units: Units) -> NDArray[np.float64]:
    """Return how many pixels of each unit fall into each bin, `[units, C, bins]`; what is outside is at the ends.

    Args:
        images: `[n, H, W, C]`.
        units: Of the slices.
    """
    channels = images.shape[3]
    counts = np.zeros((units.count, channels, INTENSITY_BINS))
    offsets = np.arange(channels) * INTENSITY_BINS
    for unit in range(units.count):
        members = np.flatnonzero(units.owner == unit)
        for block in blocks(len(members), 128):
            places = ((images[members[block]] + 1.0) * (INTENSITY_BINS / 2)).clip(0, INTENSITY_BINS - 1).astype(
                np.int64
            ) + offsets
            counts[unit] += np.bincount(places.ravel(), minlength=channels * INTENSITY_BINS).reshape(
                channels, INTENSITY_BINS
            )
    return counts


def histogram_figures(
    drawn: NDArray, real: NDArray, *, drawn_units: Units, real_units: Units, seed: int = 0
) -> list[HistogramFigures]:
    """Compare two sets channel by channel.

    Args:
        drawn: Of `intensity_counts`.
        real: Of `intensity_counts`.
        drawn_units: Of `drawn`.
        real_units: Of `real`.
        seed: Of the resampling.
    """
    own, other = weights_with_original(drawn_units, real_units, seed=seed)
    one, two = _shares(np.tensordot(own, drawn, axes=1)), _shares(np.tensordot(other, real, axes=1))
    apart = np.abs(np.cumsum(one - two, axis=2)).sum(axis=2) * _BIN_WIDTH
    middle = (one + two) / 2
    divergence = (_relative_entropy(one, middle) + _relative_entropy(two, middle)) / 2
    return [
        HistogramFigures(
            wasserstein=interval(float(apart[0, channel]), apart[1:, channel], lowest=0.0),
            divergence=interval(float(divergence[0, channel]), divergence[1:, channel], lowest=0.0, highest=1.0),
        )
        for channel in range(drawn.shape[1])
    ]


def _shares(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return counts / counts.sum(axis=2, keepdims=True)


def _relative_entropy(shares: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Kullback-Leibler divergence in bits over the last axis, `reference` above 0 where `shares` is."""
    ratio = np.divide(shares, reference, out=np.ones_like(shares), where=shares > 0)
    return (shares * np.log2(ratio)).sum(axis=-1)
