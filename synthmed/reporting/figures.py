"""Figures of the reports: scores, kinds of slices, places of classes, gains of a study, ranks of models."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from synthmed.errors import UserError
from synthmed.extras import install_hint

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from synthmed.study.statistics.findings import CellResult
    from synthmed.study.statistics.significance import Ranking

# Okabe and Ito's colours, told apart with the common forms of colour blindness; dash and marker differ as well.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES = ("-", "--", "-.", ":")
KINDS = {"held_out": "held-out real", "training": "training (real)", "synthetic": "synthetic"}
_KIND_COLOURS = {"held_out": COLOURS[0], "training": COLOURS[2], "synthetic": COLOURS[1]}
_KIND_MARKERS = {"held_out": "o", "training": "^", "synthetic": "x"}
_KIND_STYLES = {"held_out": "-", "training": ":", "synthetic": "--"}
MOST_POINTS = 200


def score_figure(arms: Mapping[str, Sequence[Mapping[str, float]]], *, quantity: str) -> "Figure":
    """Draw each patient's score as a dot and each arm's mean as a line, a column a class.

    Args:
        arms: For each arm, one mapping a patient from class name to score; NaN where a score is not defined.
        quantity: What the scores are, for the axis.
    """
    classes = list(dict.fromkeys(name for scores in arms.values() for patient in scores for name in patient))
    figure, axes = _axes((1.6 + 1.6 * len(classes), 3.2), grid="y")
    width = 0.7 / max(len(arms), 1)
    for arm, (name, scores) in enumerate(arms.items()):
        colour = COLOURS[arm % len(COLOURS)]
        for column, label in enumerate(classes):
            values = np.array([patient.get(label, np.nan) for patient in scores], dtype=float)
            values = values[np.isfinite(values)]
            centre = column + (arm - (len(arms) - 1) / 2) * width
            # Spread sideways in a fixed pattern, so that equal scores stay visible and the figure repeats exactly.
            spread = np.linspace(-0.3, 0.3, len(values)) * width if len(values) > 1 else np.zeros(len(values))
            axes.plot(centre + spread, values, "o", color=colour, alpha=0.55, markersize=4, markeredgewidth=0)
            if len(values):
                ends, entry = (centre - 0.4 * width, centre + 0.4 * width), name if column == 0 else "_nolegend_"
                axes.hlines(values.mean(), *ends, color=colour, lw=2.5, label=entry)
    axes.set_xticks(range(len(classes)), classes)
    axes.set_ylabel(quantity)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside upper center", ncols=len(arms), frameon=False)
    return figure


def embedding_figure(points: Mapping[str, NDArray]) -> "Figure":
    """Draw slices as points in a plane.

    Args:
        points: `[n, 2]` by "synthetic", "training", "held_out"; of many, every second or third is drawn, and so on.
    """
    figure, axes = _axes((6.0, 4.2))
    for kind in [kind for kind in KINDS if kind in points]:
        drawn = points[kind][:: -(-len(points[kind]) // MOST_POINTS) or 1]
        axes.plot(
            drawn[:, 0],
            drawn[:, 1],
            _KIND_MARKERS[kind],
            color=_KIND_COLOURS[kind],
            label=KINDS[kind],
            markersize=4,
            alpha=0.6,
            markeredgewidth=1.0 if kind == "synthetic" else 0,
        )
    axes.set_xlabel("first axis")
    axes.set_ylabel("second axis")
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure


def curves_figure(
    places: NDArray, curves: Mapping[str, Mapping[str, NDArray]], *, horizontal: str, vertical: str, log: bool = False
) -> "Figure":
    """Draw one curve for each kind of slices, a panel for each channel.

    Args:
        places: `[n]` along the horizontal axis, or one such array for each channel, `[channels, n]`.
        curves: For each channel, `[n]` by "synthetic", "training", "held_out".
        horizontal: Label of the horizontal axis.
        vertical: Label of the vertical axis.
        log: Whether the vertical axis is logarithmic.
    """
    from matplotlib.figure import Figure

    columns = min(2, len(curves))
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(6.0 if columns == 1 else 9.0, 0.5 + 2.8 * rows), layout="constrained")
    panels = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
    for panel in panels[len(curves) :]:
        panel.set_visible(False)
    for number, (panel, (channel, kinds)) in enumerate(zip(panels, curves.items(), strict=False)):
        across = places if np.ndim(places) == 1 else places[number]
        for kind in [kind for kind in KINDS if kind in kinds]:
            panel.plot(
                across,
                kinds[kind],
                _KIND_STYLES[kind],
                color=_KIND_COLOURS[kind],
                lw=1.8,
                label=KINDS[kind] if number == 0 else "_nolegend_",
            )
        panel.set_title(channel, fontsize="medium")
        panel.set_xlabel(horizontal)
        panel.set_ylabel(vertical)
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
        if log:
            panel.set_yscale("log")
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure


def position_figure(maps: Mapping[str, NDArray], classes: Sequence[str]) -> "Figure":
    """Draw where each class lies on average, a row a class: held-out real, synthetic, and their difference.

    Args:
        maps: `[classes, H, W]` in 0..1 by "synthetic" and "held_out".
        classes: Names of the foreground classes.
    """
    from matplotlib.figure import Figure

    height, width = maps["synthetic"].shape[1:]
    figure = Figure(figsize=(7.0, 0.4 + 2.1 * len(classes) * height / width), layout="constrained")
    grid = figure.subplots(len(classes), 3, squeeze=False)
    for row, name in enumerate(classes):
        real, drawn = maps["held_out"][row], maps["synthetic"][row]
        most = max(real.max(), drawn.max(), 1e-6)
        apart = max(np.abs(drawn - real).max(), 1e-6)
        pictures = [
            (real, "viridis", 0.0, most, "held-out real"),
            (drawn, "viridis", 0.0, most, "synthetic"),
            (drawn - real, "PuOr_r", -apart, apart, "synthetic less real"),
        ]
        for panel, (values, colours, low, high, title) in zip(grid[row], pictures, strict=True):
            picture = panel.imshow(values, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
            panel.set_xticks([])
            panel.set_yticks([])
            if row == 0:
                panel.set_title(title, fontsize="medium")
            if panel is not grid[row][0]:
                figure.colorbar(picture, ax=panel, shrink=0.8)
        grid[row][0].set_ylabel(name)
    return figure


def amounts(cells: Sequence["CellResult"]) -> list[float]:
    """Return how many patients the models of a study add, sorted, 0 among them."""
    return sorted({0.0} | {cell.added_patients for cell in cells})


def lines(cells: Sequence["CellResult"]) -> list[str]:
    """Return the lines of a study that add something, in order."""
    return list(dict.fromkeys(cell.line for cell in cells if cell.variant != "real"))


def scores_figure(cells: Sequence["CellResult"], *, order: Sequence[str], places: Sequence[float]) -> "Figure":
    """Draw mean Dice and standard error against added patients, one line for each line of models.

    Args:
        cells: Of one combination.
        order: All lines of the study, by which colours are given.
        places: All amounts of the study; they stand at equal distances.
    """
    figure, axes = _amount_axes(places)
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


def gains_figure(cells: Sequence["CellResult"], *, order: Sequence[str], places: Sequence[float]) -> "Figure":
    """Draw gains over real patients alone with their intervals, in Dice points, as `scores_figure` does scores."""
    figure, axes = _amount_axes(places)
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


def ranks_figure(ranking: "Ranking") -> "Figure":
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


def _scale(axes: Any, ranking: "Ranking") -> None:
    """Draw the critical difference above the axis, in a colour that no bar below has."""
    start, height = min(ranking.ranks), 0.05 * (1.0 - axes.get_ylim()[0]) + 1.0
    end = start + ranking.critical_difference
    axes.errorbar([(start + end) / 2], [height], xerr=[(end - start) / 2], color="black", capsize=4, lw=1.5)
    axes.text((start + end) / 2, height + 0.25, f"CD = {end - start:.2f}", ha="center", va="bottom")


def _axes(size: tuple[float, float], *, grid: Literal["both", "y"] = "both") -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, alpha=0.3)
    return figure, axes


def _amount_axes(places: Sequence[float]) -> Any:
    figure, axes = _axes((5.2, 3.6), grid="y")
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
    used, colour = divmod(number, len(COLOURS))
    axes.errorbar(
        [list(places).index(place) + aside for place in added],
        values,
        yerr=np.maximum([below, above], 0.0),
        color=COLOURS[colour],
        # A colour that comes again has another marker, and hollow ones.
        marker=_MARKERS[(number + used) % len(_MARKERS)],
        markerfacecolor=COLOURS[colour] if used % 2 == 0 else "white",
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
