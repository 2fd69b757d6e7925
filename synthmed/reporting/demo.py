"""The page that `synthmed demo` ends with."""

from collections import defaultdict
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from synthmed.data.pictures import render, tile
from synthmed.reporting.figures import score_figure
from synthmed.reporting.page import figure_uri, picture_uri, write_page
from synthmed.segmentation.score import Mean, Scores
from synthmed.study.demo import BLENDED, REAL_ONLY, SHOWN, DemoResult


def write_demo_report(path: Path, result: DemoResult, *, commands: list[str]) -> None:
    """Write the page; `commands` are the lines that do the same with a user's own data."""
    dice = {
        arm: [dict(patient) for patient in _dice_by_patient(scores).values()] for arm, scores in result.scores.items()
    }
    rows = [
        {"name": arm, "cells": [text for mean in (*scores.classes, scores.overall) for text in _cells(mean)]}
        for arm, scores in result.scores.items()
    ]
    classes = [mean.name for mean in (*result.scores[REAL_ONLY].classes, result.scores[REAL_ONLY].overall)]
    write_page(
        path,
        "demo.html",
        title="synthmed demo: from a phantom to a verdict",
        result=result,
        panels=f"{', '.join(result.channels)}, and {result.channels[0]} with the label map over it",
        real=_grid(*result.real),
        fake=_grid(*result.fake),
        scores=figure_uri(score_figure(dice, quantity="Dice")),
        verdict=demo_verdict(result.scores[REAL_ONLY], result.scores[BLENDED]),
        classes=classes,
        rows=rows,
        commands=commands,
    )


def demo_verdict(real: Scores, blended: Scores) -> str:
    """Return what generated slices did to the Dice of the same patients, no more than the numbers show."""
    before, after = _mean_dice_by_patient(real), _mean_dice_by_patient(blended)
    gains = [after[case] - before[case] for case in before if case in after]
    if not gains:
        return "No test patient has a class to score: there is no result."
    gain, better = fmean(gains), sum(value > 0 for value in gains)
    change = (
        f"With generated slices the mean Dice went from {fmean(before.values()):.3f} to {fmean(after.values()):.3f}"
        f" ({gain:+.3f}; {better} of {len(gains)} patients gained, the changes lie between"
        f" {min(gains):+.3f} and {max(gains):+.3f})."
    )
    if min(gains) < 0 < max(gains) or abs(gain) < 0.005:
        return f"{change} This demo cannot show a difference: some patients gained, others lost, or hardly any changed."
    if gain < 0:
        return f"{change} The generated slices harmed here: no surprise with a generator trained for minutes."
    return f"{change} They helped here. One training of each U-Net is no proof: another seed may reverse it."


def _dice_by_patient(scores: Scores) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for score in scores.scores:
        if score.dice is not None:
            found[score.case][score.name] = score.dice
    return found


def _mean_dice_by_patient(scores: Scores) -> dict[str, float]:
    return {case: fmean(classes.values()) for case, classes in _dice_by_patient(scores).items()}


def _cells(mean: Mean) -> tuple[str, str]:
    return (
        "none" if mean.dice is None else f"{mean.dice:.3f}",
        "none" if mean.hd95 is None else f"{mean.hd95:.1f}",
    )


def _grid(images: NDArray[np.float32], labels: NDArray[np.uint8]) -> str:
    pictures = render(images[:SHOWN], labels[:SHOWN])
    return picture_uri(tile(pictures, columns=max(1, SHOWN // (images.shape[-1] + 1))))
