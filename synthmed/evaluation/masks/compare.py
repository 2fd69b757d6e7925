"""Figures of the label maps of a synthetic set against those of held-out patients."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthmed.evaluation.distances import coarse_vectors
from synthmed.evaluation.figures import Estimate, Figure, Section
from synthmed.evaluation.masks.measures import MEASURES, Measure, measure, neighbours
from synthmed.evaluation.masks.weighted import wasserstein
from synthmed.evaluation.resampling import Units, interval

FEWEST_SHOWN = 5
"""Slices that must show a class in a set before anything is said of its shape there."""


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
        self.values = measure(group.labels, classes=classes, spacing=spacing)
        self.shown = np.isfinite(self.values[:, :, 0])
        self.classes = classes
        self.touching = np.asarray(self.weights @ neighbours(group.labels, classes=classes)).reshape(
            -1, classes, classes
        )

    def frequency(self, index: int) -> NDArray[np.float64]:
        """Return the share of slices that show a class, for each resample."""
        return self.weights @ self.shown[:, index - 1] / self.weights.sum(axis=1)

    def occupancy(self, index: int) -> NDArray[np.float64]:
        """Return the coarse mean map of a class over the slices that show it, `[resamples, cells]`, NaN for none."""
        shown = self.shown[:, index - 1]
        cells = coarse_vectors((self.labels[shown] == index)[..., None].astype(np.float32))
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.weights[:, shown] @ cells / self.weights[:, shown].sum(axis=1, keepdims=True)

    def contacts(self, index: int) -> NDArray[np.float64]:
        """Return what share of a class's border touches each class, `[resamples, classes]`, NaN without a border."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.touching[:, index] / self.touching[:, index].sum(axis=1, keepdims=True)

    def map(self, index: int) -> NDArray[np.float64]:
        """Return the mean map of a class over the slices that show it, `[H, W]`; 0 where none does."""
        shown = self.shown[:, index - 1]
        return (self.labels[shown] == index).mean(axis=0) if shown.any() else np.zeros(self.labels.shape[1:])

    def means(self, index: int) -> dict[str, float | None]:
        """Return the plain means of a class."""
        shown = self.shown[:, index - 1]
        rows = self.values[shown, index - 1]
        found: dict[str, float | None] = {"share of slices": float(shown.mean())}
        for column, one in enumerate(MEASURES):
            found[one.label] = float(rows[:, column].mean()) if shown.any() else None
        return found


def compare_masks(
    synthetic: MaskGroup,
    training: MaskGroup,
    held_out: MaskGroup,
    *,
    classes: tuple[str, ...],
    spacing: tuple[float, float] = (1.0, 1.0),
    seed: int = 0,
) -> MaskComparison:
    """Compare label maps with those of held-out patients; training patients' are compared likewise, for the floor.

    Args:
        synthetic: Generated label maps, one group a case.
        training: Of training patients; as many slices as the synthetic set has, where there are so many, so that the
            floor has the same noise.
        held_out: Of patients that the generator has not seen.
        classes: Names, background first.
        spacing: Size of a pixel, (row, column).
        seed: Of the resampling for intervals.
    """
    kinds = {"synthetic": synthetic, "training": training, "held_out": held_out}
    found = {
        name: _Measured(group, len(classes), spacing, seed + number)
        for number, (name, group) in enumerate(kinds.items())
    }
    frequency: list[Figure] = []
    shape: list[Figure] = []
    place: list[Figure] = []
    notes: list[str] = []
    missing = []
    for index, name in enumerate(classes[1:], start=1):
        frequency.append(_frequency(found, index, name))
        few = _too_few(found, index)
        if few:
            missing.append(name)
            notes.append(f"{name} is shown by {few}: nothing is said of its shape and place.")
            continue
        values = [_measure(found, index, name, number) for number in range(len(MEASURES))]
        frequency.append(values[0])
        shape += values[1:]
        place += [_place(found, index, name), _contact(found, index, name)]
    return MaskComparison(
        sections=(
            Section(name="masks_size", title="Label maps: how often and how large", figures=tuple(frequency)),
            Section(name="masks_shape", title="Label maps: shape", figures=tuple(shape), notes=tuple(notes)),
            Section(name="masks_place", title="Label maps: place and neighbours", figures=tuple(place)),
        ),
        means={name: {kind: one.means(index) for kind, one in found.items()} for index, name in _numbered(classes)},
        maps={kind: np.stack([one.map(index) for index, _ in _numbered(classes)]) for kind, one in found.items()},
        missing=tuple(missing),
    )


def _numbered(classes: tuple[str, ...]) -> list[tuple[int, str]]:
    return list(enumerate(classes))[1:]


def _too_few(found: dict[str, _Measured], index: int) -> str:
    words = {"synthetic": "synthetic", "training": "training", "held_out": "held-out"}
    counts = {words[kind]: int(one.shown[:, index - 1].sum()) for kind, one in found.items()}
    few = [
        f"{count or 'no'} {kind} slice{'s' if count > 1 else ''}"
        for kind, count in counts.items()
        if count < FEWEST_SHOWN
    ]
    return " and ".join(few)


def _against(
    distance: Callable[[_Measured, _Measured], NDArray[np.float64]], found: dict[str, _Measured]
) -> tuple[Estimate, Estimate]:
    """Return a distance to the held-out slices of the synthetic slices, and of the training slices: the floor."""
    return _estimate(distance, found["synthetic"], found["held_out"]), _estimate(
        distance, found["training"], found["held_out"]
    )


def _estimate(
    distance: Callable[[_Measured, _Measured], NDArray[np.float64]], one: _Measured, real: _Measured
) -> Estimate:
    value, *resampled = distance(one, real)
    return interval(float(value), [] if one.alone and real.alone else resampled, lowest=0.0)


def _frequency(found: dict[str, _Measured], index: int, name: str) -> Figure:
    own, floor = _against(lambda one, other: np.abs(one.frequency(index) - other.frequency(index)), found)
    return Figure(
        name=f"frequency_{_key(index, name)}",
        label=f"{name}: share of slices",
        estimate=own,
        floor=floor,
        better="lower",
        definition="Difference between the shares of slices that show the class, of this set and of held-out slices.",
    )


def _measure(found: dict[str, _Measured], index: int, name: str, column: int) -> Figure:
    what = MEASURES[column]
    real = found["held_out"].values[found["held_out"].shown[:, index - 1], index - 1, column]
    scale, unit = _scale(real, what)

    def distance(one: _Measured, other: _Measured) -> NDArray[np.float64]:
        shown, others = one.shown[:, index - 1], other.shown[:, index - 1]
        first, second = one.values[shown, index - 1, column], other.values[others, index - 1, column]
        return wasserstein(first, second, one.weights[:, shown], other.weights[:, others]) / scale

    own, floor = _against(distance, found)
    return Figure(
        name=f"{what.name}_{_key(index, name)}",
        label=f"{name}: {what.label}",
        estimate=own,
        floor=floor,
        better="lower",
        unit=unit,
        definition=f"Wasserstein-1 distance to held-out slices, over slices that show the class, of the {what.label}: "
        f"{what.definition}.",
    )


def _scale(real: NDArray[np.float64], what: Measure) -> tuple[float, str]:
    """Return what a distance is divided by, and its unit."""
    if what.counted:
        return 1.0, what.label
    low, high = np.quantile(real, (0.25, 0.75))
    # Below this, rounding alone would make the spread.
    if high - low > 1e-6 * max(1e-12, abs(high)):
        return float(high - low), "real IQR"
    return 1.0, ""


def _place(found: dict[str, _Measured], index: int, name: str) -> Figure:
    def distance(one: _Measured, other: _Measured) -> NDArray[np.float64]:
        first, second = one.occupancy(index), other.occupancy(index)
        return np.abs(first - second).sum(axis=1) / (first + second).sum(axis=1)

    own, floor = _against(distance, found)
    return Figure(
        name=f"position_{_key(index, name)}",
        label=f"{name}: position",
        estimate=own,
        floor=floor,
        better="lower",
        definition="Bray-Curtis distance of the mean maps of the class, over slices that show it, on a grid of at most "
        "16 x 16: 0 where it lies in the same places as in held-out slices, 1 where it never does.",
    )


def _contact(found: dict[str, _Measured], index: int, name: str) -> Figure:
    def distance(one: _Measured, other: _Measured) -> NDArray[np.float64]:
        return np.abs(one.contacts(index) - other.contacts(index)).sum(axis=1) / 2

    own, floor = _against(distance, found)
    return Figure(
        name=f"adjacency_{_key(index, name)}",
        label=f"{name}: neighbours",
        estimate=own,
        floor=floor,
        better="lower",
        definition="Total variation distance between the shares of the class's border that touch each other class, "
        "of this set and of held-out slices: 0 for the same neighbours, 1 for none in common.",
    )


def _key(index: int, name: str) -> str:
    """Return a class as part of a key: its number, since names may differ by signs alone, and its name."""
    words = "".join(sign if sign.isalnum() and sign.isascii() else " " for sign in name.lower()).split()
    return "_".join([str(index), *words])
