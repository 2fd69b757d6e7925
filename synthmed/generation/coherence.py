"""Whether the slices of a volume belong together: overlap of neighbours, connected parts, coming and going."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from synthmed.data.schema import Split
from synthmed.data.store import Store
from synthmed.data.synthetic import SyntheticSet
from synthmed.errors import UserError


@dataclass(frozen=True)
class Coherence:
    """How the foreground classes of one label volume hang together.

    Attributes:
        dice: float64 `[classes - 1]`, mean Dice coefficient of neighbouring slices over the pairs in which at least one
            shows the class; NaN where there is none.
        components: int64 `[classes - 1]`, connected parts of each class (26 neighbours); 0 where it is not shown.
        runs: int64 `[classes - 1]`, runs of consecutive slices that show the class; 0 where it is not shown.
    """

    dice: np.ndarray
    components: np.ndarray
    runs: np.ndarray


def coherence(labels: np.ndarray, classes: int) -> Coherence:
    """Measure a label volume.

    Args:
        labels: Class indices `[n, H, W]`, slices first.
        classes: Number of classes, background included.
    """
    masks = [labels == index for index in range(1, classes)]
    return Coherence(
        dice=np.array([_neighbour_dice(mask) for mask in masks]),
        components=np.array([ndimage.label(mask, np.ones((3, 3, 3)))[1] for mask in masks], np.int64),
        runs=np.array([_runs(mask.any(axis=(1, 2))) for mask in masks], np.int64),
    )


def real_volumes(store: Store, split: Split | None = None) -> Iterator[np.ndarray]:
    """Yield the label volume `[n, H, W]` of each case of a store, or of a split."""
    for case in store.cases(split):
        yield store.labels(np.arange(case.first, case.first + case.slices))


def generated_volumes(generated: SyntheticSet) -> Iterator[np.ndarray]:
    """Yield the label volume `[n, H, W]` of each case of a set that `generate --unit volume` wrote.

    Raises:
        UserError: If the set holds slices.
    """
    if any(sidecar.get("unit") != "volume" for sidecar in generated.sidecars):
        raise UserError(f"{generated.folder} holds slices: generate it with --unit volume")
    cases = np.array(generated.cases)
    for case in dict.fromkeys(generated.cases):
        yield generated.labels(np.flatnonzero(cases == case))


def summary(volumes: Iterable[np.ndarray], classes: int) -> dict[str, np.ndarray]:
    """Return means over the volumes that show a class, each `[classes - 1]`, and `shown`, the share that do."""
    found = [coherence(labels, classes) for labels in volumes]
    components = np.array([one.components for one in found])
    shown = components > 0
    values = {
        "dice": np.array([one.dice for one in found]),
        "components": components,
        "runs": np.array([one.runs for one in found]),
    }
    return {name: _mean(value, shown & ~np.isnan(value)) for name, value in values.items()} | {
        "shown": shown.mean(axis=0)
    }


def _mean(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    total = np.where(counted, values, 0.0).sum(axis=0)
    number = counted.sum(axis=0)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def _neighbour_dice(mask: np.ndarray) -> float:
    both = 2.0 * (mask[1:] & mask[:-1]).sum(axis=(1, 2))
    sizes = mask[1:].sum(axis=(1, 2)) + mask[:-1].sum(axis=(1, 2))
    shown = sizes > 0
    return float(np.mean(both[shown] / sizes[shown])) if shown.any() else float("nan")


def _runs(shown: np.ndarray) -> int:
    return int(np.count_nonzero(np.diff(np.concatenate([[False], shown]).astype(np.int8)) == 1))
