"""All statistics of a study: the answer, cells, tests over combinations, ranks, cost, and what is missing."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from synthmed import __version__
from synthmed.errors import UserError, present
from synthmed.segmentation.comparison import FEW_PATIENTS
from synthmed.segmentation.score_table import RESAMPLES, Interval
from synthmed.study.statistics.cells import ALPHA, block_gain, block_results, mean_score, oracle_results, with_shares
from synthmed.study.statistics.findings import (
    CellResult,
    Findings,
    GainVerdict,
    PooledResult,
    RankedResult,
    TrialResult,
)
from synthmed.study.statistics.significance import (
    MixedSummary,
    Observation,
    corrected,
    mixed_summary,
    rank_models,
    signed_rank,
)
from synthmed.study.statistics.tables import ORACLE, REAL, Block, Study, Table, make_table, read_study

VERDICTS: tuple[GainVerdict, ...] = ("gain", "harm", "hint of gain", "hint of harm", "no evidence")
FEWEST_BLOCKS = 6
"""Of fewer combinations not even all of one sign give Wilcoxon's two-sided test a p below 0.05."""
PARTS = ("generator", "training", "scoring")


def analyse(folder: Path | str, *, mixed: bool = False, resamples: int = RESAMPLES) -> Findings:
    """Return all that the folder of a study says, finished or not.

    Args:
        folder: Of the study.
        mixed: Whether to fit the mixed model as well.
        resamples: Of each bootstrap.

    Raises:
        UserError: If it holds no study, or a package is missing.
    """
    study = read_study(folder)
    table = make_table(study)
    cells = []
    for block in study.blocks:
        own = block_results(study, table, block, resamples=resamples)
        cells += with_shares(own + oracle_results(table, block, resamples=resamples))
    pooled = pool(table)
    ranked, notes = rank(table)
    synthetic = {cell.model for cell in cells if cell.synthetic}
    results = headlines(cells), [one for one in pooled if one.model in synthetic]
    summary = None
    if mixed:
        summary, more = _mixed(table)
        notes += more
    return Findings(
        name=study.name,
        hash=study.hash,
        run_by=study.version,
        version=__version__,
        planned=len(study.planned),
        finished=len(study.trials),
        answer=answer(*results, finished=len(study.trials), planned=len(study.planned)),
        notes=[*_notes(study, cells, pooled), *notes],
        cells=cells,
        pooled=pooled,
        ranked=ranked,
        mixed=summary,
        hours=_hours(study),
        hours_left=_hours_left(study),
        trials=[_trial(study, table, digest) for digest in study.planned],
    )


class Headline(NamedTuple):
    """The result of one combination: its strongest verdict on synthetic patients, and the model that it is of.

    Attributes:
        block: The combination.
        verdict: The first of `VERDICTS` that any model has.
        cell: The model with this verdict that gained, or lost, most.
        harmed: Labels of all models that harmed.
        oracle: What the fewest more real patients did; None where that is not known.
    """

    block: Block
    verdict: GainVerdict
    cell: CellResult
    harmed: list[str]
    oracle: CellResult | None


def headlines(cells: Sequence[CellResult]) -> list[Headline]:
    """Return the result of each combination in which a synthetic model can be compared.

    The strongest verdict comes first, and of one verdict the largest gain or loss.
    """
    found = []
    for block in dict.fromkeys(Block(cell.dataset, cell.patients) for cell in cells):
        own = [cell for cell in cells if (cell.dataset, cell.patients) == block]
        compared = [cell for cell in own if cell.synthetic and cell.verdict is not None]
        if not compared:
            continue
        verdict = next(one for one in VERDICTS if any(cell.verdict == one for cell in compared))
        furthest = min if verdict.endswith("harm") else max
        best = furthest((cell for cell in compared if cell.verdict == verdict), key=_gain_of)
        harmed = [cell.model for cell in compared if cell.verdict == "harm"]
        oracles = [cell for cell in own if cell.variant == ORACLE and cell.gain]
        oracle = min(oracles, key=lambda cell: cell.added_patients, default=None)
        found.append(Headline(block, verdict, best, harmed, oracle))
    return sorted(found, key=lambda one: (VERDICTS.index(one.verdict), -abs(_gain_of(one.cell))))


def answer(results: Sequence[Headline], pooled: Sequence[PooledResult], *, finished: int, planned: int) -> str:
    """Return whether and where synthetic patients helped, a sentence a finding; the headlines are the table of it.

    Args:
        results: Of all combinations.
        pooled: All models over combinations.
        finished: Trials that are there.
        planned: Trials of the study.
    """
    sentences = [f"So far {finished} of {planned} trials are finished: this may change."] if finished < planned else []
    if not results:
        wanted = "a model with synthetic patients and one of real patients alone that share a draw and a seed"
        return " ".join([*sentences, f"No result yet: it takes {wanted}."])
    counts = Counter(one.verdict for one in results)
    verdicts = ", ".join(f"{verdict} in {counts[verdict]}" for verdict in VERDICTS if counts[verdict])
    several = "s" if len(results) > 1 else ""
    sentences.append(f"Synthetic patients in {len(results)} combination{several} of data set and patients: {verdicts}.")
    proven = [verdict for verdict in VERDICTS[:2] if counts[verdict]]
    for verdict in proven or [one.verdict for one in results[:1] if one.verdict != "no evidence"]:
        largest = next(one for one in results if one.verdict == verdict)
        gain = present(largest.cell.gain, "a cell with a verdict has a gain")
        change = f"{number(100 * gain.value)} Dice points [{span(gain)}]"
        proof = "" if proven else " It is no proof."
        sentences.append(f"Largest {verdict}: {largest.cell.model} on {largest.block.label}, {change}.{proof}")
    harmed = sum(bool(one.harmed) and one.verdict != "harm" for one in results)
    if harmed:
        sentences.append(f"In {harmed} of these, other models harmed.")
    if len(results) > 1:
        sentences.append(_over_combinations(pooled))
    return " ".join(sentences)


def number(value: float, digits: int = 1) -> str:
    """Return a number of points without a minus before a zero."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def span(interval: Interval) -> str:
    """Return the ends of an interval of Dice in points."""
    return f"{number(100 * interval.low)} to {number(100 * interval.high)}"


def _gain_of(cell: CellResult) -> float:
    return present(cell.gain, "a cell with a verdict has a gain").value


def _over_combinations(pooled: Sequence[PooledResult]) -> str:
    count = max((one.test.pairs for one in pooled), default=0)
    if count < FEWEST_BLOCKS:
        return f"{count} combinations are too few for a test over them."
    sure = [one for one in pooled if one.test.p_holm is not None and one.test.p_holm < ALPHA]
    if not sure:
        return f"Over all {count} combinations no model differs from real patients alone (Wilcoxon, Holm)."
    sure.sort(key=lambda one: (-abs(one.test.mean), one.model))
    most, test = sure[0].model, sure[0].test
    change = f"{'gained' if test.mean > 0 else 'lost'} {number(100 * abs(test.mean))} points on average"
    more = f"; {len(sure) - 1} more differ" if len(sure) > 1 else ""
    return f"Over combinations (Wilcoxon, Holm) {most} {change}{more}."


def pool(table: Table) -> list[PooledResult]:
    """Return each model's gains over combinations, tested against 0."""
    found = []
    for model in table.models:
        baseline = table.baseline(model)
        gains = {block: block_gain(table, block, model) for block in table.blocks}
        known = np.array([gain for gain in gains.values() if gain is not None])
        test = signed_rank(known)
        if baseline is not None and test is not None:
            missing = [
                block.label for block, gain in gains.items() if gain is None and model.label in table.planned[block]
            ]
            found.append(PooledResult(model=model.label, baseline=baseline.label, test=test, missing=missing))
    tests = corrected([one.test for one in found])
    return [one.model_copy(update={"test": test}) for one, test in zip(found, tests, strict=True)]


def rank(table: Table) -> tuple[RankedResult | None, list[str]]:
    """Return the ranks over complete combinations, and why there are none.

    A combination is complete where all models share a training (draw and seed); it is ranked by the means over those
    that they share. Where hardly any is complete, models that miss most are left out.
    """
    labels = [
        model.label for model in table.models if any((block, model.label) in table.dice for block in table.blocks)
    ]
    real = {model.label for model in table.models if model.variant == REAL}
    while len(labels) > 3 and len(_complete(table, labels)) < min(2, len(table.compared)):
        # The last of those that are in the fewest combinations; real patients alone stay, they are the question.
        found = {
            label: sum((block, label) in table.dice for block in table.blocks) for label in labels if label not in real
        }
        if not found:
            break
        least = min(found.values())
        labels.remove([label for label in found if found[label] == least][-1])
    blocks = _complete(table, labels)
    if len(blocks) < 2 or len(labels) < 3:
        return None, [
            "Friedman's and Nemenyi's tests need two combinations of data set and number of patients in which the same "
            f"three models are finished; there are {len(blocks)}."
        ]
    scores = np.array([[_ranked_score(table, block, label, labels) for label in labels] for block in blocks])
    return RankedResult(
        ranking=rank_models(scores, labels),
        blocks=[block.label for block in blocks],
        missing_blocks=[block.label for block in table.compared if block not in blocks],
        missing_models=[model.label for model in table.models if model.label not in labels],
    ), []


def _complete(table: Table, labels: list[str]) -> list[Block]:
    return [
        block
        for block in table.compared
        if table.repetitions(block, labels)
        and all(_ranked_score(table, block, label, labels) is not None for label in labels)
    ]


def _ranked_score(table: Table, block: Block, label: str, labels: list[str]) -> float | None:
    return mean_score(table.values(block, label, table.repetitions(block, labels)))


def _mixed(table: Table) -> tuple[MixedSummary | None, list[str]]:
    baseline = next((model.label for model in table.models if model.variant == REAL), None)
    rows = []
    for block, label in table.dice:
        score = mean_score(table.values(block, label, table.repetitions(block, (label,))))
        if score is not None:
            rows.append(Observation(block.dataset, block.label, label, score))
    if baseline is None:
        return None, ["The mixed model needs a model of real patients alone."]
    try:
        return mixed_summary(rows, baseline), []
    except UserError as error:
        return None, [f"No mixed model: {error}."]


def _notes(study: Study, cells: list[CellResult], pooled: list[PooledResult]) -> list[str]:
    notes = []
    compared = [cell for cell in cells if cell.gain is not None]
    if any(cell.trainings == 1 for cell in compared):
        notes.append(
            "Where a model was trained once, its interval is over test patients alone: another seed may differ, so "
            "the strongest verdict is a hint."
        )
    if compared and len({cell.combination.draw for cell in study.planned.values()}) == 1:
        notes.append("One draw of training patients: the results hold for these patients, others may differ.")
    notes += _notes_on_others(study)
    few = sorted({cell.dataset for cell in compared if cell.test_patients < FEW_PATIENTS})
    if few:
        notes.append(f"Fewer than {FEW_PATIENTS} test patients ({', '.join(few)}): intervals are too narrow.")
    if any(cell.trainings < cell.planned for cell in compared if cell.variant != ORACLE):
        notes.append("Where trainings are missing, a model and real patients alone are compared on those of both.")
    alone = sorted({cell.model for cell in cells if cell.variant != REAL and cell.baseline is None})
    if alone:
        notes.append(f"No real patients alone of the same augmentation to compare with: {', '.join(alone)}.")
    if pooled and max(one.test.pairs for one in pooled) < FEWEST_BLOCKS:
        notes.append(
            f"Wilcoxon's test over combinations cannot come below 0.05 with fewer than {FEWEST_BLOCKS} of them."
        )
    if len(study.blocks) > len({block.dataset for block in study.blocks}):
        notes.append(
            "Combinations of one data set share test patients and some training patients: tests over combinations take "
            "them as independent, as the paper does, and so find differences too easily."
        )
    return notes


def _notes_on_others(study: Study) -> list[str]:
    """Return what limits the results of generators that learnt from other patients."""
    learnt: dict[tuple[str, int], list[str]] = {}
    for cell in study.planned.values():
        lines = learnt.setdefault((cell.combination.dataset, cell.model.other_patients), [])
        if cell.model.line not in lines:
            lines.append(cell.model.line)
    return [
        f"{dataset}: the generator of {'; '.join(lines)} learnt from {patients} other patients with their label maps, "
        "whom the U-Nets lack: a gain is that of a generator from elsewhere."
        for (dataset, patients), lines in learnt.items()
        if patients
    ]


def _trial(study: Study, table: Table, digest: str) -> TrialResult:
    cell, trial = study.planned[digest], study.trials.get(digest)
    block, label = cell.combination.block, cell.model.label
    status: Literal["finished", "failed", "missing"] = "failed" if digest in study.failures else "missing"
    return TrialResult(
        hash=digest,
        dataset=block.dataset,
        patients=block.patients,
        draw=cell.combination.draw,
        model=label,
        seed=cell.seed,
        status="finished" if trial else status,
        dice=mean_score(table.values(block, label, [cell.repetition])) if trial else None,
        hours=trial.hours if trial else {},
        cause=study.failures.get(digest, ""),
    )


def _hours(study: Study) -> dict[str, dict[str, float]]:
    """Return hours by data set and part; a generator counts once, with the longest time that a trial tells."""
    found = {block.dataset: dict.fromkeys(PARTS, 0.0) for block in study.blocks}
    generators: dict[tuple[str, str], float] = {}
    for digest, trial in study.trials.items():
        dataset = trial.combination.dataset
        for part in PARTS[1:]:
            found[dataset][part] += trial.hours.get(part, 0.0)
        key = dataset, study.generators.get(digest, digest)
        generators[key] = max(generators.get(key, 0.0), trial.hours.get("generator", 0.0))
    for (dataset, _), hours in generators.items():
        found[dataset]["generator"] += hours
    return found


def _hours_left(study: Study) -> float | None:
    if not study.trials:
        return None
    each = [sum(trial.hours.get(part, 0.0) for part in PARTS[1:]) for trial in study.trials.values()]
    return float(np.mean(each)) * (len(study.planned) - len(study.trials))
