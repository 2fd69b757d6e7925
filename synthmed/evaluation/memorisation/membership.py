"""Whether samples give away who was in the training set: membership inference by distance.

The attacker has a person's slices and the samples, and holds a slice for a training slice if a sample lies near to it
(Hayes et al. 2019, PoPETs 2019, 133; Chen et al. 2020, arXiv:1909.03935, "full black-box"). Neither model nor training
set is needed.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from synthmed.evaluation.figures import Estimate

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
    rows, row_sizes = _numbered(member_patient)
    columns, column_sizes = _numbered(other_patient)
    wins = _wins(members, others, rows, columns, (len(row_sizes), len(column_sizes)))
    value = wins.sum() / (len(members) * len(others))
    if min(len(row_sizes), len(column_sizes)) < 2:
        return Estimate(value=float(value))
    random = np.random.default_rng(seed)
    drawn = []
    for _ in range(RESAMPLES):
        row, column = (
            random.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes))) for sizes in (row_sizes, column_sizes)
        )
        drawn.append(row @ wins @ column / ((row @ row_sizes) * (column @ column_sizes)))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(value=float(value), low=float(low), high=float(high))


def _numbered(patient: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    _, number, sizes = np.unique(patient, return_inverse=True, return_counts=True)
    return number, sizes


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
