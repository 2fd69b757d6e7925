"""What more real patients would have gained: the measure of what synthetic ones can.

Smaller draws of training patients lie within larger ones, so real patients alone in a larger combination are the oracle
of a smaller one: the same patients and that many more, tested on the same test patients with the same seeds.
"""

from collections.abc import Sequence

from synthmed.segmentation.bootstrap import RESAMPLES
from synthmed.study.statistics.cells import compare_dice, own_scores, patient_test, verdict
from synthmed.study.statistics.findings import CellResult
from synthmed.study.statistics.tables import ORACLE, REAL, Block, Model, Table

LINE = "more real patients"


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
    named = Model(name=LINE, variant=ORACLE, added_patients=more, augmentation=model.augmentation)
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
        verdict=verdict(gain, test, trainings=len(shared)),
    )
