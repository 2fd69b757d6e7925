"""A picture of what networks predict beside the reference."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from synthmed.data.pictures import render_outlines
from synthmed.data.schema import CaseRecord
from synthmed.data.store import Store
from synthmed.files import atomic_file
from synthmed.segmentation.postprocess import Flips, largest_components
from synthmed.segmentation.predict import load_predictor
from synthmed.segmentation.run import SegmentationRun
from synthmed.segmentation.score_table import Score

if TYPE_CHECKING:
    from matplotlib.figure import Figure

QUANTILES = (0.0, 0.25, 0.5, 1.0)
"""Which patients are drawn, by the Dice of the first network: neither the best alone nor the worst alone."""
_ENLARGE = 4


def typical_cases(store: Store, scores: Sequence[Score]) -> list[CaseRecord]:
    """Return the cases whose mean Dice lies at `QUANTILES` of all, each once, the worst first."""
    dice: dict[str, list[float]] = {}
    for score in scores:
        if score.dice is not None:
            dice.setdefault(score.case, []).append(score.dice)
    ranked = sorted(dice, key=lambda case: float(np.mean(dice[case])))
    places = {round(quantile * (len(ranked) - 1)) for quantile in QUANTILES} if ranked else set()
    records = {case.case: case for case in store.cases()}
    return [records[ranked[place]] for place in sorted(places)]


def prediction_figure(
    store: Store,
    cases: Sequence[CaseRecord],
    runs: Mapping[str, SegmentationRun],
    *,
    flips: Flips = "none",
    largest_component: bool = False,
) -> "Figure":
    """Draw the slice with most foreground of each case: the reference, then what each network finds.

    Args:
        store: Where the cases are.
        cases: A row each.
        runs: Networks by the name that stands over their column.
        flips: See `predict`.
        largest_component: See `predict`.
    """
    from matplotlib.figure import Figure

    numbers = [np.arange(case.first, case.first + case.slices) for case in cases]
    places = [int(store.class_counts[one, 1:].sum(axis=1).argmax()) for one in numbers]
    images = [store.images(one) for one in numbers]
    labels = {"reference": [store.labels(one) for one in numbers]}
    for name, run in runs.items():
        predictor = load_predictor(run, flips=flips)
        found = [predictor(image).argmax(-1).astype(np.uint8) for image in images]
        labels[name] = [largest_components(one) for one in found] if largest_component else found
    columns = {
        name: [
            render_outlines(image[[place]], label[[place]], enlarge=_ENLARGE)[0]
            for image, label, place in zip(images, maps, places, strict=True)
        ]
        for name, maps in labels.items()
    }
    height, width = columns["reference"][0].shape[:2]
    figure = Figure(figsize=(1.7 * len(columns), 1.7 * len(cases) * height / width + 0.3), layout="constrained")
    grid = figure.subplots(len(cases), len(columns), squeeze=False)
    for column, (name, pictures) in enumerate(columns.items()):
        grid[0][column].set_title(name, fontsize=9)
        for row, picture in enumerate(pictures):
            grid[row][column].imshow(picture, interpolation="nearest")
            grid[row][column].set_axis_off()
    return figure


def write_predictions(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150, metadata={"Software": None})
