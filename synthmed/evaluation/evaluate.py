"""A first judgement of a synthetic set against the store that it should resemble."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthmed.data.store import Store
from synthmed.data.synthetic import SyntheticSet
from synthmed.errors import UserError
from synthmed.evaluation.distances import coarse_vectors
from synthmed.training.distance import sliced_wasserstein

FEWEST = 10


def evaluate(store: Store, synthetic: SyntheticSet, *, seed: int = 0) -> dict[str, Any]:
    """Compare a synthetic set with the real slices of a store.

    Held-out slices are those of the validation and test patients; every figure is given for them as well, so that it
    has its floor beside it.

    Args:
        store: Real slices.
        synthetic: Generated slices.
        seed: Of random directions and subsets.

    Returns:
        Plain values: counts, `fidelity` where the set has images, `masks`.

    Raises:
        UserError: If the set does not fit the store, or either is too small.
    """
    store.require_labels()
    _check(store, synthetic)
    train = store.indices("train")
    held_out = np.concatenate([store.indices("val"), store.indices("test")])
    for name, count in (("synthetic", len(synthetic)), ("training", len(train)), ("held-out", len(held_out))):
        if count < FEWEST:
            raise UserError(f"there are {count} {name} slices, and distances need at least {FEWEST}: give more")
    report: dict[str, Any] = {
        "counts": {"synthetic": len(synthetic), "training": len(train), "held_out": len(held_out)},
        "masks": _masks(store, train, held_out, synthetic.labels()),
    }
    if synthetic.channels:
        drawn = coarse_vectors(synthetic.images())
        real, other = (coarse_vectors(store.images(indices)) for indices in (train, held_out))
        report["fidelity"] = {
            "space": "slices averaged to 16 x 16",
            "sliced_wasserstein": sliced_wasserstein(drawn, other, seed=seed),
            "sliced_wasserstein_of_training_slices": sliced_wasserstein(real, other, seed=seed),
        }
    return report


def _masks(
    store: Store, train: NDArray[np.int64], held_out: NDArray[np.int64], labels: NDArray[np.uint8]
) -> dict[str, dict[str, dict[str, float]]]:
    """For each class and set: the share of slices that show it, and its mean area in pixels where it is shown.

    Slices with pixels whose class is not known are left out.
    """
    pixels = np.prod(store.size)
    train, held_out = (indices[~store.slice_ignored[indices]] for indices in (train, held_out))
    drawn = np.stack([(labels == number).sum(axis=(1, 2)) for number in range(len(store.classes))], axis=1)
    groups = {"synthetic": drawn, "training": store.class_counts[train], "held_out": store.class_counts[held_out]}
    report: dict[str, dict[str, dict[str, float]]] = {}
    for number, name in enumerate(store.classes):
        report[name] = {}
        for group, counts in groups.items():
            shown = counts[:, number] > 0
            area = float(counts[shown, number].mean() / pixels) if shown.any() else 0.0
            report[name][group] = {
                "share_of_slices": float(shown.mean()) if len(shown) else 0.0,
                "mean_area_share": area,
            }
    return report


def _check(store: Store, synthetic: SyntheticSet) -> None:
    if synthetic.classes != tuple(store.classes):
        raise UserError(
            f"{synthetic.folder} has the classes {', '.join(synthetic.classes)}, {store.path} has "
            f"{', '.join(store.classes)}: compare it with the store that its generator was trained on"
        )
    if synthetic.channels and synthetic.channels != tuple(store.channels):
        raise UserError(
            f"{synthetic.folder} has the channels {', '.join(synthetic.channels)}, {store.path} has "
            f"{', '.join(store.channels)}: compare it with the store that its generator was trained on"
        )
    size = synthetic.labels(np.array([0])).shape[1:]
    if size != tuple(store.size):
        raise UserError(
            f"{synthetic.folder} has slices of {size[0]}x{size[1]}, {store.path} of {store.size[0]}x{store.size[1]}: "
            "compare it with the store that its generator was trained on"
        )
    held_out = set(store.hashes("val")) | set(store.hashes("test"))
    if held_out & synthetic.training_hashes:
        raise UserError(
            f"the generator of {synthetic.folder} was trained on patients that {store.path} keeps for validation or "
            "test, so nothing is held out: compare it with the store that it was trained on"
        )
