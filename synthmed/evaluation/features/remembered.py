"""Features of the same slices are asked for by several figures; a large network takes a tenth of a second for each."""

import hashlib
import time

import numpy as np
from numpy.typing import NDArray

from synthmed.evaluation.features.space import FeatureSpace
from synthmed.evaluation.neighbours import blocks
from synthmed.progress import Say, unheard

_BLOCK = 256
_SILENCE_SECONDS = 20.0


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
        for block in blocks(len(new), _BLOCK):
            vectors = self._space(images[new[block]])
            self._known |= {keys[place]: vector for place, vector in zip(new[block], vectors, strict=True)}
            if time.monotonic() - self._told > _SILENCE_SECONDS:
                self._told = time.monotonic()
                self._say(f"features of {len(self._known)} slices")
        return np.stack([self._known[key] for key in keys])
