"""Sizes of paired differences, beside which a p-value says little."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln
from scipy.stats import rankdata

DECIMALS = 12
"""To which differences are rounded before they are ranked: equal ones differ by less in floating point."""


def rank_biserial(differences: NDArray[np.float64]) -> float:
    """Return the matched-pairs rank-biserial correlation in -1..1; 0 where all differences are 0.

    The sum of the ranks of gains minus that of losses, as a share of both (Kerby 2014, Comprehensive Psychology 3, 1).
    Differences of 0 are left out, as in Wilcoxon's test.

    Args:
        differences: `[pairs]`.
    """
    differences = np.round(differences, DECIMALS)
    differences = differences[differences != 0]
    if not len(differences):
        return 0.0
    ranks = rankdata(np.abs(differences))
    return float((ranks * np.sign(differences)).sum() / ranks.sum())


def cohen_dz(differences: NDArray[np.float64]) -> float | None:
    """Return the mean difference in standard deviations of the differences (Cohen 1988); None where these are 0.

    Args:
        differences: `[pairs]`.
    """
    if len(differences) < 2 or np.ptp(np.round(differences, DECIMALS)) == 0:
        return None
    return float(differences.mean() / differences.std(ddof=1))


def hedges_gz(differences: NDArray[np.float64]) -> float | None:
    """Return Cohen's dz without its upward bias in small samples.

    The exact factor of Hedges 1981, Journal of Educational Statistics 6, 107, with `pairs - 1` degrees of freedom.

    Args:
        differences: `[pairs]`.
    """
    plain = cohen_dz(differences)
    if plain is None:
        return None
    freedom = len(differences) - 1
    if freedom < 2:
        # The factor is 0 / 0 there: nothing is left of a standard deviation of two values.
        return None
    return float(plain * np.exp(gammaln(freedom / 2) - gammaln((freedom - 1) / 2)) * np.sqrt(2 / freedom))
