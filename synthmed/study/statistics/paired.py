"""Paired differences: Wilcoxon's signed-rank test and Holm's correction."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy.stats import wilcoxon

from synthmed.study.statistics.effects import DECIMALS, cohen_dz, hedges_gz, rank_biserial


class PairedTest(BaseModel):
    """What paired differences say.

    Attributes:
        pairs: How many.
        zeros: Those that are 0, which the test leaves out.
        mean: Mean difference.
        median: Median difference.
        gains: Sum of the ranks of positive differences.
        losses: Sum of the ranks of negative differences.
        p: Two-sided p-value of Wilcoxon's signed-rank test.
        p_holm: The same after Holm's correction for all tests of the table; None until that is known.
        rank_biserial: Matched-pairs rank-biserial correlation.
        dz: Cohen's dz; None where the differences do not vary.
        gz: The same with Hedges' correction.
    """

    model_config = ConfigDict(frozen=True)

    pairs: int
    zeros: int
    mean: float
    median: float
    gains: float
    losses: float
    p: float
    p_holm: float | None = None
    rank_biserial: float
    dz: float | None
    gz: float | None


def signed_rank(differences: NDArray[np.float64]) -> PairedTest | None:
    """Return Wilcoxon's signed-rank test of differences around 0, and effect sizes; None without any difference known.

    SciPy's test: exact up to 50 pairs; with ties or zeros by permutation up to 13 pairs, else by the normal
    approximation. Zeros are left out (Wilcoxon 1945); where all are 0, p is 1.

    Args:
        differences: `[pairs]`; NaN where one of a pair is unknown, which is left out.
    """
    differences = np.round(differences[~np.isnan(differences)], DECIMALS)
    if not len(differences):
        return None
    zeros = int((differences == 0).sum())
    total = (len(differences) - zeros) * (len(differences) - zeros + 1) / 2
    share = rank_biserial(differences)
    return PairedTest(
        pairs=len(differences),
        zeros=zeros,
        mean=float(differences.mean()),
        median=float(np.median(differences)),
        gains=total * (1 + share) / 2,
        losses=total * (1 - share) / 2,
        p=1.0 if zeros == len(differences) else float(wilcoxon(differences, zero_method="wilcox").pvalue),
        rank_biserial=share,
        dz=cohen_dz(differences),
        gz=hedges_gz(differences),
    )


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values after Holm's step-down correction (Holm 1979, Scandinavian Journal of Statistics 6, 65).

    The family-wise error stays below alpha whatever depends on what.
    """
    order = np.argsort(values, kind="stable")
    steps = np.asarray(values, float)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted.tolist()


def corrected(tests: Sequence[PairedTest | None]) -> list[PairedTest | None]:
    """Return tests with `p_holm`, corrected for all that there are."""
    adjusted = iter(holm([test.p for test in tests if test is not None]))
    return [None if test is None else test.model_copy(update={"p_holm": next(adjusted)}) for test in tests]
