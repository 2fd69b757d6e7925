"""Drawing the cases of a set block by block, whatever one case is."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from synthmed.generation.sampler import Sampler, Told


@dataclass(frozen=True)
class Drawn:
    """One case as it was drawn.

    Attributes:
        image: float32 `[H, W, C]`, of a volume `[n, H, W, C]`; None for a generator of masks alone.
        label: uint8 `[H, W]`, of a volume `[n, H, W]`.
        template: Which of the generator's templates returns it to source units.
        record: What its sidecar says of how it was drawn.
    """

    image: np.ndarray | None
    label: np.ndarray
    template: int
    record: dict[str, Any]


class Drawing(Protocol):
    """Draws cases; each depends on its seed alone."""

    def draw(self, first: int, seeds: np.ndarray, wanted: slice) -> list[Drawn]:
        """Return the wanted cases of a block.

        Args:
            first: Number of the block's first case in the set.
            seeds: int64 `[b]`, of all cases of the block.
            wanted: Which of them.
        """
        ...


@dataclass(frozen=True)
class Conditions:
    """Label maps for a block of slices.

    Attributes:
        maps: uint8 `[b, H, W]`.
        sources: What each sidecar says of its map's source.
        told: What the generator is told of them; None lets the seeds say.
    """

    maps: np.ndarray
    sources: list[str]
    told: Told | None = None


class MaskSource(Protocol):
    """Gives label maps to a conditional generator."""

    def take(self, first: int, seeds: np.ndarray) -> Conditions:
        """Return the maps of the cases from number `first` on, which have these seeds."""
        ...


@dataclass
class SliceDrawing:
    """Draws a slice a case.

    Attributes:
        sampler: Where slices come from.
        psi: Truncation.
        masks: Where label maps come from; None lets the generator draw them.
    """

    sampler: Sampler
    psi: float
    masks: MaskSource | None = None

    def draw(self, first: int, seeds: np.ndarray, wanted: slice) -> list[Drawn]:
        """Return the wanted cases of a block; see `Drawing.draw`."""
        given = None if self.masks is None else self.masks.take(first, seeds)
        if given is None:
            samples = self.sampler.sample(seeds, self.psi)
        else:
            samples = self.sampler.sample(seeds, self.psi, given.maps, given.told)
        return [
            Drawn(
                image=None if samples.images is None else samples.images[place],
                label=samples.labels[place],
                template=int(samples.templates[place]),
                record={"mask_source": "generated" if given is None else given.sources[place]},
            )
            for place in range(wanted.start, wanted.stop)
        ]
