"""Tests and effect sizes: paired differences, ranks of several models, and the mixed model.

Ranks follow Demsar 2006, Journal of Machine Learning Research 7, 1: Friedman's and Nemenyi's tests.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import AliasChoices, BaseModel, ConfigDict, Field
from scipy.special import gammaln
from scipy.stats import chi2, f, rankdata, studentized_range, wilcoxon

from synthmed.errors import UserError
from synthmed.extras import install_hint

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
    return float(studentized_range.ppf(1 - alpha, models, np.inf) / math.sqrt(2) * _rank_spread(models, blocks))


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


def _rank_spread(models: int, blocks: int) -> float:
    return math.sqrt(models * (models + 1) / (6 * blocks))


class Observation(NamedTuple):
    """A score of one model in one combination of a data set."""

    dataset: str
    combination: str
    model: str
    score: float


class Effect(BaseModel):
    """What a model gains beyond the baseline: estimate, standard error, 95 % Wald interval and p-value."""

    model_config = ConfigDict(frozen=True)

    model: str
    value: float
    error: float
    low: float
    high: float
    p: float


class MixedSummary(BaseModel):
    """A fitted linear mixed model.

    Attributes:
        baseline: Model that the effects are differences to.
        intercept: Mean score of the baseline.
        effects: Of the other models.
        deviations: Standard deviation of each random effect, and of the residual.
        observations: How many scores were fitted.
        groups: What shares a random effect.
        converged: Whether the fit ended well.
        formula: What was fitted.
    """

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    baseline: str
    intercept: float
    effects: list[Effect]
    deviations: dict[str, float]
    observations: int
    groups: int
    converged: bool
    formula: str = Field(validation_alias=AliasChoices("formula", "words"))


def mixed_summary(observations: Sequence[Observation], baseline: str) -> MixedSummary:
    """Fit scores by restricted maximum likelihood: models as fixed effects, combinations as random ones.

    With two data sets or more, of which any has several combinations, data sets are the groups, within which
    combinations are random, and so is what a model does on a data set: numbers of patients of one data set are not
    independent. Else combinations are the groups.

    Args:
        observations: One score for each model and combination; missing ones may be missing.
        baseline: Model that effects are differences to.

    Raises:
        UserError: If statsmodels is not installed, or there are too few scores to fit.
    """
    try:
        import pandas
        import statsmodels.formula.api as formulas
    except ImportError:
        raise UserError(f"a mixed model needs a package: {install_hint('statsmodels')}") from None
    models = list(dict.fromkeys(one.model for one in observations))
    if baseline not in models or len(models) < 2:
        raise UserError(f"a mixed model needs scores of {baseline!r} and of another model: wait for more trials")
    frame = pandas.DataFrame(observations, columns=list(Observation._fields))
    groups, parts = _groups(observations)
    if frame[groups].nunique() < 2 or len(frame) <= len(models) + 1:
        raise UserError("a mixed model needs at least two combinations, and more scores than models: wait for more")
    names = [baseline, *(name for name in models if name != baseline)]
    # Numbers for names: any name is allowed, and the formula's language reads only some.
    frame["model"] = pandas.Categorical([names.index(name) for name in frame["model"]], range(len(names)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = formulas.mixedlm("score ~ C(model)", frame, groups=frame[groups], vc_formula=parts)
        fit = _fitted(model)
    return MixedSummary(
        baseline=baseline,
        intercept=float(fit.fe_params.iloc[0]),
        effects=[_effect(fit, number, name) for number, name in enumerate(names) if number],
        deviations=_deviations(fit, groups, model),
        observations=len(frame),
        groups=int(frame[groups].nunique()),
        converged=bool(fit.converged) and not any("Hessian" in str(one.message) for one in caught),
        formula=f"score ~ model + (1 | {groups})" + "".join(f" + (1 | {groups}:{name})" for name in parts or ()),
    )


def _groups(observations: Sequence[Observation]) -> tuple[str, dict[str, str] | None]:
    datasets = {one.dataset for one in observations}
    if len(datasets) > 1 and len({(one.dataset, one.combination) for one in observations}) > len(datasets):
        return "dataset", {"combination": "0 + C(combination)", "model": "0 + C(model)"}
    return "combination", None


def _fitted(model: Any) -> Any:
    """Return the fit of the first optimiser that converges, or the last."""
    for method in ("lbfgs", "bfgs", "powell"):
        try:
            fit = model.fit(reml=True, method=method)
        except np.linalg.LinAlgError:
            continue
        if fit.converged:
            return fit
    try:
        return fit
    except UnboundLocalError:
        raise UserError("the mixed model cannot be fitted to these scores: wait for more trials") from None


def _effect(fit: Any, number: int, name: str) -> Effect:
    low, high = fit.conf_int().iloc[number]
    return Effect(
        model=name,
        value=float(fit.fe_params.iloc[number]),
        error=float(fit.bse_fe.iloc[number]),
        low=float(low),
        high=float(high),
        p=float(fit.pvalues.iloc[number]),
    )


def _deviations(fit: Any, groups: str, model: Any) -> dict[str, float]:
    found = {groups: float(np.sqrt(max(fit.cov_re.iloc[0, 0], 0.0)))} if fit.cov_re.size else {}
    names = model.exog_vc.names
    found |= {name: float(np.sqrt(max(value, 0.0))) for name, value in zip(names, fit.vcomp, strict=True)}
    return {**found, "residual": float(np.sqrt(fit.scale))}
