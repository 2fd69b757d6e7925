"""From many raw features to the few directions that training slices differ in."""

import numpy as np
from numpy.typing import NDArray

# A feature that hardly varies over the training slices counts as varying by this share of its group's size: else
# the slightest noise where real slices are constant would be an infinite distance.
_LEAST_SHARE = 0.05
# In units of [-1, 1].
_LEAST_DEVIATION = 1e-3
_LINEAR = 3.0


class Components:
    """Principal components of standardised features, in units of the first one's deviation over the training slices.

    All are divided by the same number. Brought to variance 1 each, as whitening does, the last ones, mostly noise,
    would count as much as the first: on phantoms a third of the held-out slices that other patients' slices cover were
    then not covered any more, and blur moved the Fréchet distance less beside its floor. What lies beyond about
    three deviations grows with its logarithm alone, so that one odd slice cannot outweigh a set.

    Args:
        training: `[n, features]`.
        components: How many to keep at most.
    """

    def __init__(self, training: NDArray[np.float32], *, components: int):
        values = np.asarray(training, np.float64)
        mean = values.mean(axis=0)
        size = np.sqrt(np.mean(values**2))
        deviation = np.maximum(values.std(axis=0), max(_LEAST_SHARE * size, _LEAST_DEVIATION))
        standard = (values - mean) / deviation
        variances, vectors = np.linalg.eigh(standard.T @ standard / max(len(values) - 1, 1))
        kept = min(components, values.shape[1], max(len(values) - 1, 1))
        vectors = vectors[:, ::-1][:, :kept]
        # The sign of an eigenvector is the library's whim: its largest entry is made positive.
        vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(kept)])
        # Training slices that are all alike differ in no direction, and give no unit.
        unit = np.sqrt(variances[-1]) if variances[-1] > np.finfo(np.float32).eps else 1.0
        self.mean = mean.astype(np.float32)
        self.matrix = (vectors / deviation[:, None] / unit).astype(np.float32)

    @property
    def count(self) -> int:
        """How many are kept."""
        return self.matrix.shape[1]

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return `[n, count]` of raw features `[n, features]`."""
        found = (features - self.mean) @ self.matrix
        return _LINEAR * np.arcsinh(found / _LINEAR)
