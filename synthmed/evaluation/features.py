"""Feature spaces: what turns slices into vectors whose distances mean something.

The default, `OfflineFeatures`, has nothing to download. At each level of a pyramid, differences between neighbouring
pixels in four directions and to all neighbours (an undecimated Haar transform with a Laplacian) lose their sign; their
mean and deviation in each of 4 x 4 cells remain: the mean tells how much structure of that size there is, the deviation
whether it is spread evenly, as noise is, or concentrated, as edges are (in the spirit of Mallat's scattering, Bruna and
Mallat 2013, arXiv:1203.1513). Means over 8 x 8 cells tell where anatomy lies. Each level is a group, and so are the
means; a group's principal components over the training slices are divided by the first one's deviation, so that no
group is lost beside one that varies more: blur and noise show in the finest groups, wrong anatomy in the coarse ones.
"""

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from synthmed.evaluation.distances import blocks
from synthmed.hardware import core_count
from synthmed.progress import Say, unheard

# A feature that hardly varies over the training slices counts as varying by this share of its group's size: else
# the slightest noise where real slices are constant would be an infinite distance.
_LEAST_SHARE = 0.05
# In units of [-1, 1].
_LEAST_DEVIATION = 1e-3
_LINEAR = 3.0
DIMENSION = 64
VERSION = "offline-1"
"""Changes whenever figures would."""
MEAN_CELLS, ENERGY_CELLS = 8, 4
SMALLEST = 8
"""The lowest resolution keeps at least this many pixels along the shorter side."""
MOST_FITTED = 5000
"""Training slices that are learnt from at most, taken evenly."""
_BLOCK = 64
_CACHE_BLOCK = 256
_SILENCE_SECONDS = 20.0


class FeatureSpace(Protocol):
    """Turns slices into vectors whose distances mean something.

    Attributes:
        name: What a report calls it.
        identity: SHA-256 over everything that vectors follow from, training slices included; "" before a fit that has
            to be made. Figures are comparable where identities are equal, and nowhere else.
        dimension: Features of a vector; 0 before a fit that has to be made.
    """

    @property
    def name(self) -> str: ...

    @property
    def identity(self) -> str: ...

    @property
    def dimension(self) -> int: ...

    def fit(self, training: NDArray[np.float32]) -> None:
        """Learn from training slices `[n, H, W, C]` in [-1, 1]; a space that learns nothing does nothing."""
        ...

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32 `[n, dimension]` of slices `[n, H, W, C]` in [-1, 1]."""
        ...


class Components:
    """Principal components of standardised features, in units of the first one's deviation over the training slices.

    All are divided by the same number. Brought to variance 1 each, as whitening does, the last ones, mostly noise,
    would count as much as the first: on phantoms a third of the held-out slices that other patients' slices cover were
    then not covered any more, and blur moved the Fréchet distance less beside its real baseline. What lies beyond about
    three deviations grows with its logarithm alone, so that one unusual slice cannot outweigh a set.

    Args:
        training: `[n, features]`.
        components: How many there are at most.
    """

    def __init__(self, training: NDArray[np.float32], *, components: int):
        values = np.asarray(training, np.float64)
        mean = values.mean(axis=0)
        size = np.sqrt(np.mean(values**2))
        deviation = np.maximum(values.std(axis=0), max(_LEAST_SHARE * size, _LEAST_DEVIATION))
        standard = (values - mean) / deviation
        variances, vectors = np.linalg.eigh(standard.T @ standard / max(len(values) - 1, 1))
        count = min(components, values.shape[1], max(len(values) - 1, 1))
        vectors = vectors[:, ::-1][:, :count]
        # The sign of an eigenvector is arbitrary: its largest entry is made positive.
        vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(count)])
        # Training slices that are all alike differ in no direction, and give no unit.
        unit = np.sqrt(variances[-1]) if variances[-1] > np.finfo(np.float32).eps else 1.0
        self.mean = mean.astype(np.float32)
        self.matrix = (vectors / deviation[:, None] / unit).astype(np.float32)

    @property
    def count(self) -> int:
        """How many there are."""
        return self.matrix.shape[1]

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return `[n, count]` of raw features `[n, features]`."""
        found = (features - self.mean) @ self.matrix
        return _LINEAR * np.arcsinh(found / _LINEAR)


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
    maps = np.moveaxis(np.asarray(images, np.float32), 3, 1)
    if maps.shape[1] > 1:
        maps = np.concatenate([maps, maps.mean(axis=1, keepdims=True)], axis=1)
    count = len(maps)
    maps = np.ascontiguousarray(maps).reshape(-1, *maps.shape[2:])
    groups = [_cell_means(maps, MEAN_CELLS)]
    while True:
        groups.append(np.concatenate([_energies(one) for one in _differences(maps)], axis=1))
        if min(maps.shape[1:]) < 2 * SMALLEST:
            return [group.reshape(count, -1) for group in groups]
        maps = _halved(maps)


def _differences(maps: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Return the magnitudes of differences along rows, columns and both diagonals, and to the four neighbours."""
    here, right = maps[:, :-1, :-1], maps[:, :-1, 1:]
    below, across = maps[:, 1:, :-1], maps[:, 1:, 1:]
    found = [right - here, below - here, across - here, right - below]
    centre = maps[:, 1:-1, 1:-1]
    neighbours = maps[:, :-2, 1:-1] + maps[:, 2:, 1:-1] + maps[:, 1:-1, :-2] + maps[:, 1:-1, 2:]
    found.append(centre - 0.25 * neighbours)
    return [np.abs(difference, out=difference) for difference in found]


def _energies(magnitudes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return mean and standard deviation in each cell, `[maps, 2 * cells]`."""
    mean = _cell_means(magnitudes, ENERGY_CELLS)
    square = _cell_means(magnitudes * magnitudes, ENERGY_CELLS)
    return np.concatenate([mean, np.sqrt(np.maximum(square - mean * mean, 0.0))], axis=1)


def _cell_means(maps: NDArray[np.float32], cells: int) -> NDArray[np.float32]:
    """Return the means of `[n, h, w]` over a grid of cells, `[n, cells * cells]`; fewer where sides are shorter."""
    rows, columns = (_averaging(side, min(cells, side)) for side in maps.shape[1:])
    return (rows @ (maps @ columns.T)).reshape(len(maps), -1)


def _averaging(side: int, cells: int) -> NDArray[np.float32]:
    edges = np.linspace(0, side, cells + 1).astype(int)
    places = np.arange(side)
    inside = (places >= edges[:-1, None]) & (places < edges[1:, None])
    return (inside / inside.sum(axis=1, keepdims=True)).astype(np.float32)


def _halved(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    height, width = (side // 2 * 2 for side in maps.shape[1:])
    maps = maps[:, :height, :width]
    return 0.25 * (maps[:, ::2, ::2] + maps[:, 1::2, ::2] + maps[:, ::2, 1::2] + maps[:, 1::2, 1::2])


class RememberedFeatures:
    """A feature space that makes the vector of a slice once.

    Args:
        space: Makes the vectors.
        say: Called with a line now and then while they take long.
    """

    def __init__(self, space: FeatureSpace, *, say: Say = unheard):
        self._space = space
        self._say = say
        self._known: dict[bytes, NDArray[np.float32]] = {}
        self._told = time.monotonic()

    @property
    def name(self) -> str:
        """What a report calls the space."""
        return self._space.name

    @property
    def identity(self) -> str:
        """See `FeatureSpace`."""
        return self._space.identity

    @property
    def dimension(self) -> int:
        """Features of a vector; 0 before a fit that has to be made."""
        return self._space.dimension

    def fit(self, training: NDArray[np.float32]) -> None:
        """Learn from training slices `[n, H, W, C]` in [-1, 1]; what was made before is forgotten."""
        self._known.clear()
        self._space.fit(training)

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32 `[n, dimension]` of slices `[n, H, W, C]` in [-1, 1]."""
        keys = [hashlib.sha256(image.tobytes()).digest() for image in images]
        places = {key: place for place, key in enumerate(keys) if key not in self._known}
        new = np.fromiter(places.values(), np.int64, len(places))
        for block in blocks(len(new), _CACHE_BLOCK):
            vectors = self._space(images[new[block]])
            self._known |= {keys[place]: vector for place, vector in zip(new[block], vectors, strict=True)}
            if time.monotonic() - self._told > _SILENCE_SECONDS:
                self._told = time.monotonic()
                self._say(f"features of {len(self._known)} slices")
        return np.stack([self._known[key] for key in keys])
