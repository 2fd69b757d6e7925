"""Intervals for the difference of two ways of training, over patients and over repetitions of the training.

Patients are paired (both ways are scored on the same ones), and so are repetitions (same draw, same seed). Both are
resampled, each independently of the other, as rows and columns of a table (the "pigeonhole bootstrap", Owen 2007,
Annals of Applied Statistics 1, 386), which errs towards wide intervals. Of n units n - 1 are drawn with replacement:
the variance is then unbiased (Rao and Wu 1988, JASA 83, 231), where drawing n would give (n - 1) / n of it: two thirds
with three draws.
"""

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

RESAMPLES = 4000


class Interval(BaseModel):
    """A figure and how sure it is.

    Attributes:
        value: The figure of the data as they are.
        low: Lower end of the 95 % interval.
        high: Upper end.
        error: Standard error: standard deviation over the resamples.
    """

    model_config = ConfigDict(frozen=True)

    value: float
    low: float
    high: float
    error: float


def mean_dice(values: np.ndarray, repetitions: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Return the mean over classes of the weighted mean over patients and repetitions, `[resamples]`.

    Args:
        values: `[repetitions, patients, classes]`; NaN where a patient has nothing of a class, which is left out.
        repetitions: Weights `[resamples, repetitions]`.
        patients: Weights `[resamples, patients]`.
    """
    known = ~np.isnan(values)
    sums, counts = (
        np.einsum("bp,bpc->bc", patients, np.tensordot(repetitions, part, axes=1))
        for part in (np.where(known, values, 0.0), known.astype(float))
    )
    seen = counts > 0
    means = np.divide(sums, counts, out=np.zeros_like(sums), where=seen)
    return np.divide(means.sum(1), seen.sum(1), out=np.full(len(means), np.nan), where=seen.any(1))


def difference(
    values: np.ndarray, base: np.ndarray, *, draws: Sequence[int], seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Return how much higher the mean of `values` is than that of `base`, with a 95 % percentile interval.

    Args:
        values: `[repetitions, patients, classes]`, NaN where a patient has nothing of a class.
        base: The same of what is compared with, in the same order.
        draws: Of each repetition, which draw of training patients it is of. Where there are several, whole draws are
            resampled with all their seeds; else seeds are. A single repetition says nothing of how others would be:
            the interval is then over patients alone.
        seed: Of the resampling.
        resamples: How many.
    """
    random = np.random.default_rng(seed)
    repetitions = _repetition_weights(np.asarray(draws), random, resamples)
    patients = _weights(values.shape[1], random, resamples)
    plain = np.ones((1, len(draws))), np.ones((1, values.shape[1]))
    found = mean_dice(values, repetitions, patients) - mean_dice(base, repetitions, patients)
    found = found[~np.isnan(found)]
    low, high = np.percentile(found, (2.5, 97.5)) if len(found) else (np.nan, np.nan)
    value = mean_dice(values, *plain)[0] - mean_dice(base, *plain)[0]
    return Interval(value=float(value), low=float(low), high=float(high), error=float(found.std()))


def _repetition_weights(draws: np.ndarray, random: np.random.Generator, resamples: int) -> np.ndarray:
    names, owner = np.unique(draws, return_inverse=True)
    if len(names) > 1:
        return _weights(len(names), random, resamples)[:, owner]
    return _weights(len(draws), random, resamples)


def _weights(units: int, random: np.random.Generator, resamples: int) -> np.ndarray:
    """Return how often each unit is drawn, float `[resamples, units]`."""
    drawn = random.multinomial(max(units - 1, 1), np.full(units, 1.0 / units), size=resamples)
    return drawn.astype(float)
