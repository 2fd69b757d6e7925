"""Nearest training image in a feature space."""

from collections.abc import Callable

import numpy as np

from synthmed.evaluation.memorisation.candidates import nearest_groups
from synthmed.evaluation.memorisation.spaces import Nearest, Slices

Extract = Callable[[np.ndarray], np.ndarray]
_BLOCK = 256


class FeatureSpace:
    """Images as the vectors that some network or filter makes of them; the distance is the Euclidean one.

    Each feature is divided by its deviation over the reference slices.

    Args:
        extract: From images float32 `[n, H, W, C]` in [-1, 1] to features `[n, d]`.
        space: Its name, for the report.
    """

    name = "features"
    typical_is_near = False

    def __init__(self, extract: Extract, space: str):
        self.label = f"Features ({space})"
        self.definition = (
            f"Euclidean distance in the feature space {space}, each feature in standard deviations over training slices"
        )
        self._extract = extract

    def nearest(self, queries: Slices, references: Slices, *, leave_own_out: bool = False) -> Nearest:
        """Find the nearest reference slice of each query; see `Space.nearest`."""
        known = self._all(references)
        scale = np.maximum(known.std(axis=0), 1e-6)
        # float64 sums are needed for differences of large squares; centred vectors keep them small.
        middle = known.mean(axis=0)
        known = ((known - middle) / scale).astype(np.float32)
        own = ((self._all(queries) - middle) / scale).astype(np.float32)
        halves = (known**2).sum(axis=1, keepdims=True) / 2
        # The largest of a . b - |b|^2 / 2 belongs to the nearest b.
        index, _ = nearest_groups(
            np.concatenate([own, np.ones((len(own), 1), np.float32)], axis=1)[:, None],
            lambda numbers: np.concatenate([known[numbers], -halves[numbers]], axis=1)[:, None],
            references.patient,
            keep=2,
            own=queries.patient if leave_own_out else None,
        )
        distance = np.linalg.norm(own[:, None].astype(np.float64) - known[index], axis=2)
        distance[index < 0] = np.inf
        return Nearest.of_candidates(index, distance / np.sqrt(known.shape[1]), references.patient, 1e-6)

    def _all(self, slices: Slices) -> np.ndarray:
        blocks = [np.arange(first, min(first + _BLOCK, len(slices))) for first in range(0, len(slices), _BLOCK)]
        return np.concatenate([np.asarray(self._extract(slices.read(block)), np.float32) for block in blocks])
