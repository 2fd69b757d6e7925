"""The samples that lie nearest to training slices, for a person to judge."""

import numpy as np

from synthmed.evaluation.memorisation.audit import Audit

PAIRS = 8


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
