"""The answer of a study in a paragraph, no more than its numbers carry."""

from collections.abc import Iterable, Sequence

from synthmed.errors import present
from synthmed.segmentation.bootstrap import Interval
from synthmed.study.statistics.cells import ALPHA
from synthmed.study.statistics.findings import CellResult, PooledResult
from synthmed.study.statistics.tables import ORACLE, Block

MOST_SENTENCES = 4
"""Of combinations told one by one."""
FEWEST_BLOCKS = 6
"""Of fewer combinations not even all of one sign give Wilcoxon's two-sided test a p below 0.05."""
_HINTS = ("hint of gain", "hint of harm")


def answer(cells: Sequence[CellResult], pooled: Sequence[PooledResult], *, finished: int, planned: int) -> str:
    """Return whether, where and how much synthetic patients helped.

    Args:
        cells: All models in all combinations.
        pooled: All models over combinations.
        finished: Trials that are there.
        planned: Trials of the study.
    """
    said = [f"So far {finished} of {planned} trials are finished: this may change."] if finished < planned else []
    blocks: dict[Block, list[CellResult]] = {}
    for cell in cells:
        if cell.synthetic and cell.verdict is not None:
            blocks.setdefault(Block(cell.dataset, cell.patients), []).append(cell)
    if not blocks:
        wanted = "a model with synthetic patients and one of real patients alone that share a draw and a seed"
        return " ".join([*said, f"Nothing can be said yet: that takes {wanted}."])
    if len(blocks) > 1:
        said.append(_overview(blocks.values()))
    order = sorted(blocks, key=lambda block: _weight(blocks[block]))
    said += [_sentence(block, blocks[block]) + _oracle(block, cells) for block in order[:MOST_SENTENCES]]
    if len(order) > MOST_SENTENCES:
        said.append(f"The other {len(order) - MOST_SENTENCES} combinations are in the table.")
    if len(blocks) > 1:
        said.append(_over_all(pooled, {cell.model for one in blocks.values() for cell in one}))
    return " ".join(said)


def number(value: float, digits: int = 1) -> str:
    """Return a number of points without a minus before a zero."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def span(interval: Interval) -> str:
    """Return the ends of an interval of Dice in points."""
    return f"{number(100 * interval.low)} to {number(100 * interval.high)}"


def _overview(blocks: Iterable[list[CellResult]]) -> str:
    found = [{cell.verdict for cell in cells} for cells in blocks]
    gains, harms = (sum(word in one for one in found) for word in ("gain", "harm"))
    neither = sum(not one & {"gain", "harm"} for one in found)
    if neither == len(found):
        return (
            f"In none of {neither} combinations of a data set and a number of real patients is there evidence that "
            "synthetic patients gained or harmed."
        )
    return (
        f"Some amount of synthetic patients gained in {gains} and some harmed in {harms} of {len(found)} combinations "
        "of a data set and a number of real patients"
        + (f"; in {neither} there is evidence of neither." if neither else ".")
    )


def _weight(cells: Sequence[CellResult]) -> int:
    found = {cell.verdict for cell in cells}
    return next(
        (place for place, word in enumerate(("gain", "harm", "hint of gain", "hint of harm")) if word in found), 4
    )


def _sentence(block: Block, cells: Sequence[CellResult]) -> str:
    best, worst = max(cells, key=_value), min(cells, key=_value)
    start = f"On {block.dataset}, "
    real = f"{block.patients} real " + ("ones" if block.patients != 1 else "one")
    weight = _weight(cells)
    if weight == 0:
        best = max((cell for cell in cells if cell.verdict == "gain"), key=_value)
        return start + f"adding {_amount(best)} to {real} gained {_points(best)}{_copies(best)}{_harms(best, cells)}."
    real = f"with {block.patients} real patient" + ("s" if block.patients != 1 else "")
    if weight == 1:
        worst = min((cell for cell in cells if cell.verdict == "harm"), key=_value)
        count = sum(cell.verdict == "harm" for cell in cells)
        share = "every model" if count == len(cells) else f"{count} of {len(cells)} models"
        return (
            f"{start}{real}, synthetic patients harmed in {share}, most with {_amount(worst)}, which lost "
            f"{_points(worst, lost=True)}; none gained."
        )
    if weight in (2, 3):
        lost = weight == 3
        one = (min if lost else max)((cell for cell in cells if cell.verdict == _HINTS[lost]), key=_value)
        return (
            f"{start}{real}, there is a hint but no proof that adding {_amount(one)} "
            f"{'lost' if lost else 'gained'} {_points(one, lost=lost)}: {_doubt(one, len(cells))}."
        )
    return (
        f"{start}{real}, there is no evidence that synthetic patients changed anything: best was adding "
        f"{_amount(best)}, at {number(100 * _value(best))} Dice points ({_range(best)})."
    )


def _oracle(block: Block, cells: Sequence[CellResult]) -> str:
    """Return what more real patients gained, beside which a gain or its absence is to be read."""
    own = [one for one in cells if (one.dataset, one.patients, one.variant) == (*block, ORACLE) and one.gain]
    if not own:
        return ""
    least = min(own, key=lambda one: one.added_patients)
    one = f"Beside that, {least.added_patients:g} more real patient" + ("s" if least.added_patients != 1 else "")
    lost = _value(least) < 0
    return f" {one} {'lost' if lost else 'gained'} {_points(least, lost=lost)}."


def _value(cell: CellResult) -> float:
    return cell.gain.value if cell.gain else float("nan")


def _amount(cell: CellResult) -> str:
    return f"{cell.added_patients:g} synthetic patient{'s' if cell.added_patients != 1 else ''} ({cell.line})"


def _range(cell: CellResult, *, lost: bool = False) -> str:
    gain = present(cell.gain, "only cells with a verdict are described")
    if lost:
        gain = Interval(value=-gain.value, low=-gain.high, high=-gain.low, error=gain.error)
    return span(gain)


def _points(cell: CellResult, *, lost: bool = False) -> str:
    value = -_value(cell) if lost else _value(cell)
    return f"{number(100 * value)} Dice points, {_range(cell, lost=lost)}"


def _copies(cell: CellResult) -> str:
    if cell.over_copies is None:
        return ""
    more = number(100 * cell.over_copies.value)
    if cell.over_copies.low > 0:
        return f" ({more} more than copies of real slices did, {span(cell.over_copies)})"
    return f" (but no more than copies of real slices did: the difference is {more}, {span(cell.over_copies)})"


def _harms(best: CellResult, cells: Sequence[CellResult]) -> str:
    """Return which amounts harmed, of the line of the best model and of others."""
    said: dict[str, list[str]] = {}
    for line in dict.fromkeys([best.line, *(cell.line for cell in cells)]):
        own = [cell for cell in cells if cell.line == line]
        harmed = sorted(cell.added_patients for cell in own if cell.verdict == "harm")
        spared = [cell.added_patients for cell in own if cell.verdict != "harm"]
        if not harmed:
            continue
        if not spared:
            where = "at every amount"
        elif min(harmed) > max(spared):
            where = f"beyond {max(spared):g}"
        else:
            where = f"at {_listed([f'{amount:g}' for amount in harmed])}"
        said.setdefault(where, []).append("it" if line == best.line else line)
    return "".join(f"; {where} {_listed(names)} harmed" for where, names in said.items())


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _doubt(cell: CellResult, models: int) -> str:
    if cell.trainings < 2:
        return "one training of each is no proof"
    p = cell.test.p_holm if cell.test else None
    chance = f" (p = {p:.2f})" if p is not None else ""
    return f"it does not stand Holm's correction for {models} models{chance}"


def _over_all(pooled: Sequence[PooledResult], models: set[str]) -> str:
    own = [one for one in pooled if one.model in models]
    if not own:
        return "No model can be compared over combinations yet."
    count = max(one.test.pairs for one in own)
    if count < FEWEST_BLOCKS:
        return f"{count} combinations are too few for a test over them."
    sure = [one for one in own if one.test.p_holm is not None and one.test.p_holm < ALPHA]
    if not sure:
        return f"Over all {count} combinations no model differs from real patients alone (Wilcoxon, Holm)."
    told = [
        f"{one.model} {'gained' if one.test.mean > 0 else 'lost'} {number(100 * abs(one.test.mean))} points on average"
        for one in sorted(sure, key=lambda one: (-abs(one.test.mean), one.model))[:3]
    ]
    more = f", and {len(sure) - 3} more differ" if len(sure) > 3 else ""
    return f"Over combinations (Wilcoxon, Holm), {', '.join(told)}{more}."
