"""A mixed-effects summary: what each model gains over real patients alone, over all combinations at once."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from synthmed.errors import UserError
from synthmed.extras import install_hint


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
        words: What was fitted, in a line.
    """

    model_config = ConfigDict(frozen=True)

    baseline: str
    intercept: float
    effects: list[Effect]
    deviations: dict[str, float]
    observations: int
    groups: int
    converged: bool
    words: str


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
    with warnings.catch_warnings(record=True) as told:
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
        converged=bool(fit.converged) and not any("Hessian" in str(one.message) for one in told),
        words=f"score ~ model + (1 | {groups})" + "".join(f" + (1 | {groups}:{name})" for name in parts or ()),
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
