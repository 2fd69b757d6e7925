"""Figures of a study: scores and gains against added patients, and the critical-difference diagram."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from synthmed.errors import UserError
from synthmed.extras import install_hint
from synthmed.study.statistics.findings import CellResult
from synthmed.study.statistics.ranks import Ranking

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart with the common forms of colour blindness; dash and marker differ as well.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES = ("-", "--", "-.", ":")
_SIZE = (5.2, 3.6)


def amounts(cells: Sequence[CellResult]) -> list[float]:
    """Return how many patients the models of a study add, sorted, 0 among them."""
    return sorted({0.0} | {cell.added_patients for cell in cells})


def lines(cells: Sequence[CellResult]) -> list[str]:
    """Return the lines of a study that add something, in order."""
    return list(dict.fromkeys(cell.line for cell in cells if cell.variant != "real"))


def scores_figure(cells: Sequence[CellResult], *, order: Sequence[str], places: Sequence[float]) -> "Figure":
    """Draw mean Dice and standard error against added patients, one line for each line of models.

    Args:
        cells: Of one combination.
        order: All lines of the study, by which colours are given.
        places: All amounts of the study; they stand at equal distances.
    """
    figure, axes = _axes(places)
    for number, name in enumerate(order):
        own = [cell for cell in cells if cell.line == name and cell.dice is not None]
        # A line starts at what real patients alone reach.
        start = [cell for cell in cells if own and cell.model == own[0].baseline and cell.dice is not None]
        points = [
            (cell.added_patients, cell.dice.value, cell.dice.error, cell.dice.error)
            for cell in sorted([*start, *own], key=lambda cell: cell.added_patients)
            if cell.dice is not None
        ]
        _draw(axes, points, places, number, len(order), name)
    for cell in cells:
        if cell.variant == "real" and cell.dice is not None:
            axes.axhline(cell.dice.value, color="#777777", lw=1, ls=":" if cell.augmentation else (0, (1, 4)), zorder=1)
    axes.set_ylabel("Dice")
    _legend(figure, axes)
    return figure


def gains_figure(cells: Sequence[CellResult], *, order: Sequence[str], places: Sequence[float]) -> "Figure":
    """Draw gains over real patients alone with their intervals, in Dice points, as `scores_figure` does scores."""
    figure, axes = _axes(places)
    axes.axhline(0, color="#777777", lw=1, zorder=1)
    for number, name in enumerate(order):
        points = [
            (
                cell.added_patients,
                100 * cell.gain.value,
                100 * (cell.gain.value - cell.gain.low),
                100 * (cell.gain.high - cell.gain.value),
            )
            for cell in sorted(cells, key=lambda cell: cell.added_patients)
            if cell.line == name and cell.gain is not None
        ]
        _draw(axes, points, places, number, len(order), name)
    axes.set_ylabel("gain in Dice points")
    _legend(figure, axes)
    return figure


def ranks_figure(ranking: Ranking) -> "Figure":
    """Draw the critical-difference diagram of Demsar 2006: bars join models that Nemenyi's test cannot tell apart.

    Raises:
        UserError: If scikit-posthocs is not installed.
    """
    try:
        import pandas
        from scikit_posthocs import critical_difference_diagram
    except ImportError:
        raise UserError(f"the diagram of ranks needs a package: {install_hint('scikit_posthocs')}") from None
    from matplotlib.figure import Figure

    count = len(ranking.models)
    figure = Figure(figsize=(9.0, 1.4 + 0.26 * count), layout="constrained")
    axes = figure.subplots()
    # Numbers for names: sets of text have another order in each process, and the figure must repeat.
    numbers = list(range(count))
    drawn: dict[str, Any] = critical_difference_diagram(
        pandas.Series(ranking.ranks, index=numbers),
        pandas.DataFrame(ranking.nemenyi, index=numbers, columns=numbers),
        alpha=ranking.alpha,
        ax=axes,
        label_fmt_left="{label} {rank:.2f}",
        label_fmt_right="{label} {rank:.2f}",
        label_props={"fontsize": "medium"},
        marker_props={"color": "#0072b2", "s": 18},
        elbow_props={"linewidth": 0.9, "color": "#333333"},
        crossbar_props={"color": "#d55e00", "linewidth": 3},
        text_h_margin=0.04 * (max(ranking.ranks) - min(ranking.ranks) or 1.0),
    )
    _scale(axes, ranking)
    for text in drawn["labels"]:
        number, rank = text.get_text().split()
        name = ranking.models[int(number)]
        text.set_text(f"{name}  {rank}" if text.get_ha() == "right" else f"{rank}  {name}")
    for lines_of_bar in drawn["crossbars"]:
        for line in lines_of_bar:
            line.set_xdata(sorted(line.get_xdata()))
    return figure


def _scale(axes: Any, ranking: Ranking) -> None:
    """Draw the critical difference above the axis, in a colour that no bar below has."""
    start, height = min(ranking.ranks), 0.05 * (1.0 - axes.get_ylim()[0]) + 1.0
    end = start + ranking.critical_difference
    axes.errorbar([(start + end) / 2], [height], xerr=[(end - start) / 2], color="black", capsize=4, lw=1.5)
    axes.text((start + end) / 2, height + 0.25, f"CD = {end - start:.2f}", ha="center", va="bottom")


def _axes(places: Sequence[float]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.set_xticks(range(len(places)), [f"{place:g}" for place in places])
    axes.set_xlim(-0.4, len(places) - 0.6)
    axes.set_xlabel("added patients")
    return figure, axes


def _draw(
    axes: Any, points: Sequence[tuple[float, ...]], places: Sequence[float], number: int, count: int, name: str
) -> None:
    if not points:
        return
    added, values, below, above = np.array(points).T
    # Side by side, so that error bars of several lines can be told apart.
    aside = (number - (count - 1) / 2) * min(0.08, 0.5 / count)
    used, colour = divmod(number, len(_COLOURS))
    axes.errorbar(
        [list(places).index(place) + aside for place in added],
        values,
        yerr=np.maximum([below, above], 0.0),
        color=_COLOURS[colour],
        # A colour that comes again has another marker, and hollow ones.
        marker=_MARKERS[(number + used) % len(_MARKERS)],
        markerfacecolor=_COLOURS[colour] if used % 2 == 0 else "white",
        ls=_DASHES[number % len(_DASHES)],
        markersize=5,
        lw=1.6,
        elinewidth=1.1,
        capsize=2.5,
        label=name,
    )


def _legend(figure: "Figure", axes: Any) -> None:
    handles, names = axes.get_legend_handles_labels()
    if names:
        columns = 3 if max(map(len, names)) < 16 else 2
        figure.legend(handles, names, loc="outside upper center", ncols=columns, frameon=False, fontsize="small")
