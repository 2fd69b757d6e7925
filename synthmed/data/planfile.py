"""Plans as files that a person can read and edit."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from synthmed.configuration import LARGEST_FILE, parse_yaml
from synthmed.data.geometry import AXIS_NAMES
from synthmed.data.plan import ExplainedPlan, check_frame
from synthmed.data.readers import CaseFiles, Dataset, ReadOptions
from synthmed.data.schema import SPLITS, Plan, Scaling, Split
from synthmed.data.selection import check_split
from synthmed.errors import UserError
from synthmed.files import atomic_file, read_text

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


PLAN = "plan.yaml"
Text = Annotated[str, Field(strict=True)]


class _Part(BaseModel):
    # Frozen, and a field that is not known is a typing mistake.
    model_config = ConfigDict(frozen=True, extra="forbid")


class ChannelPlan(_Part):
    """A channel and how its intensities are scaled; see `Scaling`."""

    name: Text
    method: Literal["percentiles", "zscore", "window"]
    low: float
    high: float

    @model_validator(mode="after")
    def _is_ordered(self) -> "ChannelPlan":
        self.scaling()
        return self

    def scaling(self) -> Scaling:
        """Return the scaling."""
        return Scaling(method=self.method, low=self.low, high=self.high)


class Reading(_Part):
    """How the folder's names are understood; see `ReadOptions`."""

    patient_pattern: Text | None = None
    channels: dict[Text, Text] = {}
    label: Text | None = None


class Parts(_Part):
    """Names of the cases of each part."""

    train: tuple[Text, ...] = Field(min_length=1)
    val: tuple[Text, ...] = ()
    test: tuple[Text, ...] = ()


class PlanFile(_Part):
    """All from which a store follows, besides the images themselves.

    Attributes:
        format: Marks the file as ours.
        format_version: Raised when an older version could not execute it.
        dataset: Name of the data set.
        reading: How the folder's names are understood.
        channels: In their order.
        classes: Value of each class in the label files.
        ignore_value: Label value that means "not known".
        axis: Name of the slicing axis.
        size: Rows and columns of a slice.
        spacing: Pixel size, (row, column).
        crop: Whether margins without content are cut off.
        bias_correction: Whether channels are freed of slow shading.
        slices: Which training slices are offered.
        seed: Of the split and of the choice of slices.
        patients: Cases of each patient who has several, or one of another name.
        split: Where each case belongs.
    """

    format: Literal["synthmed-plan"] = "synthmed-plan"
    format_version: Literal[1] = 1
    dataset: Text
    reading: Reading = Reading()
    channels: tuple[ChannelPlan, ...] = Field(min_length=1)
    classes: dict[Text, int] = Field(min_length=1)
    ignore_value: int | None = None
    axis: Literal["sagittal", "coronal", "axial"]
    size: tuple[int, int]
    spacing: tuple[float, float]
    crop: bool = False
    bias_correction: bool = False
    slices: Literal["all", "foreground", "balanced"] = "all"
    seed: int = Field(0, ge=0)
    patients: dict[Text, tuple[Text, ...]] = {}
    split: Parts

    @model_validator(mode="after")
    def _is_whole(self) -> "PlanFile":
        values = list(self.classes.values())
        if len(set(values)) < len(values) or min(values) != 0:
            raise ValueError("each class needs a value of its own, background 0 and none below")
        try:
            check_frame(self.size, self.spacing)
        except UserError as error:
            raise ValueError(str(error).removeprefix("--")) from None
        self.plan()
        return self

    def plan(self) -> Plan:
        """Return how cases become slices."""
        axis = AXIS_NAMES.index(self.axis)
        return Plan(
            axis=0 if axis == 0 else 1 if axis == 1 else 2,
            size=self.size,
            spacing=self.spacing,
            intensities=tuple(channel.scaling() for channel in self.channels),
            label_values=tuple(sorted(self.classes.values())),
            channels=len(self.channels),
            ignore_value=self.ignore_value,
            bias_correction=self.bias_correction,
            crop=self.crop,
            slices=self.slices,
        )

    def read_options(self) -> ReadOptions:
        """Return how the data set's folder is to be read."""
        reading = self.reading
        return ReadOptions(reading.patient_pattern, tuple(reading.channels.items()), reading.label)

    def apply(self, dataset: Dataset, path: Path) -> tuple[Dataset, dict[str, Split]]:
        """Return the data set with the plan's names and patients, and where each case belongs that the plan names.

        Args:
            dataset: As its folder was read.
            path: The plan's file, for messages.

        Raises:
            UserError: If the plan is not of this data set, or parts patients.
        """
        if len(self.channels) != len(dataset.channels):
            raise UserError(f"{path} has {len(self.channels)} channels, {dataset.path} has {len(dataset.channels)}")
        listed = {case: patient for patient, cases in self.patients.items() for case in cases}
        unknown = [case for case in listed if case not in {files.case for files in dataset.cases}]
        if unknown:
            raise UserError(f'{path}: "patients" names {unknown[0]}, which {dataset.path} does not have')
        cases = [replace(files, patient=listed.get(files.case, files.case)) for files in dataset.cases]
        classes = sorted(self.classes.items(), key=lambda item: item[1])
        renamed = replace(
            dataset,
            name=self.dataset,
            channels=tuple(channel.name for channel in self.channels),
            classes=tuple(name for name, _ in classes),
            label_values=tuple(value for _, value in classes),
            ignore_value=self.ignore_value,
            cases=cases,
        )
        patients = {files.case: files.patient for files in cases}
        return renamed, check_split(self.split.model_dump(), patients, path)


def make_plan_file(
    dataset: Dataset, explained: ExplainedPlan, split: dict[str, Split], *, seed: int, reading: ReadOptions
) -> tuple[PlanFile, str]:
    """Return the plan of a data set as a file, and its text with what explains each field.

    Args:
        dataset: The data set.
        explained: How its cases become slices.
        split: Where each case belongs that is to be prepared.
        seed: Of the split and of the choice of slices.
        reading: How the folder was read.
    """
    plan = explained.plan
    patients = [(files.patient, files.case) for files in dataset.cases if files.case in split]
    content = PlanFile(
        dataset=dataset.name,
        reading=Reading(patient_pattern=reading.patient_pattern, channels=dict(reading.channels), label=reading.label),
        channels=tuple(
            ChannelPlan(name=name, **scaling.model_dump())
            for name, scaling in zip(dataset.channels, plan.intensities, strict=True)
        ),
        classes=dict(zip(dataset.classes, dataset.label_values, strict=True)),
        ignore_value=plan.ignore_value,
        axis=_axis_name(plan),
        size=plan.size,
        spacing=plan.spacing,
        crop=plan.crop,
        bias_correction=plan.bias_correction,
        slices=plan.slices,
        seed=seed,
        patients=_listed(patients),
        split=Parts(**{part: _cases_of(part, dataset.cases, split) for part in SPLITS}),
    )
    return content, plan_text(content.model_dump(mode="json"), explained)


def refuse_existing_plan(path: Path) -> None:
    """Raise UserError where a file exists: someone may have edited it."""
    if path.exists():
        raise UserError(f"{path} exists already: choose another name or remove it first")


def write_plan(path: Path, text: str) -> None:
    """Write a plan's text, whole or not at all.

    Raises:
        UserError: If the file exists.
    """
    refuse_existing_plan(path)
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_plan(path: Path | str) -> tuple[PlanFile, str]:
    """Return a plan and its text as it stands in a file.

    Raises:
        UserError: If the file is missing or is no plan; the line names the field and where it stands.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path} does not exist: write it with `synthmed prepare DATASET --plan-only {path}`")
    text = read_text(path, most=LARGEST_FILE)
    document = parse_yaml(text, str(path))
    if not isinstance(document.value, dict) or document.value.get("format") != "synthmed-plan":
        raise UserError(f"{path} is no plan of synthmed: write one with `synthmed prepare DATASET --plan-only FILE`")
    return document.check(PlanFile), text


def _axis_name(plan: Plan) -> Literal["sagittal", "coronal", "axial"]:
    return ("sagittal", "coronal", "axial")[plan.axis]


def _cases_of(part: Split, cases: list[CaseFiles], split: dict[str, Split]) -> tuple[str, ...]:
    return tuple(files.case for files in cases if split.get(files.case) == part)


def _listed(patients: list[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Return the cases of each patient, but for patients whose one case has their name."""
    cases: dict[str, list[str]] = {}
    for patient, case in patients:
        cases.setdefault(patient, []).append(case)
    return {patient: tuple(names) for patient, names in cases.items() if names != [patient]}
