"""Every statistic beside a worked example that was published, or what R's and SciPy's documentation print."""

import numpy as np
import pytest
from scipy.stats import friedmanchisquare

from synthmed.study.statistics.significance import (
    Observation,
    cohen_dz,
    critical_difference,
    hedges_gz,
    holm,
    mixed_summary,
    rank_biserial,
    rank_models,
    signed_rank,
)

# Demsar 2006, table 6: AUC of C4.5 without and with its two parameters tuned, on 14 data sets.
DEMSAR = np.array(
    [
        (0.763, 0.768, 0.771, 0.798),
        (0.599, 0.591, 0.590, 0.569),
        (0.954, 0.971, 0.968, 0.967),
        (0.628, 0.661, 0.654, 0.657),
        (0.882, 0.888, 0.886, 0.898),
        (0.936, 0.931, 0.916, 0.931),
        (0.661, 0.668, 0.609, 0.685),
        (0.583, 0.583, 0.563, 0.625),
        (0.775, 0.838, 0.866, 0.875),
        (1.000, 1.000, 1.000, 1.000),
        (0.940, 0.962, 0.965, 0.962),
        (0.619, 0.666, 0.614, 0.669),
        # The last is printed as 0.975 too, but ranked third: it was a little lower before it was rounded.
        (0.972, 0.981, 0.975, 0.9749),
        (0.957, 0.978, 0.946, 0.970),
    ]
)
C45 = ("C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf")

# Hollander and Wolfe 1973, p. 140: times of rounding first base, by three methods; the example of R's friedman.test.
ROUNDING = np.array(
    [
        *((5.40, 5.50, 5.55), (5.85, 5.70, 5.75), (5.20, 5.60, 5.50), (5.55, 5.50, 5.40), (5.90, 5.85, 5.70)),
        *((5.45, 5.55, 5.60), (5.40, 5.40, 5.35), (5.45, 5.50, 5.35), (5.25, 5.15, 5.00), (5.85, 5.80, 5.70)),
        *((5.25, 5.20, 5.10), (5.65, 5.55, 5.45), (5.60, 5.35, 5.45), (5.05, 5.00, 4.95), (5.50, 5.50, 5.40)),
        *((5.45, 5.55, 5.50), (5.55, 5.55, 5.35), (5.45, 5.50, 5.55), (5.50, 5.45, 5.25), (5.65, 5.60, 5.40)),
        *((5.70, 5.65, 5.55), (6.30, 6.30, 6.25)),
    ]
)

# Hollander and Wolfe 1973, p. 29: depression before and after a tranquilliser; the example of R's wilcox.test.
BEFORE = np.array([1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30])
AFTER = np.array([0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29])

# Pinheiro and Bates 2000, section 1.2: effort of nine people to rise from four types of stool (nlme's ergoStool).
STOOLS = (
    *((12, 15, 12, 10), (10, 14, 13, 12), (7, 14, 13, 9), (7, 11, 10, 9), (8, 11, 8, 7)),
    *((9, 11, 11, 10), (8, 12, 12, 11), (7, 11, 8, 7), (9, 13, 10, 8)),
)


def test_ranks_of_demsar():
    """Friedman's verdict and the critical difference would be others than those of the method that a paper cites."""
    found = rank_models(DEMSAR, C45, ties=False)
    assert np.round(found.ranks, 3).tolist() == [3.143, 2.0, 2.893, 1.964]
    assert found.chi2 == pytest.approx(9.28, abs=0.01)
    assert found.f == pytest.approx(3.69, abs=0.01)
    assert found.f_freedom == (3, 39)
    assert found.critical_difference == pytest.approx(1.25, abs=0.01)
    # "at p = 0.10 CD is 2.291 sqrt(...) = 1.12": C4.5 differs from the tuned ones, at 0.05 nobody does.
    assert critical_difference(4, 14, alpha=0.1) == pytest.approx(1.12, abs=0.005)
    assert found.nemenyi[0][3] < 0.10 and found.nemenyi[0][1] < 0.10
    assert min(min(row) for row in found.nemenyi) > 0.05


def test_nemenyi_agrees_with_its_critical_difference():
    """A diagram whose bars contradict its own scale."""
    found = rank_models(DEMSAR, C45)
    for level in (0.05, 0.1, 0.3):
        limit = critical_difference(4, 14, alpha=level)
        for one in range(4):
            for other in range(4):
                apart = abs(found.ranks[one] - found.ranks[other])
                assert (apart > limit) == (found.nemenyi[one][other] < level)


@pytest.mark.parametrize(
    ("models", "value"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (8, 3.031), (10, 3.164)]
)
def test_critical_values_of_nemenyi(models, value):
    """Demsar's table 5a at 0.05: everybody who checks the report by hand looks there."""
    spread = np.sqrt(models * (models + 1) / 6)
    assert critical_difference(models, 1) / spread == pytest.approx(value, abs=0.0011)


def test_the_critical_difference_of_the_paper():
    """26 models on 18 combinations, the grid of the paper."""
    assert critical_difference(26, 18) == pytest.approx(9.38, abs=0.005)


def test_friedman_of_r():
    """R prints chi-squared 11.143, df 2, p 0.003805 for tied ranks; SciPy agrees."""
    found = rank_models(ROUNDING, ("round out", "narrow", "wide"))
    assert found.chi2 == pytest.approx(11.143, abs=0.0005)
    assert found.freedom == 2
    assert found.p == pytest.approx(0.003805, abs=5e-7)
    assert found.chi2 == pytest.approx(friedmanchisquare(*ROUNDING.T).statistic)


def test_wilcoxon_of_demsar():
    """R+ = 93, R- = 12 for C4.5 and C4.5+m, where two ties are split between both: rejected at 0.05."""
    found = signed_rank(DEMSAR[:, 1] - DEMSAR[:, 0])
    assert found.zeros == 2
    # Demsar gives the two zeros half a rank 1.5 each way, and so all other ranks two more.
    gains = found.gains + 2 * 10 + 1.5
    losses = found.losses + 2 * 2 + 1.5
    assert (gains, losses) == pytest.approx((93, 12))
    assert found.p < 0.05


def test_wilcoxon_of_r():
    """R prints V = 40, p = 0.01953 for the one-sided test, so 0.03906 for both sides."""
    found = signed_rank(BEFORE - AFTER)
    assert found.gains == pytest.approx(40)
    assert found.p == pytest.approx(0.0390625)


def test_wilcoxon_of_scipy():
    """Darwin's maize: statistic 24, p 0.041259765625 in SciPy's documentation."""
    heights = np.array([6, 8, 14, 16, 23, 24, 28, 29, 41, -48, 49, 56, 60, -67, 75], float)
    found = signed_rank(heights)
    assert found.losses == pytest.approx(24)
    assert found.p == pytest.approx(0.041259765625)


def test_rank_biserial_of_effectsize():
    """R's effectsize prints 0.78 for the depression data, paired."""
    assert rank_biserial(BEFORE - AFTER) == pytest.approx(35 / 45)


def test_cohen_of_lakens():
    """Lakens 2013, Frontiers in Psychology 4, 863: ten people rate two films, dz = 1.50, t(9) = 4.74."""
    films = np.array([9, 7, 8, 9, 8, 9, 9, 10, 9, 9]) - np.array([9, 6, 7, 8, 7, 9, 8, 8, 8, 7])
    assert cohen_dz(films) == pytest.approx(1.50, abs=0.005)
    # The usual approximation of the same factor.
    assert hedges_gz(films) == pytest.approx(1.5 * (1 - 3 / (4 * 9 - 1)), abs=0.002)


def test_holm_of_wikipedia():
    """p.adjust(c(.01, .04, .03, .005), "holm") is .03 .06 .06 .02 in R."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_of_statsmodels():
    """Ties, ones and values beyond one after correction."""
    from statsmodels.stats.multitest import multipletests

    values = np.random.default_rng(0).uniform(0, 0.2, 25).round(2)
    assert holm(values.tolist()) == pytest.approx(multipletests(values, method="holm")[1])
    assert holm([]) == []


def test_mixed_model_of_pinheiro_and_bates():
    """summary(lme(effort ~ Type, ergoStool, ~ 1 | Subject)) prints these figures."""
    rows = [
        Observation("people", f"person {number}", f"T{type_ + 1}", float(effort))
        for number, efforts in enumerate(STOOLS)
        for type_, effort in enumerate(efforts)
    ]
    found = mixed_summary(rows, "T1")
    assert found.intercept == pytest.approx(8.555556, abs=1e-4)
    assert [effect.value for effect in found.effects] == pytest.approx([3.888889, 2.222222, 0.666667], abs=1e-4)
    assert [effect.error for effect in found.effects] == pytest.approx([0.5186838] * 3, abs=2e-4)
    assert found.deviations["combination"] == pytest.approx(1.332465, abs=2e-3)
    assert found.deviations["residual"] == pytest.approx(1.100295, abs=5e-4)
    assert found.converged
