"""Each model in each combination: its score, what it gained over real patients alone, and what that is worth.

Smaller draws of training patients lie within larger ones, so real patients alone in a larger combination are the oracle
of a smaller one: the same patients and that many more, tested on the same test patients with the same seeds.
"""

from collections.abc import Container, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthmed.errors import present
from synthmed.segmentation.score_table import RESAMPLES, Interval, difference, mean_dice
from synthmed.study.statistics.findings import CellResult, GainVerdict
from synthmed.study.statistics.significance import PairedTest, corrected, signed_rank
from synthmed.study.statistics.tables import ORACLE, REAL, Block, Model, Repetition, Study, Table

ALPHA = 0.05
ORACLE_LINE = "more real patients"


def block_results(study: Study, table: Table, block: Block, *, resamples: int = RESAMPLES) -> list[CellResult]:
    """Return the results of all models in one combination.

    Args:
        study: Says what is planned and what failed.
        table: Its scores.
        block: Which combination.
        resamples: Of the bootstrap.
    """
    planned = [model for model in table.models if model.label in table.planned[block]]
    cells = [_cell(study, table, block, model, resamples) for model in planned]
    tests = corrected(
        [_test(table, block, model) if cell.gain else None for model, cell in zip(planned, cells, strict=True)]
    )
    return [
        cell.model_copy(update={"test": test, "verdict": gain_verdict(cell.gain, test, trainings=cell.trainings)})
        for cell, test in zip(cells, tests, strict=True)
    ]


def gain_verdict(gain: Interval | None, test: PairedTest | None, *, trainings: int) -> GainVerdict | None:
    """Return what the bootstrap interval and the corrected test say together.

    The interval knows that trainings differ by chance but not how many models are looked at; the test the reverse. Only
    where both speak, and more than one training does, is it more than a hint.

    Args:
        gain: Over the baseline.
        test: Over test patients, with `p_holm`.
        trainings: That each of both has.
    """
    if gain is None or test is None:
        return None
    if not (gain.low > 0 or gain.high < 0):
        return "no evidence"
    up = gain.value > 0
    sure = trainings > 1 and test.p_holm is not None and test.p_holm < ALPHA and (test.rank_biserial > 0) == up
    if sure:
        return "gain" if up else "harm"
    return "hint of gain" if up else "hint of harm"


def block_gain(table: Table, block: Block, model: Model) -> float | None:
    """Return by how much a model is above its baseline in a combination, over the trainings that both have."""
    baseline = table.baseline(model)
    if baseline is None:
        return None
    shared = table.repetitions(block, (model.label, baseline.label))
    if not shared:
        return None
    own, other = (mean_score(table.values(block, label, shared)) for label in (model.label, baseline.label))
    return None if own is None or other is None else own - other


def mean_score(values: NDArray[np.float64]) -> float | None:
    """Return the mean Dice of `[repetitions, patients, classes]`; None where nothing is known."""
    found = mean_dice(values, np.ones((1, values.shape[0])), np.ones((1, values.shape[1])))[0]
    return None if np.isnan(found) else float(found)


def compare_dice(
    values: NDArray[np.float64],
    base: NDArray[np.float64] | None,
    repetitions: Sequence[Repetition],
    resamples: int,
) -> Interval | None:
    """Return how far mean Dice is above another one's, or above 0, with its interval; None where nothing is known.

    Args:
        values: `[repetitions, patients, classes]`.
        base: The same of what it is compared with; None leaves the mean itself.
        repetitions: Of both.
        resamples: Of the bootstrap.
    """
    if base is None:
        base = np.zeros_like(values)
    if mean_score(values) is None or mean_score(base) is None:
        return None
    return difference(values, base, draws=[one.draw for one in repetitions], resamples=resamples)


def own_scores(
    table: Table, block: Block, model: Model, repetitions: Sequence[Repetition], resamples: int
) -> dict[str, Any]:
    """Return what a model has by itself in some repetitions of a combination, by the names of `CellResult`."""
    values = table.values(block, model.label, repetitions)
    means = [mean for mean in (mean_score(one[None]) for one in values) if mean is not None]
    names = enumerate(table.classes[block])
    return {
        "dice": compare_dice(values, None, repetitions, resamples),
        "spread": float(np.std(means, ddof=1)) if len(means) > 1 else None,
        "classes": {name: mean_score(values[:, :, [place]]) for place, name in names},
    }


def patient_test(values: NDArray[np.float64], base: NDArray[np.float64]) -> PairedTest | None:
    """Return Wilcoxon's test over patients of two models' Dice, each `[repetitions, patients, classes]`."""
    return signed_rank(_patient_means(values) - _patient_means(base))


def _cell(study: Study, table: Table, block: Block, model: Model, resamples: int) -> CellResult:
    repetitions = table.repetitions(block, (model.label,))
    baseline = table.baseline(model)
    scored: dict[str, Any] = {"dice": None, "spread": None, "classes": dict.fromkeys(table.classes.get(block, ()))}
    if repetitions:
        scored = own_scores(table, block, model, repetitions, resamples)
    shared = table.repetitions(block, (model.label, baseline.label)) if baseline else []
    return CellResult(
        dataset=block.dataset,
        patients=block.patients,
        model=model.label,
        line=model.line,
        variant=model.variant,
        added_patients=model.added_patients,
        augmentation=model.augmentation,
        planned=_count(study, study.planned, block, model),
        finished=len(repetitions),
        failed=_count(study, study.failures, block, model),
        test_patients=len(table.patients.get(block, ())),
        **scored,
        baseline=baseline.label if baseline else None,
        trainings=len(shared),
        gain=_gain(table, block, model, baseline, resamples),
        over_copies=_gain(table, block, model, _copies(table, model), resamples),
    )


def _gain(table: Table, block: Block, model: Model, other: Model | None, resamples: int) -> Interval | None:
    shared = table.repetitions(block, (model.label, other.label)) if other else []
    if other is None or not shared:
        return None
    values, base = (table.values(block, one.label, shared) for one in (model, other))
    return compare_dice(values, base, shared, resamples)


def _copies(table: Table, model: Model) -> Model | None:
    if model.variant in ("real", "duplicated"):
        return None
    same = model.added_patients, model.augmentation
    copies = (one for one in table.models if one.variant == "duplicated")
    return next((one for one in copies if (one.added_patients, one.augmentation) == same), None)


def _test(table: Table, block: Block, model: Model) -> PairedTest | None:
    baseline = present(table.baseline(model), "a cell with a gain has a baseline")
    shared = table.repetitions(block, (model.label, baseline.label))
    return patient_test(*(table.values(block, label, shared) for label in (model.label, baseline.label)))


def _patient_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean Dice of each patient, `[patients]`, over repetitions first; NaN of one without any class."""
    return _known_mean(_known_mean(values, axis=0), axis=1)


def _known_mean(values: NDArray[np.float64], *, axis: int) -> NDArray[np.float64]:
    known = (~np.isnan(values)).sum(axis)
    return np.divide(np.nansum(values, axis), known, out=np.full(known.shape, np.nan), where=known > 0)


def _count(study: Study, hashes: Container[str], block: Block, model: Model) -> int:
    return sum(
        cell.combination.block == block and cell.model.label == model.label
        for digest, cell in study.planned.items()
        if digest in hashes
    )


def oracle_results(table: Table, block: Block, *, resamples: int = RESAMPLES) -> list[CellResult]:
    """Return what each larger combination of the same data set gains over a combination, real patients alone in both.

    Args:
        table: Scores of all combinations.
        block: The smaller combination.
        resamples: Of the bootstrap.
    """
    larger = [one for one in table.blocks if one.dataset == block.dataset and one.patients > block.patients]
    found = [
        _oracle(table, block, one, model, resamples)
        for model in table.models
        if model.variant == REAL
        for one in sorted(larger, key=lambda one: one.patients)
    ]
    return [cell for cell in found if cell is not None]


def with_shares(cells: Sequence[CellResult]) -> list[CellResult]:
    """Return cells of one combination with the share of what more real patients gained.

    Measured by the oracle of as many patients, or else of the nearest number, the smaller of two. A share of a gain
    that may be none says nothing: the oracle's interval must lie above 0.

    Args:
        cells: Its models, oracles among them.
    """
    oracles = [one for one in cells if one.variant == ORACLE]
    return [_with_share(cell, oracles) if cell.synthetic else cell for cell in cells]


def _with_share(cell: CellResult, oracles: Sequence[CellResult]) -> CellResult:
    own = [one for one in oracles if one.augmentation == cell.augmentation]
    if not own or cell.gain is None:
        return cell
    by = min(own, key=lambda one: (abs(one.added_patients - cell.added_patients), one.added_patients))
    share = cell.gain.value / by.gain.value if by.gain is not None and by.gain.low > 0 else None
    return cell.model_copy(update={"oracle": by.model, "oracle_share": share})


def _oracle(table: Table, block: Block, larger: Block, model: Model, resamples: int) -> CellResult | None:
    """Return a larger combination as a model of a smaller one; None where they cannot be compared yet."""
    same = all(
        known.get(block) is not None and known.get(block) == known.get(larger)
        for known in (table.patients, table.classes)
    )
    own, base = (set(table.repetitions(one, (model.label,))) for one in (larger, block))
    shared = sorted(own & base)
    if not same or not shared:
        return None
    values, before = (table.values(one, model.label, shared) for one in (larger, block))
    test = patient_test(values, before)
    if test is not None:
        # Not one of the models among which a gain is looked for, so nothing is to be corrected.
        test = test.model_copy(update={"p_holm": test.p})
    gain = compare_dice(values, before, shared, resamples)
    more = larger.patients - block.patients
    named = Model(name=ORACLE_LINE, variant=ORACLE, added_patients=more, augmentation=model.augmentation)
    return CellResult(
        dataset=block.dataset,
        patients=block.patients,
        model=named.label,
        line=named.line,
        variant=ORACLE,
        added_patients=more,
        augmentation=model.augmentation,
        planned=len(shared),
        finished=len(shared),
        failed=0,
        test_patients=len(table.patients[block]),
        **own_scores(table, larger, model, shared, resamples),
        baseline=model.label,
        trainings=len(shared),
        gain=gain,
        test=test,
        verdict=gain_verdict(gain, test, trainings=len(shared)),
    )
