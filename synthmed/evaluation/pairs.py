"""A picture of the samples that lie nearest to training slices, for a person to judge."""

from pathlib import Path

import numpy as np

from synthmed.data.pictures import render, save_png, tile
from synthmed.data.store import Store
from synthmed.data.synthetic import SyntheticSet
from synthmed.evaluation.memorisation.audit import Audit

PAIRS = 12


def closest_samples(audit: Audit, most: int = PAIRS) -> tuple[np.ndarray, np.ndarray]:
    """Return the samples that are the most like copies, and the store's slice nearest to each, the worst first.

    Args:
        audit: What was found; images count where there are any, else label maps.
        most: How many.

    Returns:
        Numbers of samples and of slices, int64 `[k]`; k is below `most` where few samples could be compared.
    """
    if not audit.findings:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    finding = audit.findings[0]
    nearest, distance, ratio = (np.array(one) for one in (finding.nearest, finding.distance, finding.ratio))
    # Where there is no ratio for any sample, the distance alone tells.
    order = np.lexsort((distance, np.where(ratio < 0, np.inf, ratio)))
    chosen = order[nearest[order] >= 0][:most]
    return chosen, nearest[chosen].astype(np.int64)


def nearest_pairs_picture(store: Store, synthetic: SyntheticSet, audit: Audit, path: Path) -> bool:
    """Write the closest samples, each on the left of its nearest training slice.

    Args:
        store: Real slices.
        synthetic: Generated slices.
        audit: Of this set against this store.
        path: PNG to write.

    Returns:
        Whether there was anything to show.
    """
    chosen, real = closest_samples(audit)
    if not len(chosen):
        return False
    has_images = bool(synthetic.channels)
    left = render(synthetic.images(chosen) if has_images else None, synthetic.labels(chosen))
    right = render(store.images(real) if has_images else None, store.labels(real))
    pictures = np.stack([left, right], axis=1).reshape(-1, *left.shape[1:])
    save_png(path, tile(pictures, columns=4))
    return True
