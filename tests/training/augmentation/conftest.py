"""Numbers that open the gates a test wants."""

import numpy as np
import pytest

from synthmed.training.augmentation import numbers_shape
from synthmed.training.transforms import COLUMNS


@pytest.fixture(scope="session")
def numbers_for():
    """Return a function from batch size and operation=values to numbers that do these alone at probability 0.5.

    Values are one row for all samples or one a sample, uniform; an operation with several gates gets all opened.
    """

    def make(batch: int, **wanted) -> np.ndarray:
        numbers = np.full(numbers_shape(batch), 0.9)
        start = 0
        for name, columns in COLUMNS.items():
            middle, end = start + columns.gates, start + sum(columns)
            if name in wanted:
                numbers[:, start:middle] = 0.0
                numbers[:, middle:end] = wanted[name]
            start = end
        return numbers

    return make


@pytest.fixture(scope="session")
def pieces():
    """Return a function that draws slices, numbers and noise, float64, for a batch of the given shape."""

    def make(shape: tuple[int, ...], image_channels: int, seed: int = 0):
        random = np.random.default_rng(seed)
        slices = random.uniform(-1, 1, shape)
        mask = random.integers(0, max(shape[3] - image_channels, 1), shape[:3])
        slices[..., image_channels:] = 2.0 * (mask[..., None] == np.arange(shape[3] - image_channels)) - 1.0
        noise = random.standard_normal((*shape[:3], image_channels))
        return slices, random.random(numbers_shape(shape[0])), noise

    return make
