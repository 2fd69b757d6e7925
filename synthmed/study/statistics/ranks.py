"""Ranks of several models over several combinations: Friedman's test, Nemenyi's, and the critical difference.

Demsar 2006, Journal of Machine Learning Research 7, 1, for all of it.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy.stats import chi2, f, rankdata, studentized_range

from synthmed.errors import UserError
from synthmed.extras import install_hint
from synthmed.study.statistics.effects import DECIMALS


class Ranking(BaseModel):
    """What the ranks of models say; rank 1 is the best.

    Attributes:
        models: Their names.
        blocks: How many rows were ranked.
        ranks: Mean rank of each model.
        chi2: Friedman's statistic, corrected for ties.
        freedom: Its degrees of freedom.
        p: Its p-value.
        f: Iman and Davenport's statistic, which is less conservative; None where it is infinite.
        f_freedom: Its degrees of freedom.
        f_p: Its p-value.
        alpha: Level of the critical difference.
        critical_difference: By which two mean ranks must differ (Nemenyi).
        nemenyi: p-value of each pair of models.
    """

    model_config = ConfigDict(frozen=True)

    models: tuple[str, ...]
    blocks: int
    ranks: tuple[float, ...]
    chi2: float
    freedom: int
    p: float
    f: float | None
    f_freedom: tuple[int, int]
    f_p: float
    alpha: float
    critical_difference: float
    nemenyi: tuple[tuple[float, ...], ...]


def critical_difference(models: int, blocks: int, *, alpha: float = 0.05) -> float:
    """Return by how much two mean ranks must differ after Nemenyi's test.

    Args:
        models: How many are compared, at least 2.
        blocks: Over how many rows.
        alpha: Level of the test.
    """
    return float(studentized_range.ppf(1 - alpha, models, np.inf) / math.sqrt(2) * _spread(models, blocks))


def rank_models(
    scores: NDArray[np.float64], models: Sequence[str], *, alpha: float = 0.05, ties: bool = True
) -> Ranking:
    """Return Friedman's and Nemenyi's tests of scores of which more is better.

    Args:
        scores: `[blocks, models]`, at least 2 and 3, none unknown.
        models: Their names.
        alpha: Level of the critical difference.
        ties: Whether Friedman's statistic is corrected for ties, as R and SciPy do and textbooks do not.

    Raises:
        UserError: If scikit-posthocs is not installed.
    """
    blocks, count = scores.shape
    if blocks < 2 or count < 3:
        raise ValueError(f"ranks need at least 2 blocks of 3 models, got {blocks} of {count}")
    try:
        from scikit_posthocs import posthoc_nemenyi_friedman
    except ImportError:
        raise UserError(f"Nemenyi's test needs a package: {install_hint('scikit_posthocs')}") from None
    scores = np.round(scores, DECIMALS)
    ranks = rankdata(-scores, axis=1)
    statistic = friedman(ranks, ties=ties)
    spread = blocks * (count - 1) - statistic
    # All blocks of one mind: the statistic is as large as it can be.
    ratio = (blocks - 1) * statistic / spread if spread > 1e-9 else None
    freedom = count - 1, (count - 1) * (blocks - 1)
    pairs = np.ones((count, count)) if np.ptp(ranks.mean(0)) == 0 else posthoc_nemenyi_friedman(scores).to_numpy()
    return Ranking(
        models=tuple(models),
        blocks=blocks,
        ranks=tuple(ranks.mean(0).tolist()),
        chi2=statistic,
        freedom=count - 1,
        p=float(chi2.sf(statistic, count - 1)),
        f=ratio,
        f_freedom=freedom,
        f_p=0.0 if ratio is None else float(f.sf(ratio, *freedom)),
        alpha=alpha,
        critical_difference=critical_difference(count, blocks, alpha=alpha),
        nemenyi=tuple(tuple(row) for row in pairs.tolist()),
    )


def friedman(ranks: NDArray[np.float64], *, ties: bool = True) -> float:
    """Return Friedman's statistic of ranks `[blocks, models]`; 0 where all are tied."""
    blocks, models = ranks.shape
    squares = ((ranks.mean(0) - (models + 1) / 2) ** 2).sum()
    statistic = 12 * blocks / (models * (models + 1)) * squares
    if ties:
        # The variance of the ranks as they are, in place of that of ranks without ties.
        own = ((ranks - (models + 1) / 2) ** 2).sum() / (blocks * models * (models**2 - 1) / 12)
        statistic = statistic / own if own > 0 else 0.0
    return float(statistic)


def _spread(models: int, blocks: int) -> float:
    return math.sqrt(models * (models + 1) / (6 * blocks))
