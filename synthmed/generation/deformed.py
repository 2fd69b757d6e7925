"""Label maps of a run's own training slices, deformed by smooth random transformations."""

import hashlib

import numpy as np
from scipy import ndimage

from synthmed.data.store import Store
from synthmed.errors import UserError, present
from synthmed.generation.drawing import Conditions
from synthmed.generation.required import Requirement
from synthmed.generation.sampler import KerasSampler, Sampler

# Of a training slice to its deformed copy. The elastic field's slope stays below one at three standard deviations, so
# that it does not fold.
ROTATION = np.deg2rad(12.0)
SCALING = np.log(1.15)
SHEAR = 0.08
SHIFT = 0.05
ELASTIC = 0.025
SMOOTHNESS = 1 / 8
MOST_TRIES = 33
_KEY = 0x6D61736B


class DeformedMasks:
    """Training label maps of a run's store, drawn and deformed by the seed of each case.

    Args:
        sampler: Draws from a `cond` generator that was loaded from its run.
        required: Classes that every map must show; None for any.

    Raises:
        UserError: If the generator takes no label maps, is an exported one, or its store has moved or changed.
    """

    def __init__(self, sampler: Sampler, required: Requirement | None = None):
        self.store = _training_store(sampler)
        self.required = required
        self.indices = self.store.training_indices(fully_labelled=True)
        if required is not None:
            counts = self.store.class_counts[self.indices][:, list(required.classes)]
            self.indices = self.indices[(counts > 0).all(axis=1)]
            if not len(self.indices):
                raise UserError(f"no training slice of {sampler.info.name} shows {required.phrase}")

    def take(self, first: int, seeds: np.ndarray) -> Conditions:
        """Return the maps of cases by their seeds; see `MaskSource.take`.

        Raises:
            UserError: If a map does not show what is required after `MOST_TRIES` deformations.
        """
        drawn = [self._map(int(seed)) for seed in seeds]
        maps, chosen = np.stack([label for label, _ in drawn]), np.array([index for _, index in drawn])
        classes = range(1, len(self.store.classes))
        shown = np.array([[(label == index).any() for index in classes] for label in maps], np.float32)
        # Of the deformed map, as for given ones: that of the training slice would point back at its patient.
        sources = [f"deformed:{hashlib.sha256(label.tobytes()).hexdigest()}" for label in maps]
        return Conditions(maps, sources, {"position": self.store.slice_position[chosen], "shown": shown})

    def _map(self, seed: int) -> tuple[np.ndarray, int]:
        for number in range(MOST_TRIES):
            rng = np.random.default_rng([_KEY, seed, number])
            index = int(rng.choice(self.indices))
            label = deformed(self.store.labels(np.array([index]))[0], rng)
            if self.required is None or self.required.met(label):
                return label, index
        required = present(self.required, "every map is right where nothing is required")
        raise UserError(f"deforming moved {required.phrase} out of the slice {MOST_TRIES} times: use --masks generated")


def deformed(label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a label map `[H, W]` after a random affine and a smooth elastic transformation.

    Every pixel takes the class of the nearest pixel of the source; what comes from outside is background.
    """
    size = np.array(label.shape)
    centre = (size - 1) / 2
    grid = np.moveaxis(np.indices(label.shape), 0, -1) - centre
    matrix = _affine(rng)
    shift = rng.uniform(-SHIFT, SHIFT, 2) * size
    elastic = np.stack([_smooth(label.shape, rng) * ELASTIC * side for side in size], axis=-1)
    where = grid @ matrix.T + shift + elastic + centre
    return ndimage.map_coordinates(label, np.moveaxis(where, -1, 0), order=0, mode="constant", cval=0)


def _affine(rng: np.random.Generator) -> np.ndarray:
    angle, shear = rng.uniform(-ROTATION, ROTATION), rng.uniform(-SHEAR, SHEAR)
    scale = np.exp(rng.uniform(-SCALING, SCALING, 2))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return turn @ np.array([[1.0, shear], [0.0, 1.0]]) @ np.diag(scale)


def _smooth(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return a smooth random field of about unit variance."""
    width = SMOOTHNESS * np.array(shape)
    field = ndimage.gaussian_filter(rng.standard_normal(shape), width, mode="reflect")
    # White noise through a Gaussian filter keeps 1 / (4 pi width_row width_column) of its variance.
    return field * np.sqrt(4 * np.pi * width.prod())


def _training_store(sampler: Sampler) -> Store:
    info = sampler.info
    if info.variant != "cond":
        raise UserError(f"{info.name} is a {info.variant!r} generator and takes no --masks: use a 'cond' one")
    path = sampler.bundle.run if isinstance(sampler, KerasSampler) else None
    if path is None:
        raise UserError(f"--masks deformed needs the run of {info.name}: no exported generator holds a patient's mask")
    from synthmed.training.run import Run

    data = Run.open(path).data
    try:
        store = Store.open(data.store)
    except UserError:
        raise UserError(f"--masks deformed needs {data.store}, on which {path} was trained: put it back") from None
    if store.content_hash != data.store_hash:
        raise UserError(f"{data.store} is not the store any more on which {path} was trained: put that one back")
    return store
