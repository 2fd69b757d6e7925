"""From figures to words: how a figure stands beside its floor, and what a reader must mind."""

from typing import Literal

from synthmed.errors import present
from synthmed.evaluation.figures import Estimate, Figure, Section
from synthmed.evaluation.result import About

Standing = Literal["like real", "worse than real", "better than real", "unlike real", "no interval", "no floor"]
OFF: tuple[Standing, ...] = ("worse than real", "unlike real")
FEW_SLICES, FEW_PATIENTS = 100, 5


def standing(figure: Figure) -> Standing:
    """Tell how a figure stands beside its floor: apart only where the two intervals do not meet, untold without any."""
    if figure.floor is None:
        return "no floor"
    if figure.estimate.low is None and figure.floor.low is None and figure.estimate.value != figure.floor.value:
        return "no interval"
    low, high = _ends(figure.estimate)
    least, most = _ends(figure.floor)
    if low <= most and least <= high:
        return "like real"
    if figure.better == "floor":
        return "unlike real"
    return "worse than real" if (low > most) == (figure.better == "lower") else "better than real"


def summarise(about: About, sections: tuple[Section, ...]) -> tuple[str, ...]:
    """Return a few sentences: what was compared, and for each section how far it is from its floor."""
    lines = [
        f"{about.synthetic.slices:,} synthetic slices were compared with {about.held_out.slices:,} slices of "
        f"{about.held_out.units:,} held-out patients. The floor, what real slices of other patients get, was measured "
        f"on {about.training.slices:,} slices of {about.training.units:,} training patients."
    ]
    if about.space:
        lines.append(f"Feature space: {about.space}. Figures of different feature spaces must not be compared.")
    for section in sections:
        told = [figure for figure in section.figures if figure.floor is not None]
        # Of copies the verdict speaks, by its own threshold.
        if told and section.name != "memorisation":
            lines.append(f"{section.title}{'' if section.title.endswith('?') else ':'} {_distance_in_words(told)}")
    return tuple(lines)


def warn(about: About, sections: tuple[Section, ...]) -> list[str]:
    """Return what makes figures weak: few slices, few patients, and what the figures say themselves."""
    warnings = []
    if about.synthetic.slices < FEW_SLICES:
        warnings.append(
            f"{about.synthetic.slices} synthetic slices are few: intervals are wide; {FEW_SLICES} or more are better."
        )
    for kind, count in (("held-out", about.held_out), ("training", about.training)):
        if count.units < FEW_PATIENTS:
            words = "patient: the intervals say" if count.units == 1 else "patients: the intervals say"
            warnings.append(f"The {kind} slices are of {count.units} {words} little of how other patients differ.")
    told: dict[str, list[str]] = {}
    for figure in (figure for section in sections for figure in section.figures if figure.warning):
        told.setdefault(figure.warning, []).append(figure.label)
    return warnings + [f"{', '.join(labels)}: {warning}." for warning, labels in told.items()]


def _distance_in_words(figures: list[Figure]) -> str:
    worse = [figure for figure in figures if standing(figure) in OFF]
    count = len(figures)
    if not worse:
        every = "The figure is not" if count == 1 else f"None of the {count} figures is"
        return f"{every} worse than what real slices of other patients get, as far as the intervals tell."
    furthest = max(worse, key=_excess)
    real = present(furthest.floor, "a figure without one is not worse than it")
    told = "The figure is" if count == 1 else f"{len(worse)} of {count} figures are"
    return (
        f"{told} worse than what real slices of other patients get; furthest off is {furthest.label}, "
        f"{furthest.estimate.value:.3g} where real slices get {real.value:.3g}."
    )


def _excess(figure: Figure) -> float:
    """Return how far a figure is from its floor in half-widths of the two intervals."""
    real = present(figure.floor, "a figure without one is not worse than it")
    (low, high), (least, most) = _ends(figure.estimate), _ends(real)
    gap = abs(figure.estimate.value - real.value)
    return gap / max((high - low + most - least) / 2, 1e-9)


def _ends(one: Estimate) -> tuple[float, float]:
    return (one.value if one.low is None else one.low), (one.value if one.high is None else one.high)
