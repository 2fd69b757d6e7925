"""Whether samples give away who was in the training set: membership inference by distance.

The attacker has a person's slices and the samples, and holds a slice for a training slice if a sample lies near to it
(Hayes et al. 2019, PoPETs 2019, 133; Chen et al. 2020, arXiv:1909.03935, "full black-box"). Neither model nor training
set is needed.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from synthmed.evaluation.figures import Estimate
from synthmed.evaluation.resampling import Units, interval, paired_weights

RESAMPLES = 2000


def attack_auc(
    members: NDArray[np.float64],
    others: NDArray[np.float64],
    *,
    member_patient: NDArray[np.int64],
    other_patient: NDArray[np.int64],
    seed: int = 0,
) -> Estimate:
    """Return how often a training slice lies nearer to the samples than a held-out one: 0.5 is chance, 1 certainty.

    Args:
        members: Distance of training slices to the nearest sample, `[n]`.
        others: The same of held-out slices, `[m]`.
        member_patient: Patient of each training slice.
        other_patient: Patient of each held-out slice.
        seed: Of the bootstrap, which resamples the patients of both groups.

    Returns:
        Area under the ROC curve with a 95 % interval; without interval where a group has one patient.
    """
    rows, columns = (Units.of_patients(patient) for patient in (member_patient, other_patient))
    wins = _wins(members, others, rows.owner, columns.owner, (rows.count, columns.count))
    value = wins.sum() / (len(members) * len(others))
    if min(rows.count, columns.count) < 2:
        return Estimate(value=float(value))
    drawn, theirs = paired_weights(rows, columns, seed=seed, resamples=RESAMPLES)
    shares = np.einsum("bi,ij,bj->b", drawn, wins, theirs, optimize=True) / (
        (drawn @ rows.sizes) * (theirs @ columns.sizes)
    )
    return interval(float(value), shares, lowest=0.0, highest=1.0)


def _wins(
    members: np.ndarray, others: np.ndarray, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]
) -> NDArray[np.float64]:
    """Return how many pairs of slices each pair of patients has in which the member's is nearer; ties count half."""
    wins = np.zeros(shape)
    for column in range(shape[1]):
        theirs = others[columns == column]
        ranks = rankdata(np.concatenate([members, theirs]))[: len(members)]
        # A member's rank among both, less its rank among members: the others that lie nearer, ties half.
        nearer = ranks - rankdata(members)
        wins[:, column] = np.bincount(rows, weights=len(theirs) - nearer, minlength=shape[0])
    return wins
