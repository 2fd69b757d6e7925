"""Search spaces that register: images by shift, scale and intensities, label maps by shift and scale."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from synthmed.data.schema import IGNORE
from synthmed.evaluation.memorisation.search import (
    Floats,
    Nearest,
    SliceReader,
    Whole,
    distances_to_candidates,
    nearest_groups,
)

LONGEST_IMAGE = 64
"""Pixels along the longer side at which slices are compared; larger ones are averaged down."""
IMAGE_CELLS = 10
"""Cells along the longer side of the coarse grid by which candidates are found."""
STRIDES = 3
"""Shifts of the coarse grid to one of its cells."""
COARSE_SCALES = (0.92, 1.0, 1.08)
FINE_STEPS = (-0.04, 0.0, 0.04)
"""Scales tried: each coarse one, then these around the one that fitted best."""
IMAGE_PATIENTS = 4
"""Patients whose most similar slices are compared at full resolution."""
IMAGE_SOFTENING = 0.005
"""Distance between two slices that differ by noise and interpolation alone."""
FLAT = 0.02
"""Standard deviation, of a range of 2, below which a slice shows nothing."""
LONGEST_MASK = 96
"""Pixels along the longer side at which label maps are compared; of larger ones every second counts, or every third."""
MASK_CELLS = 16
MASK_SCALES = (0.9, 0.95, 1.0, 1.05, 1.1)
MASK_SHIFTS = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)]
"""Shifts tried around the one that brings the centres together, in pixels."""
MASK_PATIENTS = 6
SMALLEST = 40
"""Pixels of foreground below which a label map has no shape that could be recognised."""
MASK_SOFTENING = 2
"""Pixels, as a share of the foreground: shapes of few pixels coincide by chance."""
_BLOCK = 64
Labels = NDArray[np.uint8]


class ImageSpace:
    """Images registered by shift, scale and intensities; the distance is 1 - normalised cross-correlation.

    The correlation is that of the middle of the query, three quarters of each side, with the reference at the shift (up
    to an eighth of each side) and scale (0.88 to 1.12) that fit best, averaged over channels. Subtracting the mean of
    each channel and dividing by its deviation takes brightness and contrast away. Both images are smoothed with
    [1, 2, 1] / 4 first, which takes most of the noise away.

    Args:
        size: Rows and columns of a slice.
    """

    name = "images"
    typical_is_near = False
    label = "Images, registered"
    definition = (
        "1 - normalised cross-correlation of the middle of the sample with the training slice, after the shift (up to "
        "an eighth of each side) and scale (0.88 to 1.12) that fit best; 0 is a copy at any brightness and contrast"
    )

    def __init__(self, size: tuple[int, int]):
        shrink = max(1, math.ceil(max(size) / LONGEST_IMAGE))
        fine = tuple(max(1, side // shrink) for side in size)
        self._down = [_averaging(side, count) @ _smoothing(side) for side, count in zip(size, fine, strict=True)]
        self._fine = fine
        self._margin = [max(1, side // 8) for side in fine]
        # The middle in cells, and the whole slice in overlapping cells, STRIDES to the length of one.
        cells = max(1.0, max(fine) / IMAGE_CELLS)
        self._inner = [
            max(1, round((side - 2 * margin) / cells)) for side, margin in zip(fine, self._margin, strict=True)
        ]
        self._cells = [
            _strided(side, margin, inner) for side, margin, inner in zip(fine, self._margin, self._inner, strict=True)
        ]
        self._reach = [
            (len(cells) - 1 - STRIDES * (inner - 1)) for cells, inner in zip(self._cells, self._inner, strict=True)
        ]

    def nearest(self, queries: SliceReader, references: SliceReader, *, leave_own_out: bool = False) -> Nearest:
        """Find the nearest reference slice of each query; see `SearchSpace.nearest`."""
        blocks = queries.blocks(_BLOCK)
        prepared = np.concatenate([self._prepared(queries, block) for block in blocks])
        index, scale = nearest_groups(
            np.stack([self._coarse_query(prepared, scale) for scale in COARSE_SCALES], axis=1),
            lambda numbers: self._coarse_references(self._prepared(references, numbers)),
            references.patient,
            most=IMAGE_PATIENTS,
            own=queries.patient if leave_own_out else None,
        )
        flat = np.array([image.std(axis=(0, 1)).max() < FLAT for image in prepared])
        index[flat] = -1
        index, scale = _with_neighbours(index, scale, references.patient)
        parts = [self._distances(prepared[block], references, index[block], scale[block]) for block in blocks]
        return Nearest.of_candidates(index, np.concatenate(parts), references.patient, IMAGE_SOFTENING)

    def _prepared(self, slices: SliceReader, numbers: NDArray[np.int64]) -> Floats:
        """Return smoothed slices `[n, C, h, w]` of at most `LONGEST_IMAGE` pixels."""
        images = np.moveaxis(slices.read(numbers), -1, 1).astype(np.float32)
        return self._down[0] @ images @ self._down[1].T

    def _coarse_query(self, images: Floats, scale: float) -> Floats:
        """Return the middle of images on the coarse grid as unit vectors `[n, features]`."""
        rows, columns = (
            (cells @ _scaling(side, scale))[reach // 2 :: STRIDES][:inner]
            for cells, side, reach, inner in zip(self._cells, self._fine, self._reach, self._inner, strict=True)
        )
        return _unit(rows @ images @ columns.T).reshape(len(images), -1)

    def _coarse_references(self, images: Floats) -> Floats:
        """Return the coarse grid at every shift as unit vectors `[m, shifts, features]`."""
        coarse = self._cells[0] @ images @ self._cells[1].T
        height, width = ((inner - 1) * STRIDES + 1 for inner in self._inner)
        windows = np.lib.stride_tricks.sliding_window_view(coarse, (height, width), axis=(2, 3))[
            ..., ::STRIDES, ::STRIDES
        ]
        windows = np.moveaxis(windows, 1, 3).reshape(len(images), -1, images.shape[1], *self._inner)
        return _unit(windows).reshape(*windows.shape[:2], -1)

    def _distances(
        self, images: Floats, references: SliceReader, index: NDArray[np.int64], scale: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return the distance of each image to each of its candidates `[n, k]`."""

        def measure(rows: Whole, places: Whole, numbers: Whole, which: Whole) -> NDArray[np.float64]:
            found = self._prepared(references, numbers)
            window = [side - 2 * margin for side, margin in zip(self._fine, self._margin, strict=True)]
            spectra = fft.rfft2(found, workers=-1)[which]
            deviations = _window_deviations(found, window)[which]
            best = np.full(len(rows), -1.0)
            for number, middle in enumerate(COARSE_SCALES):
                mine = scale[rows, places] == number
                for step in FINE_STEPS if mine.any() else ():
                    templates = self._templates(images, middle + step)[rows[mine]]
                    correlation = _correlation(templates, spectra[mine], deviations[mine], self._fine)
                    best[mine] = np.maximum(best[mine], correlation)
            return np.maximum(1.0 - best, 0.0)

        return distances_to_candidates(index, measure)

    def _templates(self, images: Floats, scale: float) -> Floats:
        """Return the middle of images at a scale, each channel with mean 0 and norm 1, `[n, C, h, w]`."""
        rows, columns = (
            _scaling(side, scale)[margin : side - margin] for side, margin in zip(self._fine, self._margin, strict=True)
        )
        return _unit(rows @ images @ columns.T) * math.sqrt(images.shape[1])


def _correlation(templates: Floats, spectra: np.ndarray, deviations: Floats, size: tuple[int, ...]) -> np.ndarray:
    """Return the largest mean over channels of the normalised cross-correlation, over all shifts, `[n]`."""
    products = fft.irfft2(spectra * np.conj(fft.rfft2(templates, s=size, workers=-1)), s=size, workers=-1)
    products = products[..., : deviations.shape[2], : deviations.shape[3]]
    shares = np.divide(products, deviations, out=np.zeros_like(deviations), where=deviations > 0)
    return shares.mean(axis=1).max(axis=(1, 2))


def _window_deviations(images: Floats, window: list[int]) -> Floats:
    """Return the norm of each channel less its mean in every window, `[n, C, shifts, shifts]`; 0 where it is flat."""
    pixels = window[0] * window[1]
    centred = images.astype(np.float64) - images.mean(axis=(2, 3), keepdims=True, dtype=np.float64)
    sums, squares = _window_sums(centred, window), _window_sums(centred**2, window)
    variances = (squares - sums**2 / pixels) / pixels
    norms = np.sqrt(np.maximum(variances, 0.0) * pixels)
    return np.where(variances > (FLAT / 10) ** 2, norms, 0.0).astype(np.float32)


def _window_sums(values: np.ndarray, window: list[int]) -> np.ndarray:
    for axis, length in zip((2, 3), window, strict=True):
        pad = [(0, 0)] * values.ndim
        pad[axis] = (1, 0)
        summed = np.cumsum(np.pad(values, pad), axis=axis)
        after, before = (np.take(summed, np.arange(first, first + summed.shape[axis] - length), axis=axis)
                         for first in (length, 0))  # fmt: skip
        values = after - before
    return values


def _unit(windows: np.ndarray) -> Floats:
    """Give each channel mean 0 and norm 1 / sqrt(channels), so that an inner product is a mean of correlations.

    A flat channel becomes 0: noise that is hardly there must not count as a pattern.
    """
    centred = windows - windows.mean(axis=(-2, -1), keepdims=True)
    pixels = windows.shape[-1] * windows.shape[-2]
    norms = np.sqrt((centred**2).sum(axis=(-2, -1), keepdims=True))
    flat = norms < FLAT / 10 * math.sqrt(pixels)
    norms *= math.sqrt(windows.shape[-3])
    return np.where(flat, 0.0, centred / np.where(flat, 1.0, norms)).astype(np.float32)


def _cell_averages(starts: np.ndarray, ends: np.ndarray, side: int) -> Floats:
    """Return `[cells, side]`: averages over cells with these ends in pixels, which may lie within a pixel."""
    pixels = np.arange(side)
    shares = np.maximum(np.minimum(ends[:, None], pixels + 1) - np.maximum(starts[:, None], pixels), 0.0)
    return (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)


def _averaging(side: int, count: int) -> Floats:
    """Return `[count, side]`: averages over equal parts of a side."""
    edges = np.linspace(0, side, count + 1)
    return _cell_averages(edges[:-1], edges[1:], side)


def _strided(side: int, margin: int, inner: int) -> Floats:
    """Return `[places, side]`: averages over cells as long as the middle's, at every stride from the border on."""
    length = (side - 2 * margin) / inner
    steps = int(margin / (length / STRIDES))
    first = margin - steps * length / STRIDES
    places = first + length / STRIDES * np.arange(2 * steps + STRIDES * (inner - 1) + 1)
    return _cell_averages(places, places + length, side)


def _smoothing(side: int) -> Floats:
    """Return `[side, side]`: [1, 2, 1] / 4, with the border repeated."""
    padded = np.pad(np.eye(side), ((1, 1), (0, 0)), mode="edge")
    return ((padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4).astype(np.float32)


def _scaling(side: int, scale: float) -> Floats:
    """Return `[side, side]`: linear interpolation at places `scale` times as far from the centre."""
    centre = (side - 1) / 2
    places = np.clip((np.arange(side) - centre) * scale + centre, 0, side - 1)
    return np.maximum(0.0, 1.0 - np.abs(places[:, None] - np.arange(side))).astype(np.float32)


def _with_neighbours(
    index: NDArray[np.int64], scale: NDArray[np.int64], patient: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Add the slices before and after those of the two nearest patients: on the coarse grid neighbours are alike."""
    added = []
    for step in (-1, 1):
        beside = np.clip(index[:, :2] + step, 0, len(patient) - 1)
        valid = (index[:, :2] >= 0) & (beside != index[:, :2]) & (patient[beside] == patient[index[:, :2]])
        added.append(np.where(valid, beside, -1))
    return np.concatenate([index, *added], axis=1), np.concatenate([scale, scale[:, :2], scale[:, :2]], axis=1)


class MaskSpace:
    """Label maps with foreground, registered by shift and scale; the distance is 1 - Dice of all classes together.

    Each map is shifted so that the centre of its foreground lies in the middle; scales of 0.9 to 1.1 are tried.

    Args:
        size: Rows and columns of a slice.
        classes: Number of classes, background included.
    """

    name = "masks"
    typical_is_near = True
    label = "Label maps, registered"
    definition = (
        "1 - Dice of all foreground classes together (twice the pixels that agree over the foreground of both), after "
        "the shift and the scale (0.9 to 1.1) that fit best; maps with hardly any foreground are left out"
    )

    def __init__(self, size: tuple[int, int], classes: int):
        self._step = max(1, math.ceil(max(size) / LONGEST_MASK))
        self._size = tuple(math.ceil(side / self._step) for side in size)
        self._classes = classes
        self._pool = [_pooling(side, max(1, round(max(self._size) / MASK_CELLS))) for side in self._size]

    def nearest(self, queries: SliceReader, references: SliceReader, *, leave_own_out: bool = False) -> Nearest:
        """Find the nearest reference map of each query; see `SearchSpace.nearest`."""
        blocks = queries.blocks(_BLOCK)
        scaled = [np.concatenate([self._centred(queries, block, scale) for block in blocks]) for scale in MASK_SCALES]
        index, _ = nearest_groups(
            np.stack([self._vectors(maps) for maps in scaled], axis=1),
            lambda numbers: self._vectors(self._centred(references, numbers))[:, None],
            references.patient,
            most=MASK_PATIENTS,
            own=queries.patient if leave_own_out else None,
        )
        area = (scaled[MASK_SCALES.index(1.0)] > 0).sum(axis=(1, 2))
        index[area < SMALLEST] = -1
        parts = [self._distances([maps[block] for maps in scaled], references, index[block]) for block in blocks]
        softening = MASK_SOFTENING / np.maximum(area, 1)
        return Nearest.of_candidates(index, np.concatenate(parts), references.patient, softening)

    def _centred(self, slices: SliceReader, numbers: NDArray[np.int64], scale: float = 1.0) -> Labels:
        """Return label maps `[n, h, w]` with the centre of their foreground in the middle, shrunk by a scale."""
        labels = slices.read(numbers)[:, :: self._step, :: self._step]
        labels = np.where((labels >= self._classes) | (labels == IGNORE), 0, labels).astype(np.uint8)
        return np.stack([_recentred(label, scale) for label in labels])

    def _vectors(self, labels: Labels) -> Floats:
        """Return how much of each cell each class takes, as unit vectors `[n, features]`; 0 without foreground."""
        rows, columns = self._pool
        maps = [rows @ (labels == index).astype(np.float32) @ columns.T for index in range(1, self._classes)]
        vectors = np.stack(maps, axis=1).reshape(len(labels), -1) if maps else np.zeros((len(labels), 1), "f4")
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)

    def _distances(
        self, scaled: list[Labels], references: SliceReader, index: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        def measure(rows: Whole, places: Whole, numbers: Whole, which: Whole) -> NDArray[np.float64]:
            found = self._centred(references, numbers)[which]
            best = np.zeros(len(rows))
            for maps in scaled:
                own = maps[rows]
                total = (own > 0).sum(axis=(1, 2)) + (found > 0).sum(axis=(1, 2))
                for shift in MASK_SHIFTS:
                    moved = np.roll(found, shift, axis=(1, 2))
                    agreed = ((own == moved) & (own > 0)).sum(axis=(1, 2))
                    best = np.maximum(best, 2.0 * agreed / np.maximum(total, 1))
            return 1.0 - best

        return distances_to_candidates(index, measure)


def _recentred(label: Labels, scale: float) -> Labels:
    """Return a map whose foreground's centre lies in the middle: nearest neighbour, 0 beyond the border."""
    foreground = label > 0
    if not foreground.any():
        return label
    places = []
    for axis, side in enumerate(label.shape):
        counts = foreground.sum(axis=1 - axis)
        centre = float(counts @ np.arange(side)) / counts.sum()
        # Rounded, so that a shifted copy is the same map to the pixel at scale 1.
        places.append(np.rint((np.arange(side) - side // 2) * scale + math.floor(centre + 0.5)).astype(int))
    rows, columns = places
    inside = ((rows >= 0) & (rows < label.shape[0]))[:, None] & ((columns >= 0) & (columns < label.shape[1]))
    taken = label[np.clip(rows, 0, label.shape[0] - 1)[:, None], np.clip(columns, 0, label.shape[1] - 1)]
    return np.where(inside, taken, 0).astype(np.uint8)


def _pooling(side: int, cell: int) -> Floats:
    """Return `[cells, side]`: averages over cells, the last one perhaps shorter."""
    member = np.arange(side) // cell == np.arange(math.ceil(side / cell))[:, None]
    return (member / member.sum(axis=1, keepdims=True)).astype(np.float32)
