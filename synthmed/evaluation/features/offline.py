"""The feature space of the default: wavelet energies and local means, with nothing to download.

At each level of a pyramid, differences between neighbouring pixels in four directions and to all neighbours (an
undecimated Haar transform with a Laplacian) lose their sign, and their mean and their deviation in each of 4 x 4 cells
are kept: the mean tells how much structure of that size there is, the deviation whether it is spread evenly, as noise
is, or concentrated, as edges are (first- and second-order statistics in the spirit of Mallat's scattering, Bruna and
Mallat 2013, arXiv:1203.1513). Means over 8 x 8 cells tell where anatomy lies. Each level is a group, and so are the
means; a group's principal components over the training slices are divided by the first one's deviation, so that no
group is lost beside one that varies more: blur and noise show in the finest groups, wrong anatomy in the coarse ones.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from synthmed.evaluation.features.components import Components
from synthmed.evaluation.neighbours import blocks
from synthmed.hardware import core_count

DIMENSION = 64
VERSION = "offline-1"
"""Changes whenever figures would."""
MEAN_CELLS, ENERGY_CELLS = 8, 4
SMALLEST = 8
"""The lowest resolution keeps at least this many pixels along the shorter side."""
MOST_FITTED = 5000
"""Training slices that are learnt from at most, taken evenly."""
_BLOCK = 64


class OfflineFeatures:
    """Wavelet energies and local means, reduced to about 64 features that training slices differ in.

    Slices of several channels have the mean of the channels beside them, in which it shows whether the channels belong
    together.

    Args:
        dimension: Features to make; fewer where there are fewer training slices than a group's share of them.
    """

    name = "offline: wavelet energies and local means"

    def __init__(self, *, dimension: int = DIMENSION):
        self.wanted = dimension
        self.identity = ""
        self._groups: list[Components] = []

    @property
    def dimension(self) -> int:
        """Features of a vector; 0 before `fit`."""
        return sum(group.count for group in self._groups)

    def fit(self, training: NDArray[np.float32]) -> None:
        """Learn scales and components from training slices `[n, H, W, C]` in [-1, 1]."""
        chosen = np.linspace(0, len(training) - 1, min(len(training), MOST_FITTED)).astype(int)
        learnt = np.ascontiguousarray(training[chosen], np.float32)
        groups = self._raw(learnt)
        shares = [len(part) for part in np.array_split(np.arange(self.wanted), len(groups))]
        self._groups = [Components(group, components=share) for group, share in zip(groups, shares, strict=True)]
        digest = hashlib.sha256(f"{VERSION} {self.wanted} {learnt.shape}".encode())
        digest.update(learnt.data)
        self.identity = digest.hexdigest()

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32 `[n, dimension]` of slices `[n, H, W, C]` in [-1, 1].

        Raises:
            RuntimeError: Before `fit`.
        """
        if not self._groups:
            raise RuntimeError("the offline feature space learns from training slices first: call fit")
        pairs = zip(self._groups, self._raw(images), strict=True)
        return np.concatenate([group(values) for group, values in pairs], axis=1)

    def _raw(self, images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        # NumPy lets go of the interpreter within its loops, so threads share the work.
        with ThreadPoolExecutor(core_count()) as pool:
            found = list(pool.map(lambda block: describe(images[block]), blocks(len(images), _BLOCK)))
        return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def describe(images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Return the raw features of slices by group: local means, then energies, the finest level first.

    Args:
        images: `[n, H, W, C]`.

    Returns:
        `[n, features]` each.
    """
    planes = np.moveaxis(np.asarray(images, np.float32), 3, 1)
    if planes.shape[1] > 1:
        planes = np.concatenate([planes, planes.mean(axis=1, keepdims=True)], axis=1)
    count = len(planes)
    planes = np.ascontiguousarray(planes).reshape(-1, *planes.shape[2:])
    groups = [_cell_means(planes, MEAN_CELLS)]
    while True:
        groups.append(np.concatenate([_energies(one) for one in _differences(planes)], axis=1))
        if min(planes.shape[1:]) < 2 * SMALLEST:
            return [group.reshape(count, -1) for group in groups]
        planes = _halved(planes)


def _differences(planes: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Return the magnitudes of differences along rows, columns and both diagonals, and to the four neighbours."""
    here, right = planes[:, :-1, :-1], planes[:, :-1, 1:]
    below, across = planes[:, 1:, :-1], planes[:, 1:, 1:]
    found = [right - here, below - here, across - here, right - below]
    centre = planes[:, 1:-1, 1:-1]
    neighbours = planes[:, :-2, 1:-1] + planes[:, 2:, 1:-1] + planes[:, 1:-1, :-2] + planes[:, 1:-1, 2:]
    found.append(centre - 0.25 * neighbours)
    return [np.abs(difference, out=difference) for difference in found]


def _energies(magnitudes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return mean and standard deviation in each cell, `[planes, 2 * cells]`."""
    mean = _cell_means(magnitudes, ENERGY_CELLS)
    square = _cell_means(magnitudes * magnitudes, ENERGY_CELLS)
    return np.concatenate([mean, np.sqrt(np.maximum(square - mean * mean, 0.0))], axis=1)


def _cell_means(planes: NDArray[np.float32], cells: int) -> NDArray[np.float32]:
    """Return the means of `[n, h, w]` over a grid of cells, `[n, cells * cells]`; fewer where sides are shorter."""
    rows, columns = (_averaging(side, min(cells, side)) for side in planes.shape[1:])
    return (rows @ (planes @ columns.T)).reshape(len(planes), -1)


def _averaging(side: int, cells: int) -> NDArray[np.float32]:
    edges = np.linspace(0, side, cells + 1).astype(int)
    places = np.arange(side)
    inside = (places >= edges[:-1, None]) & (places < edges[1:, None])
    return (inside / inside.sum(axis=1, keepdims=True)).astype(np.float32)


def _halved(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    height, width = (side // 2 * 2 for side in planes.shape[1:])
    planes = planes[:, :height, :width]
    return 0.25 * (planes[:, ::2, ::2] + planes[:, 1::2, ::2] + planes[:, ::2, 1::2] + planes[:, 1::2, 1::2])
