"""The plan as a YAML file that a person can read and edit, and that `prepare` executes."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from synthmed.configuration import LARGEST_FILE, parse_yaml
from synthmed.data.orientation import AXIS_NAMES
from synthmed.data.plan import ExplainedPlan, check_frame
from synthmed.data.planwords import plan_text
from synthmed.data.readers import CaseFiles, Dataset, ReadOptions
from synthmed.data.schema import SPLITS, Plan, Scaling, Split
from synthmed.data.split import check_split
from synthmed.errors import UserError
from synthmed.files import atomic_file, read_text

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
