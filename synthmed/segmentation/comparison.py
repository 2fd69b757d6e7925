"""What a comparison of arms found: means, gains with their intervals, and a sentence."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from synthmed import __version__
from synthmed.segmentation.arms import Arm, ArmName
from synthmed.segmentation.bootstrap import Interval, difference
from synthmed.segmentation.score_table import Score, average, summarise
from synthmed.segmentation.store_scores import patient_dice

FEW_PATIENTS = 8
"""Below this a percentile interval over patients is markedly too narrow."""


class ArmResult(BaseModel):
    """One arm's scores, means over its trainings.

    Attributes:
        name: Which arm.
        words: What it was trained on.
        trainings: How many.
        dice: Mean Dice over classes of the means over patients.
        spread: Standard deviation of that over trainings; None of one.
        classes: Mean Dice of each class.
        hd95: Mean HD95 in mm.
        surface_dice: Mean surface Dice.
        gain: Mean Dice beyond that of `real`; None of `real`.
        share_of_oracle: The gain as a share of the oracle's; None without an oracle, or one that gained nothing.
    """

    model_config = ConfigDict(frozen=True)

    name: ArmName
    words: str
    trainings: int
    dice: float | None
    spread: float | None
    classes: dict[str, float | None]
    hd95: float | None
    surface_dice: float | None
    gain: Interval | None = None
    share_of_oracle: float | None = None


class Comparison(BaseModel):
    """All that a comparison found.

    Attributes:
        version: synthmed's version.
        about: Options, store and data set.
        patients: Patients that were scored.
        arms: In the order of `ARMS`.
        over_duplicated: Gain of the blended arm over the duplicated one.
        notes: What a reader must know.
        verdict: The answer in a sentence.
    """

    model_config = ConfigDict(frozen=True)

    version: str = __version__
    about: dict[str, Any]
    patients: int
    arms: list[ArmResult]
    over_duplicated: Interval | None
    notes: list[str]
    verdict: str

    def markdown(self) -> str:
        """Return a page with the verdict, the table and the notes."""
        return "\n".join(_page(self)) + "\n"


def conclude(
    arms: Sequence[Arm],
    rows: Mapping[ArmName, Sequence[Sequence[Score]]],
    *,
    draws: Sequence[int],
    notes: Iterable[str] = (),
    about: dict[str, Any] | None = None,
) -> Comparison:
    """Return what the scores of all arms say.

    Args:
        arms: The arms; `real` among them.
        rows: Of each arm, the scores of each training; trainings in the same order in all arms.
        draws: Of each training, which draw of patients it is of.
        notes: Added to the result's.
        about: Kept in the result.
    """
    tables: dict[str, np.ndarray] = {}
    for arm in arms:
        tables[arm.name], patients = patient_dice(rows[arm.name])
    gains = {name: difference(table, tables["real"], draws=draws) for name, table in tables.items() if name != "real"}
    oracle = gains.get("oracle")
    results = [_result(arm, rows[arm.name], gains.get(arm.name), oracle) for arm in arms]
    over = None
    if "blended" in tables and "duplicated" in tables:
        over = difference(tables["blended"], tables["duplicated"], draws=draws)
    notes = list(notes)
    if len(draws) == 1:
        notes.append("One training an arm: intervals are over patients alone, another seed may say otherwise.")
    if len(patients) < FEW_PATIENTS:
        notes.append(f"{len(patients)} patients are too few for an interval that holds what it says.")
    return Comparison(
        about=about or {},
        patients=len(patients),
        arms=results,
        over_duplicated=over,
        notes=notes,
        verdict=verdict(gains.get("blended"), over),
    )


def verdict(gain: Interval | None, over_duplicated: Interval | None = None) -> str:
    """Return the answer in a sentence.

    Args:
        gain: Of the blended arm over the real one.
        over_duplicated: Of the blended arm over the duplicated one.
    """
    if gain is None:
        return "no arm blends synthetic slices: nothing to decide"
    figures = f"blended - real: {points(gain)} points of Dice"
    if gain.high < 0:
        return f"{figures}: synthetic slices harm here; do not augment"
    if not gain.low > 0:
        return f"{figures}: no evidence that synthetic slices help here; do not augment"
    if over_duplicated is not None and not over_duplicated.low > 0:
        return f"{figures}: blending helps, but not more than copies of real slices do ({points(over_duplicated)})"
    return f"{figures}: synthetic slices help here"


def points(interval: Interval) -> str:
    """Return a difference of Dice in points (hundredths), with its interval."""
    return f"{100 * interval.value:+.1f} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def _result(
    arm: Arm, repetitions: Sequence[Sequence[Score]], gain: Interval | None, oracle: Interval | None
) -> ArmResult:
    means = [summarise(list(rows)) for rows in repetitions]
    overall = [mean.overall.dice for mean in means if mean.overall.dice is not None]
    names = [mean.name for mean in means[0].classes]
    return ArmResult(
        name=arm.name,
        words=arm.words,
        trainings=len(repetitions),
        dice=average(mean.overall.dice for mean in means),
        spread=float(np.std(overall, ddof=1)) if len(overall) > 1 else None,
        classes={
            name: average(mean.dice for table in means for mean in table.classes if mean.name == name) for name in names
        },
        hd95=average(mean.overall.hd95 for mean in means),
        surface_dice=average(mean.overall.surface_dice for mean in means),
        gain=gain,
        share_of_oracle=gain.value / oracle.value if gain and oracle and oracle.value > 0 else None,
    )


def _page(comparison: Comparison) -> Iterable[str]:
    about = comparison.about
    yield f"# {about.get('dataset', 'Comparison of arms')}"
    yield ""
    yield f"**{comparison.verdict}**"
    yield ""
    yield "| " + " | ".join(HEADINGS) + " |"
    yield "|---|---|" + "---:|" * (len(HEADINGS) - 2)
    for result in comparison.arms:
        yield "| " + " | ".join(cells(result)) + " |"
    yield ""
    yield (
        f"Scored on {comparison.patients} {about.get('split', '')} patients; {about.get('draws', '?')} draws of "
        f"training patients, {about.get('seeds', '?')} seeds each; {about.get('steps', '?')} steps "
        f"of {about.get('batch', '?')} slices. Gains are in points of Dice (hundredths) with 95 % bootstrap intervals "
        "over patients and trainings."
    )
    if comparison.over_duplicated:
        yield f"Blended - duplicated: {points(comparison.over_duplicated)}."
    yield ""
    yield from (f"- {note}" for note in comparison.notes)


HEADINGS = ("arm", "trained on", "Dice", "spread", "HD95 (mm)", "surface Dice", "gain", "of the oracle's gain")


def cells(result: ArmResult) -> list[str]:
    """Return a row of the table, under `HEADINGS`."""

    def number(text: str, value: float | None) -> str:
        return "-" if value is None else text.format(value)

    return [
        result.name,
        result.words,
        number("{:.4f}", result.dice),
        number("{:.4f}", result.spread),
        number("{:.2f}", result.hd95),
        number("{:.4f}", result.surface_dice),
        points(result.gain) if result.gain else "-",
        number("{:.0%}", result.share_of_oracle),
    ]
