"""Label maps that a conditional generator is given: those of a folder, or deformed ones of its training slices."""

import hashlib
from pathlib import Path

import numpy as np
from scipy import ndimage

from synthmed.data.formats import NiftiSource, picture_header
from synthmed.data.formats.pictures import read_pages
from synthmed.data.store import Store
from synthmed.data.synthetic import SyntheticSet
from synthmed.errors import UserError, present
from synthmed.generation.drawing import Conditions, Requirement
from synthmed.generation.generator import Generator
from synthmed.memory import npz_shape, read_npz

SUFFIXES = (".nii.gz", ".nii", ".npz", ".png")


def chosen_masks(masks: str) -> Path | str:
    """Return what `--masks` names: `generated`, `deformed`, or a folder.

    Raises:
        UserError: If it names no folder.
    """
    if masks in ("generated", "deformed"):
        return masks
    if not Path(masks).is_dir():
        raise UserError(f"--masks {masks} is no folder: write generated, deformed, or a folder of label maps")
    return Path(masks)


class MaskFolder:
    """The label maps of a folder, in the order of their names; item `i` of a set takes map `i` modulo their number.

    Args:
        folder: A generated set, whose label maps are turned back to how they were drawn; or a folder of `.nii.gz`,
            `.nii` or `.png` files, or `.npz` files with the key `label`: class indices as rows and columns.
        size: (H, W) that the generator takes.
        classes: Number of classes that it knows, background included.

    Raises:
        UserError: If the folder holds no label map.
    """

    def __init__(self, folder: Path, *, size: tuple[int, int], classes: int):
        self.folder = folder
        self.size = size
        self.classes = classes
        self.generated = _generated(folder)
        inner = [folder / name for name in ("labelsTr", "labels") if (folder / name).is_dir()]
        files = sorted((inner[0] if inner else folder).iterdir())
        self.files = [path for path in files if path.name.endswith(SUFFIXES)]
        if not self.files:
            raise UserError(f"{folder} holds no label map: put {', '.join(SUFFIXES)} files there")

    def take(self, first: int, seeds: np.ndarray) -> Conditions:
        """Return the maps of the cases from number `first` on; see `MaskSource.take`.

        Raises:
            UserError: If a file cannot be read, has another size or names a class that the generator does not know.
        """
        items = range(first, first + len(seeds))
        if self.generated is None:
            maps = [
                self._checked(path, read_label_map(path, self.size))
                for path in (self.files[i % len(self.files)] for i in items)
            ]
        else:
            count = len(self.generated)
            drawn = self.generated.labels(np.array([item % count for item in items]))
            maps = [self._checked(self.folder, one) for one in drawn]
        # A hash, since the name of a user's file may name a patient.
        return Conditions(np.stack(maps), [f"given:{hashlib.sha256(one.tobytes()).hexdigest()}" for one in maps])

    def _checked(self, path: Path, values: np.ndarray) -> np.ndarray:
        _check_shape(path, values.shape, self.size)
        values = values.reshape(self.size)
        if not np.array_equal(values, np.rint(values)) or values.min() < 0 or values.max() >= self.classes:
            raise UserError(f"{path} holds other values than the class indices 0 to {self.classes - 1}")
        return values.astype(np.uint8)


def _generated(folder: Path) -> SyntheticSet | None:
    """Return the set that `generate` wrote to a folder, or None where it wrote none there."""
    if not (folder / "dataset_description.json").is_file():
        return None
    return SyntheticSet.open(folder)


def read_label_map(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Return the array of a label file, `size` but for axes of length 1; no other is read beyond its header.

    Raises:
        UserError: If it has another size or cannot be read.
    """
    try:
        if path.name.endswith((".nii.gz", ".nii")):
            volume = NiftiSource(path).open()
            _check_shape(path, (*volume.geometry.shape, volume.channels), size)
            return volume.voxels()
        if path.suffix == ".npz":
            _check_shape(path, npz_shape(path, "label"), size)
            return read_npz(path, ("label",))["label"]
        header = picture_header(path)
        _check_shape(path, (header.rows, header.columns), size)
        return read_pages(path, mask=True, coloured=False)[0]
    except UserError:
        raise
    except KeyError:
        raise UserError(f"{path} has no array named label") from None
    except Exception as error:
        # NumPy and zip archives have families of errors of their own for a damaged file.
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise UserError(f"{path} cannot be read as a label map ({reason}): write it anew") from error


def _check_shape(path: Path, shape: tuple[int, ...], size: tuple[int, int]) -> None:
    if tuple(extent for extent in shape if extent != 1) != tuple(size):
        wanted, found = ("x".join(map(str, one)) for one in (size, shape))
        raise UserError(f"{path} is {found}, the generator takes {wanted}: resample it")


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
        generator: Draws from a `cond` generator that was loaded from its run.
        required: Classes that every map must show; None for any.

    Raises:
        UserError: If the generator takes no label maps, is an exported one, or its store has moved or changed.
    """

    def __init__(self, generator: Generator, required: Requirement | None = None):
        self.store = _training_store(generator)
        self.required = required
        self.indices = self.store.training_indices(fully_labelled=True)
        if required is not None:
            counts = self.store.class_counts[self.indices][:, list(required.classes)]
            self.indices = self.indices[(counts > 0).all(axis=1)]
            if not len(self.indices):
                raise UserError(f"no training slice of {generator.info.name} shows {required.phrase}")

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


def _training_store(generator: Generator) -> Store:
    info = generator.info
    if info.variant != "cond":
        raise UserError(f"{info.name} is a {info.variant!r} generator and takes no --masks: use a 'cond' one")
    path = generator.run
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
