"""A figure of an evaluation: never a number alone, but with its interval, its floor and its definition."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Estimate(BaseModel):
    """A number and its 95 % interval.

    Attributes:
        value: The number.
        low: Lower end of the interval; None where none was made.
        high: Upper end.
    """

    model_config = ConfigDict(frozen=True)

    value: float
    low: float | None = None
    high: float | None = None


class Figure(BaseModel):
    """One figure of a report.

    Attributes:
        name: Key in `metrics.json`, in snake case.
        label: What a reader sees.
        estimate: Of the synthetic set.
        floor: The same figure for real slices of training patients in the place of the synthetic ones: what real data
            of other patients would get. None where that has no meaning.
        better: Whether lower or higher is better, or as near to the floor as possible.
        definition: What it is, in a sentence or two, with its source.
        space: Feature space that it was measured in; "" for none. Figures of two spaces must not be compared.
        unit: Of the value; "" for none.
        warning: Why it should be read with care; "" where nothing is wrong.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    label: str
    estimate: Estimate
    floor: Estimate | None = None
    better: Literal["lower", "higher", "floor"]
    definition: str
    space: str = ""
    unit: str = ""
    warning: str = ""


class Section(BaseModel):
    """Figures on one subject.

    Attributes:
        name: Key in `metrics.json`, in snake case.
        title: What a reader sees.
        figures: In the order of the report.
        notes: What a reader must know, a sentence each.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    title: str
    figures: tuple[Figure, ...] = ()
    notes: tuple[str, ...] = ()
