"""A generator without a network: what is written, and from which seeds, can be tested in milliseconds."""

import numpy as np
import pytest

from synthmed.generation.generator import Generator


class PaintingGenerator(Generator):
    """Draws arrays that follow from the seed alone, and counts how often it was asked."""

    def __init__(self, info, batch: int = 8):
        self.info = info
        self.batch = batch
        self.calls = 0

    def _draw(self, seed, psi, mask=None, position=None, shown=None):
        self.calls += 1
        assert len(seed) == len(psi) == self.batch
        random = [np.random.default_rng(int(one)) for one in seed]
        images = np.stack([one.normal(0, 0.4, (*self.info.size, len(self.info.channels))) for one in random])
        labels = np.stack([one.integers(0, len(self.info.classes), self.info.size) for one in random])
        drawn = {"mask": labels if mask is None else mask, "template": seed % 2}
        return drawn if self.info.variant == "mask" else {**drawn, "image": images.astype(np.float32)}


@pytest.fixture
def painter(tiny_info):
    """Return a function from a variant to such a generator."""
    return lambda variant="base", **options: PaintingGenerator(tiny_info(variant), **options)
