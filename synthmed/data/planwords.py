"""A plan as YAML text in which each field says what it means and where its value came from."""

from typing import Any

import yaml

from synthmed.configuration import parse_yaml
from synthmed.data.plan import ExplainedPlan

_WIDTH = 116

_HEAD = """\
Plan by which `synthmed prepare` makes a store of a data set. Edit what should be otherwise, then execute it:
  synthmed prepare DATASET --out STORE --plan THIS_FILE
Names that YAML would take for numbers or truth values need quotes."""

_MEANINGS = {
    "dataset": "Name of the data set.",
    "reading": "How the folder's names are understood; empty where all of it is found without being told.",
    "channels": (
        "How the intensities of each channel become -1 (low) and 1 (high); what is beyond is clipped.\n"
        "percentiles: 0 to 100, of each case by itself. zscore: standard deviations from the mean of a case's body.\n"
        "window: intensities in the source's unit, the same for all cases."
    ),
    "classes": "Value of each class in the label files, background 0.",
    "ignore_value": 'Value in the label files that means "not known"; null where there is none.',
    "axis": "Slices are cut across this axis: sagittal, coronal or axial.",
    "size": "Rows and columns of a slice in pixels, multiples of 8, at least 32.",
    "spacing": "Size of a pixel (row, column) in the source's unit of length, mm as a rule.",
    "crop": "Whether margins in which every channel has its lowest value are cut off; undone when a case is restored.",
    "bias_correction": "Whether each channel is freed of slow shading (N4) before it is scaled; for MRI alone.",
    "slices": (
        "Which training slices a training is offered: all; foreground (those that show a class, and neighbours);\n"
        "balanced (all, those with classes that fewer than half of the slices show more often than once)."
    ),
    "seed": "Of the random split and of the choice of slices.",
    "patients": "Cases of each patient who has several, or one of another name. Patients never straddle the split.",
    "split": "Cases of each part; those of the data set that are not named are left out.",
}


def plan_text(content: dict[str, Any], explained: ExplainedPlan) -> str:
    """Return a plan file's content as YAML with comments.

    Args:
        content: As `PlanFile.model_dump(mode="json")` gives it.
        explained: Why it is so.
    """
    lines = [*_comment(_HEAD), *_dump({name: content[name] for name in ("format", "format_version")})]
    for field, meaning in _MEANINGS.items():
        lines += ["", *_comment(meaning)]
        if field in explained.reasons:
            lines += _comment(f"Here: {explained.reasons[field]}.")
        lines += _channels(content, explained) if field == "channels" else _dump({field: content[field]})
    return "\n".join(lines) + "\n"


def _channels(content: dict[str, Any], explained: ExplainedPlan) -> list[str]:
    lines = ["channels:"]
    for channel, reason in zip(content["channels"], explained.scalings, strict=True):
        lines += [f"  {line}" for line in (*_comment(f"{reason}."), *_dump([channel]))]
    return lines


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in text.split("\n")]


def _dump(value: Any) -> list[str]:
    # Numbers on one line, names one below the other.
    numbers = isinstance(value, dict) and all(
        isinstance(inner, list) and all(isinstance(item, int | float) for item in inner) and inner
        for inner in value.values()
    )
    style: dict[str, Any] = {"sort_keys": False, "width": _WIDTH, "default_flow_style": None if numbers else False}
    text = yaml.safe_dump(value, allow_unicode=True, **style)
    if parse_yaml(text, "the plan").value != value:
        # Some line ends of Unicode do not survive unless they are escaped, and all other letters with them.
        text = yaml.safe_dump(value, **style)
    return text.rstrip("\n").split("\n")
