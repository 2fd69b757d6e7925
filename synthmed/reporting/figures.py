"""Figures and pictures as data URIs, so that a report is one file."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart with the common forms of colour blindness.
ARM_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")


def picture_uri(picture: NDArray[np.uint8]) -> str:
    """Return a `(height, width, 3)` RGB picture as a lossless WebP data URI, two thirds of a PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="WEBP", lossless=True, method=6)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def figure_uri(figure: "Figure") -> str:
    """Return a figure as an SVG data URI: sharp at every width and in print."""
    import matplotlib

    buffer = io.BytesIO()
    # Neither a date nor random names in it: the same figure gives the same bytes. Words stay words: the outlines of
    # their letters would be half of it.
    with matplotlib.rc_context({"svg.hashsalt": "synthmed", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def score_figure(arms: Mapping[str, Sequence[Mapping[str, float]]], *, quantity: str) -> "Figure":
    """Draw each patient's score as a dot and each arm's mean as a line, a column a class.

    Args:
        arms: For each arm, one mapping a patient from class name to score; NaN where a score is not defined.
        quantity: What the scores are, for the axis.
    """
    from matplotlib.figure import Figure

    classes = list(dict.fromkeys(name for scores in arms.values() for patient in scores for name in patient))
    figure = Figure(figsize=(1.6 + 1.6 * len(classes), 3.2), layout="constrained")
    axes = figure.subplots()
    width = 0.7 / max(len(arms), 1)
    for arm, (name, scores) in enumerate(arms.items()):
        colour = ARM_COLOURS[arm % len(ARM_COLOURS)]
        for column, label in enumerate(classes):
            values = np.array([patient.get(label, np.nan) for patient in scores], dtype=float)
            values = values[np.isfinite(values)]
            centre = column + (arm - (len(arms) - 1) / 2) * width
            # Spread sideways in a fixed pattern, so that equal scores stay visible and the figure repeats exactly.
            spread = np.linspace(-0.3, 0.3, len(values)) * width if len(values) > 1 else np.zeros(len(values))
            axes.plot(centre + spread, values, "o", color=colour, alpha=0.55, markersize=4, markeredgewidth=0)
            if len(values):
                shown = name if column == 0 else "_nolegend_"
                axes.hlines(
                    values.mean(), centre - 0.4 * width, centre + 0.4 * width, color=colour, lw=2.5, label=shown
                )
    axes.set_xticks(range(len(classes)), classes)
    axes.set_ylabel(quantity)
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside upper center", ncols=len(arms), frameon=False)
    return figure


KINDS = {"held_out": "held-out real", "training": "training (real)", "synthetic": "synthetic"}
_KIND_COLOURS = {"held_out": ARM_COLOURS[0], "training": ARM_COLOURS[2], "synthetic": ARM_COLOURS[1]}
_MARKERS = {"held_out": "o", "training": "^", "synthetic": "x"}
_STYLES = {"held_out": "-", "training": ":", "synthetic": "--"}
MOST_POINTS = 200


def embedding_figure(points: Mapping[str, NDArray]) -> "Figure":
    """Draw slices as points in a plane.

    Args:
        points: `[n, 2]` by "synthetic", "training", "held_out"; of many, every second or third is drawn, and so on.
    """
    figure, axes = _axes((6.0, 4.2))
    for kind in [kind for kind in KINDS if kind in points]:
        shown = points[kind][:: -(-len(points[kind]) // MOST_POINTS) or 1]
        axes.plot(
            shown[:, 0],
            shown[:, 1],
            _MARKERS[kind],
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
        horizontal: Words on the horizontal axis.
        vertical: Words on the vertical axis.
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
                _STYLES[kind],
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
        shown = [
            (real, "viridis", 0.0, most, "held-out real"),
            (drawn, "viridis", 0.0, most, "synthetic"),
            (drawn - real, "PuOr_r", -apart, apart, "synthetic less real"),
        ]
        for panel, (values, colours, low, high, title) in zip(grid[row], shown, strict=True):
            picture = panel.imshow(values, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
            panel.set_xticks([])
            panel.set_yticks([])
            if row == 0:
                panel.set_title(title, fontsize="medium")
            if panel is not grid[row][0]:
                figure.colorbar(picture, ax=panel, shrink=0.8)
        grid[row][0].set_ylabel(name)
    return figure


def _axes(size: tuple[float, float]):
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    return figure, axes
