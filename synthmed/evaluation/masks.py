"""Label maps of a synthetic set beside real ones: how often, how large, of what shape, where, and beside what."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.spatial import ConvexHull

from synthmed.evaluation.distances import blocks, coarse_vectors
from synthmed.evaluation.resampling import Units, interval
from synthmed.evaluation.result import Estimate, Figure, Section

BLOCK = 256
"""Slices that are measured at once."""
_CORNERS = np.array([(0, 0), (0, 1), (1, 0), (1, 1)])
FEWEST_SLICES = 5
"""Slices that must show a class in a set before its shape is compared."""


@dataclass(frozen=True)
class Measure:
    """What is measured of a class in a slice that shows it.

    Attributes:
        name: In snake case.
        label: What a reader sees.
        counted: Whether it is a count, whose differences are given as they are and not in spreads of real slices.
        definition: What it is.
    """

    name: str
    label: str
    counted: bool
    definition: str


MEASURES = (
    Measure("area", "area", False, "share of the slice's pixels that the class has"),
    Measure("parts", "parts", True, "number of connected components; pixels that touch at a corner are one part"),
    Measure("holes", "holes", True, "number of enclosed regions that are not of the class (parts less Euler number)"),
    Measure(
        "eccentricity",
        "eccentricity",
        False,
        "of the ellipse with the same second moments: 0 for a circle, towards 1 for a line",
    ),
    Measure(
        "roundness",
        "roundness",
        False,
        "perimeter of the disc of the same area over the perimeter (Lehmann and Legland 2012), "
        "lower for ragged outlines: the compactness is its square",
    ),
    Measure("solidity", "solidity", False, "area over the area of the convex hull: 1 where nothing is indented"),
)


def measure_shapes(labels: NDArray[np.uint8], *, classes: int, spacing: tuple[float, float]) -> NDArray[np.float64]:
    """Return the `MEASURES` of each foreground class in each slice.

    Args:
        labels: `[n, H, W]` class indices; values that are no class are background.
        classes: Number of classes, background included.
        spacing: Size of a pixel, (row, column); shapes are those of the anatomy and not of its pixels.

    Returns:
        `[n, classes - 1, measures]`, NaN where a slice does not show a class.
    """
    parts = [_measure_block(labels[block], classes, spacing) for block in blocks(len(labels), BLOCK)]
    return np.concatenate([np.full((0, classes - 1, len(MEASURES)), np.nan), *parts])


def shared_borders(labels: NDArray[np.uint8], *, classes: int) -> sparse.csr_matrix:
    """Return how many sides of pixels each class shares with each other class.

    Args:
        labels: `[n, H, W]` class indices; values that are no class count as background.
        classes: Number of classes, background included.

    Returns:
        `[n, classes * classes]`, the pair (a, b) in column a * classes + b; sides within a class are not counted, nor
        those at the edge of the slice.
    """
    rows, columns, counts = [], [], []
    for number, label in enumerate(labels):
        known = np.where(label < classes, label, 0).astype(np.int64)
        pairs = (known[:, :-1] * classes + known[:, 1:], known[:-1] * classes + known[1:])
        sides = sum(np.bincount(pair.ravel(), minlength=classes * classes) for pair in pairs)
        table = np.reshape(sides, (classes, classes))
        # A side belongs to both classes.
        touching = (table + table.T) * (1 - np.eye(classes, dtype=np.int64))
        (found,) = np.nonzero(touching.ravel())
        rows += [number] * len(found)
        columns += found.tolist()
        counts += touching.ravel()[found].tolist()
    return sparse.csr_matrix((counts, (rows, columns)), shape=(len(labels), classes * classes), dtype=np.float64)


def _measure_block(labels: NDArray[np.uint8], classes: int, spacing: tuple[float, float]) -> NDArray[np.float64]:
    found = np.full((len(labels), classes - 1, len(MEASURES)), np.nan)
    shapes = _shapes(labels, classes, spacing)
    for number, label in enumerate(labels):
        boxes = ndimage.find_objects(label, max_label=classes - 1)
        for index, box in enumerate(boxes, start=1):
            if box is None:
                continue
            mask = label[box] == index
            key = number * classes + index
            least, most = sorted(shapes.GetPrincipalMoments(key))
            found[number, index - 1] = (
                mask.sum() / label.size,
                *_topology(mask),
                np.sqrt(max(0.0, 1.0 - least / most)) if most > 0 else 0.0,
                shapes.GetRoundness(key),
                _solidity(mask),
            )
    return found


def _shapes(
    labels: NDArray[np.uint8], classes: int, spacing: tuple[float, float]
) -> SimpleITK.LabelShapeStatisticsImageFilter:
    """Return the statistics of class c of slice n under the label n * classes + c.

    The slices are measured as one tall picture, since the filter's start takes longer than its work on a slice.
    """
    count, height, width = labels.shape
    tall = np.zeros((count, height + 1, width), np.uint32)
    known = np.where(labels < classes, labels, 0).astype(np.uint32)
    tall[:, :height] = np.where(known > 0, known + np.arange(count, dtype=np.uint32)[:, None, None] * classes, 0)
    image = SimpleITK.GetImageFromArray(tall.reshape(-1, width))
    image.SetSpacing((float(spacing[1]), float(spacing[0])))
    shapes = SimpleITK.LabelShapeStatisticsImageFilter()
    shapes.SetNumberOfWorkUnits(1)
    shapes.Execute(image)
    return shapes


def _topology(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the number of parts and of holes."""
    _, parts = ndimage.label(mask, structure=np.ones((3, 3)))
    # Where pixels that touch at a corner belong together, the regions around them do not; the outside is one of them.
    _, outside = ndimage.label(~np.pad(mask, 1))
    return parts, outside - 1


def _solidity(mask: NDArray[np.bool_]) -> float:
    # Corners of pixels, not their centres: a line of pixels has an area, and a rectangle a solidity of 1.
    inner = ndimage.binary_erosion(mask, structure=np.ones((3, 3)))
    corners = (np.argwhere(mask & ~inner)[:, None] + _CORNERS).reshape(-1, 2)
    return float(mask.sum() / ConvexHull(corners).volume)


def weighted_wasserstein(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    first_weights: NDArray[np.float64],
    second_weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the Wasserstein-1 distance of two weighted samples, `[resamples]`, for many weights at once.

    It is the area between their distribution functions (Vallender 1974). NaN where all weights of a sample are 0.

    Args:
        first: `[n]`.
        second: `[m]`.
        first_weights: `[resamples, n]`.
        second_weights: `[resamples, m]`.
    """
    values = np.concatenate([first, second])
    order = np.argsort(values, kind="stable")
    with np.errstate(invalid="ignore", divide="ignore"):
        signed = np.concatenate(
            [
                first_weights / first_weights.sum(axis=1, keepdims=True),
                -second_weights / second_weights.sum(axis=1, keepdims=True),
            ],
            axis=1,
        )
    return np.abs(np.cumsum(signed[:, order], axis=1)[:, :-1]) @ np.diff(values[order])


@dataclass(frozen=True)
class MaskGroup:
    """Label maps of one kind.

    Attributes:
        labels: uint8 `[n, H, W]` class indices.
        groups: Which patient or generated case each is of, `[n]`: what is resampled for intervals.
    """

    labels: NDArray[np.uint8]
    groups: NDArray[np.int64]


@dataclass(frozen=True)
class MaskComparison:
    """What was found.

    Attributes:
        sections: Figures, each against held-out real label maps.
        means: For each class and quantity the plain mean of the synthetic, training and held-out slices; None where
            no slice shows the class.
        maps: Mean occupancy of each foreground class over the slices that show it, float `[classes - 1, H, W]` by
            "synthetic", "training" and "held_out"; 0 where none does.
        missing: Classes that the synthetic slices do not show, or held-out ones do not.
    """

    sections: tuple[Section, ...]
    means: dict[str, dict[str, dict[str, float | None]]]
    maps: dict[str, NDArray[np.float64]]
    missing: tuple[str, ...]


class _Measured:
    """Everything that is measured of one kind of label maps, with the weights of its resamples."""

    def __init__(self, group: MaskGroup, classes: int, spacing: tuple[float, float], seed: int):
        self.labels = group.labels
        units = Units.of_patients(group.groups)
        self.alone = units.count == 1
        self.weights = units.slice_weights(seed=seed)
        self.values = measure_shapes(group.labels, classes=classes, spacing=spacing)
        self.presence = np.isfinite(self.values[:, :, 0])
        borders = self.weights @ shared_borders(group.labels, classes=classes)
        self.touching = np.asarray(borders).reshape(-1, classes, classes)

    def of_class(self, index: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.uint8]]:
        """Return measures `[n, measures]`, weights `[resamples, n]` and label maps of the slices that show a class."""
        present = self.presence[:, index - 1]
        return self.values[present, index - 1], self.weights[:, present], self.labels[present]

    def frequency(self, index: int) -> NDArray[np.float64]:
        """Return the share of slices that show a class, for each resample."""
        return self.weights @ self.presence[:, index - 1] / self.weights.sum(axis=1)

    def occupancy(self, index: int) -> NDArray[np.float64]:
        """Return the coarse mean map of a class over the slices that show it, `[resamples, cells]`, NaN for none."""
        _, weights, labels = self.of_class(index)
        cells = coarse_vectors((labels == index)[..., None].astype(np.float32))
        with np.errstate(invalid="ignore", divide="ignore"):
            return weights @ cells / weights.sum(axis=1, keepdims=True)

    def contacts(self, index: int) -> NDArray[np.float64]:
        """Return what share of a class's border touches each class, `[resamples, classes]`, NaN without a border."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.touching[:, index] / self.touching[:, index].sum(axis=1, keepdims=True)

    def map(self, index: int) -> NDArray[np.float64]:
        """Return the mean map of a class over the slices that show it, `[H, W]`; 0 where none does."""
        labels = self.of_class(index)[2]
        return (labels == index).mean(axis=0) if len(labels) else np.zeros(self.labels.shape[1:])

    def means(self, index: int) -> dict[str, float | None]:
        """Return the plain means of a class."""
        rows = self.of_class(index)[0]
        found: dict[str, float | None] = {"share of slices": float(self.presence[:, index - 1].mean())}
        for column, one in enumerate(MEASURES):
            found[one.label] = float(rows[:, column].mean()) if len(rows) else None
        return found


Distance = Callable[[_Measured, _Measured], NDArray[np.float64]]


@dataclass(frozen=True)
class _ClassFigures:
    """Figures of one class: distances to the held-out slices, of synthetic and of training slices."""

    kinds: dict[str, _Measured]
    index: int
    name: str

    def frequency(self) -> Figure:
        return self._figure(
            "frequency",
            "share of slices",
            lambda one, other: np.abs(one.frequency(self.index) - other.frequency(self.index)),
            "Difference between the shares of slices that show the class, of this set and of held-out slices.",
        )

    def shape(self, column: int) -> Figure:
        what = MEASURES[column]
        scale, unit = _scale(self.kinds["held_out"].of_class(self.index)[0][:, column], what)

        def distance(one: _Measured, other: _Measured) -> NDArray[np.float64]:
            (first, own, _), (second, others, _) = one.of_class(self.index), other.of_class(self.index)
            return weighted_wasserstein(first[:, column], second[:, column], own, others) / scale

        definition = (
            f"Wasserstein-1 distance to held-out slices, over slices that show the class, of the {what.label}: "
        )
        return self._figure(what.name, what.label, distance, f"{definition}{what.definition}.", unit)

    def position(self) -> Figure:
        def distance(one: _Measured, other: _Measured) -> NDArray[np.float64]:
            first, second = one.occupancy(self.index), other.occupancy(self.index)
            return np.abs(first - second).sum(axis=1) / (first + second).sum(axis=1)

        return self._figure(
            "position",
            "position",
            distance,
            "Bray-Curtis distance of the mean maps of the class, over slices that show it, on a grid of at most "
            "16 x 16: 0 where it lies in the same places as in held-out slices, 1 where it never does.",
        )

    def adjacency(self) -> Figure:
        return self._figure(
            "adjacency",
            "neighbours",
            lambda one, other: np.abs(one.contacts(self.index) - other.contacts(self.index)).sum(axis=1) / 2,
            "Total variation distance between the shares of the class's border that touch each other class, "
            "of this set and of held-out slices: 0 for the same neighbours, 1 for none in common.",
        )

    def _figure(self, quantity: str, label: str, distance: Distance, definition: str, unit: str = "") -> Figure:
        real = self.kinds["held_out"]
        own, baseline = (_estimate(distance, self.kinds[kind], real) for kind in ("synthetic", "training"))
        return Figure(
            name=f"{quantity}_{_key(self.index, self.name)}",
            label=f"{self.name}: {label}",
            estimate=own,
            real_baseline=baseline,
            better="lower",
            unit=unit,
            definition=definition,
        )


def compare_masks(
    synthetic: MaskGroup,
    training: MaskGroup,
    held_out: MaskGroup,
    *,
    classes: tuple[str, ...],
    spacing: tuple[float, float] = (1.0, 1.0),
    seed: int = 0,
) -> MaskComparison:
    """Compare label maps with those of held-out patients, and training patients' likewise: the real baseline.

    Args:
        synthetic: Generated label maps, one group a case.
        training: Of training patients; as many slices as the synthetic set has, where there are so many, so that the
            real baseline has the same noise.
        held_out: Of patients that the generator has not seen.
        classes: Names, background first.
        spacing: Size of a pixel, (row, column).
        seed: Of the resampling for intervals.
    """
    groups = {"synthetic": synthetic, "training": training, "held_out": held_out}
    kinds = {
        name: _Measured(group, len(classes), spacing, seed + number)
        for number, (name, group) in enumerate(groups.items())
    }
    size: list[Figure] = []
    shape: list[Figure] = []
    place: list[Figure] = []
    notes: list[str] = []
    missing = []
    indices = range(1, len(classes))
    for index in indices:
        one = _ClassFigures(kinds, index, classes[index])
        size.append(one.frequency())
        few = _too_few(kinds, index)
        if few:
            missing.append(one.name)
            notes.append(f"{one.name} is shown by {few}: its shape and place are not compared.")
            continue
        first, *others = (one.shape(column) for column in range(len(MEASURES)))
        size.append(first)
        shape += others
        place += [one.position(), one.adjacency()]
    return MaskComparison(
        sections=(
            Section(name="masks_size", title="Label maps: how often and how large", figures=tuple(size)),
            Section(name="masks_shape", title="Label maps: shape", figures=tuple(shape), notes=tuple(notes)),
            Section(name="masks_place", title="Label maps: place and neighbours", figures=tuple(place)),
        ),
        means={classes[index]: {kind: one.means(index) for kind, one in kinds.items()} for index in indices},
        maps={kind: np.stack([one.map(index) for index in indices]) for kind, one in kinds.items()},
        missing=tuple(missing),
    )


def _too_few(kinds: dict[str, _Measured], index: int) -> str:
    counts = {kind.replace("_", "-"): int(one.presence[:, index - 1].sum()) for kind, one in kinds.items()}
    return " and ".join(
        f"{count or 'no'} {kind} slice{'s' if count > 1 else ''}"
        for kind, count in counts.items()
        if count < FEWEST_SLICES
    )


def _estimate(distance: Distance, one: _Measured, real: _Measured) -> Estimate:
    value, *resampled = distance(one, real)
    return interval(float(value), [] if one.alone and real.alone else resampled, lowest=0.0)


def _scale(real: NDArray[np.float64], what: Measure) -> tuple[float, str]:
    """Return what a distance is divided by, and its unit."""
    if what.counted:
        return 1.0, what.label
    low, high = np.quantile(real, (0.25, 0.75))
    # Below this, rounding alone would make the spread.
    if high - low > 1e-6 * max(1e-12, abs(high)):
        return float(high - low), "real IQR"
    return 1.0, ""


def _key(index: int, name: str) -> str:
    """Return a class as part of a key: its number, since names may differ by signs alone, and its name."""
    parts = "".join(sign if sign.isalnum() and sign.isascii() else " " for sign in name.lower()).split()
    return "_".join([str(index), *parts])
