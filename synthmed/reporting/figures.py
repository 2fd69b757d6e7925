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
    """Return a `(height, width, 3)` RGB picture as a PNG data URI."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def figure_uri(figure: "Figure") -> str:
    """Return a figure as an SVG data URI: sharp at every width and in print."""
    import matplotlib

    buffer = io.BytesIO()
    # Neither a date nor random names in it: the same figure gives the same bytes.
    with matplotlib.rc_context({"svg.hashsalt": "synthmed"}):
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
