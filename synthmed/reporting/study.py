"""The report of a study: a page, and every number of it as JSON and CSV."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from synthmed.files import atomic_file, write_json
from synthmed.reporting.figures import amounts, gains_figure, lines, ranks_figure, scores_figure
from synthmed.reporting.page import figure_uri, write_page
from synthmed.segmentation.score_table import RESAMPLES, Interval
from synthmed.study.statistics.analyse import PARTS, analyse, headlines, number, span
from synthmed.study.statistics.cells import ORACLE_LINE
from synthmed.study.statistics.findings import CellResult, Findings
from synthmed.study.statistics.significance import PairedTest
from synthmed.study.statistics.tables import ORACLE, Block

PAGE, NUMBERS = "report.html", "statistics.json"
MOST_FAILED = 20
"""Failed trials that the page lists; all are in `trials.csv`."""


def write_study_report(
    folder: Path | str, out: Path | str | None = None, *, mixed: bool = False, resamples: int = RESAMPLES
) -> Path:
    """Write `report.html`, `statistics.json` and tables as CSV, and return the page; a study may still run.

    The same trials give the same bytes.

    Args:
        folder: Of the study.
        out: Folder to write to; `report` in the study's by default.
        mixed: Whether to fit the mixed model over data sets as well, which needs statsmodels.
        resamples: Of each bootstrap.

    Raises:
        UserError: If `folder` is no study, or a package is missing.
    """
    found = analyse(folder, mixed=mixed, resamples=resamples)
    out = Path(out) if out is not None else Path(folder) / "report"
    write_json(out / NUMBERS, found.model_dump(mode="json"))
    for name, rows in tables(found).items():
        _write_csv(out / f"{name}.csv", rows)
    write_page(out / PAGE, "study.html", **_page(found))
    return out / PAGE


def tables(found: Findings) -> dict[str, list[dict[str, Any]]]:
    """Return every number of a study as tables by name, a mapping a row."""
    made = {
        "cells": [_flat(cell.model_dump()) for cell in found.cells],
        "trials": [_flat(trial.model_dump()) for trial in found.trials],
        "over_combinations": [_flat({**one.model_dump(), "missing": "; ".join(one.missing)}) for one in found.pooled],
        "hours": [{"dataset": dataset, **hours} for dataset, hours in found.hours.items()],
        "ranks": [],
        "nemenyi": [],
        "mixed": [],
    }
    if found.ranked:
        ranking = found.ranked.ranking
        made["ranks"] = [
            {"model": model, "rank": rank} for model, rank in zip(ranking.models, ranking.ranks, strict=True)
        ]
        made["nemenyi"] = [
            {"model": model, **dict(zip(ranking.models, row, strict=True))}
            for model, row in zip(ranking.models, ranking.nemenyi, strict=True)
        ]
    if found.mixed:
        made["mixed"] = [effect.model_dump() for effect in found.mixed.effects]
    return made


def _flat(value: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Return nested mappings as one, with names joined by underscores."""
    flat: dict[str, Any] = {}
    for name, one in value.items():
        if isinstance(one, Mapping):
            flat |= _flat(one, f"{before}{name}_")
        else:
            flat[before + name] = one
    return flat


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        # An earlier report of this study may have left one.
        path.unlink(missing_ok=True)
        return
    names = list(dict.fromkeys(name for row in rows for name in row))
    with atomic_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _page(found: Findings) -> dict[str, Any]:
    blocks: dict[Block, list[CellResult]] = {}
    for cell in found.cells:
        blocks.setdefault(Block(cell.dataset, cell.patients), []).append(cell)
    order, places = lines(found.cells), amounts(found.cells)
    hours = {part: sum(one[part] for one in found.hours.values()) for part in PARTS}
    return {
        "title": f"Do synthetic patients help? {found.name}",
        "found": found,
        "headlines": [
            {
                "name": one.block.label,
                "verdict": one.verdict,
                "model": one.cell.model,
                **_change("gain", one.cell.gain),
                **_change("copies", one.cell.over_copies),
                "harmed": ", ".join(one.harmed) or "-",
                **_change("oracle", one.oracle.gain if one.oracle else None),
                "more": f"+{one.oracle.added_patients:g}" if one.oracle else "",
            }
            for one in headlines(found.cells)
        ],
        "blocks": [_block(block, cells, order, places) for block, cells in blocks.items()],
        "shares": any(cell.oracle_share is not None for cell in found.cells),
        "oracles": any(cell.variant == ORACLE for cell in found.cells),
        "ranked": found.ranked,
        "diagram": figure_uri(ranks_figure(found.ranked.ranking)) if found.ranked else None,
        "by_rank": _by_rank(found),
        "friedman": _friedman(found),
        "no_ranks": next((note for note in found.notes if note.startswith("Friedman")), ""),
        "pooled": [
            {
                "model": one.model,
                "pairs": one.test.pairs,
                "gain": _signed(one.test.mean),
                "median": _signed(one.test.median),
                **_tested(one.test),
                "missing": "; ".join(one.missing),
            }
            for one in found.pooled
        ],
        "effects": _effects(found),
        "hours": [(dataset, *(one[part] for part in PARTS), sum(one.values())) for dataset, one in found.hours.items()],
        "all_hours": [*hours.values(), sum(hours.values())],
        "failed": found.failed[:MOST_FAILED],
        "more_failed": max(0, len(found.failed) - MOST_FAILED),
        "missing": sum(trial.status == "missing" for trial in found.trials),
    }


def _block(block: Block, cells: Sequence[CellResult], order: Sequence[str], places: Sequence[float]) -> dict[str, Any]:
    figures = []
    own = lines([cell for cell in cells if cell.dice])
    if own:
        scored = scores_figure(cells, order=order, places=places)
        figures.append((figure_uri(scored), f"{block.label}: Dice against added patients for {', '.join(own)}"))
    if any(cell.gain for cell in cells):
        gained = gains_figure(cells, order=order, places=places)
        figures.append((figure_uri(gained), f"{block.label}: gain over real patients alone"))
    return {
        "name": block.label,
        "figures": figures,
        "adds": any(cell.variant not in ("real", ORACLE) for cell in cells),
        "rows": [_row(cell) for cell in cells],
        "test_patients": max(cell.test_patients for cell in cells),
        # An oracle's trainings are those of another combination.
        "finished": sum(cell.finished for cell in cells if cell.variant != ORACLE),
        "planned": sum(cell.planned for cell in cells if cell.variant != ORACLE),
    }


def _row(cell: CellResult) -> dict[str, Any]:
    dice = cell.dice
    return {
        "model": cell.model,
        "trainings": f"{cell.finished} of {cell.planned}" + (f", {cell.failed} failed" if cell.failed else ""),
        "dice": f"{dice.value:.4f} ± {dice.error:.4f}" if dice else "-",
        "interval": f"{dice.low:.3f} to {dice.high:.3f}" if dice else "",
        **_change("gain", cell.gain),
        "share": "-" if cell.oracle_share is None else f"{cell.oracle_share:.0%}",
        "share_of": "" if cell.oracle_share is None else str(cell.oracle).removeprefix(ORACLE_LINE).strip(),
        **_tested(cell.test),
        "verdict": cell.verdict or ("baseline" if cell.variant == "real" else "-"),
        "key": f"{cell.dataset}/{cell.patients}/{cell.model}",
    }


def _change(name: str, change: Interval | None) -> dict[str, str]:
    """Return a change of Dice in points and its interval, as `name` and `name_interval`."""
    return {name: _signed(change.value) if change else "-", f"{name}_interval": span(change) if change else ""}


def _tested(test: PairedTest | None) -> dict[str, str]:
    if test is None:
        return dict.fromkeys(("p", "holm", "biserial", "hedges"), "-")
    return {
        "p": _p(test.p),
        "holm": "-" if test.p_holm is None else _p(test.p_holm),
        "biserial": number(test.rank_biserial, 2),
        "hedges": "-" if test.gz is None else number(test.gz, 2),
    }


def _by_rank(found: Findings) -> list[tuple[str, str]]:
    if not found.ranked:
        return []
    ranking = found.ranked.ranking
    order = sorted(zip(ranking.ranks, ranking.models, strict=True), key=lambda one: one[0])
    return [(model, f"{rank:.2f}") for rank, model in order]


def _friedman(found: Findings) -> str:
    if not found.ranked:
        return ""
    one = found.ranked.ranking
    iman = "" if one.f is None else f"; Iman and Davenport: F({one.f_freedom[0]}, {one.f_freedom[1]}) = {one.f:.2f}, "
    iman += "" if one.f is None else f"p {_equal(one.f_p)}"
    differ = "The models differ" if one.f_p < one.alpha else "There is no evidence that the models differ"
    return (
        f"{differ}: Friedman's chi-squared({one.freedom}) = {one.chi2:.2f}, p {_equal(one.p)}{iman}, over {one.blocks} "
        f"combinations of {len(one.models)} models. Two mean ranks differ at {one.alpha:g} where they are "
        f"{one.critical_difference:.2f} apart (Nemenyi)."
    )


def _effects(found: Findings) -> list[dict[str, str]]:
    if not found.mixed:
        return []
    return [
        {
            "model": one.model,
            "value": _signed(one.value),
            "interval": span(Interval(value=one.value, low=one.low, high=one.high, error=one.error)),
            "p": _p(one.p),
        }
        for one in found.mixed.effects
    ]


def _signed(value: float) -> str:
    text = number(100 * value)
    return text if text.startswith("-") or float(text) == 0 else f"+{text}"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _equal(value: float) -> str:
    return _p(value) if value < 0.001 else f"= {_p(value)}"
