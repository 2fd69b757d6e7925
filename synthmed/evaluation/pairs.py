"""A picture of the samples that lie nearest to training slices, for a person to judge."""

from pathlib import Path

import numpy as np

from synthmed.data.pictures import render, save_png, tile
from synthmed.data.store import Store
from synthmed.data.synthetic import SyntheticSet
from synthmed.evaluation.distances import coarse_vectors

PAIRS = 12


def nearest_pairs_picture(store: Store, synthetic: SyntheticSet, path: Path) -> None:
    """Write the closest samples, each on the left of its nearest training slice.

    Args:
        store: Real slices.
        synthetic: Generated slices with images.
        path: PNG to write.
    """
    from scipy.spatial import cKDTree

    train = store.indices("train")
    distances, nearest = cKDTree(coarse_vectors(store.images(train))).query(coarse_vectors(synthetic.images()))
    closest = np.argsort(distances, kind="stable")[:PAIRS]
    real = train[nearest[closest]]
    left = render(synthetic.images(closest), synthetic.labels(closest))
    right = render(store.images(real), store.labels(real))
    pictures = np.stack([left, right], axis=1).reshape(-1, *left.shape[1:])
    save_png(path, tile(pictures, columns=4))
