"""What a study is made of, as a configuration says it."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from synthmed.data.schema import Split
from synthmed.segmentation.augment import Augmentation
from synthmed.segmentation.options import SegmentOptions, check_options
from synthmed.segmentation.postprocess import Flips
from synthmed.study.model import Count, Model, Part, as_list, in_words

Name = Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[\w.+-]+( [\w.+-]+)*$")]

_SET_BY_THE_MODEL = ("seed", "ratio", "train_patients", "augmentation", "blending")
NO_AUGMENTATION = Augmentation(
    geometry=0.0, elastic=0.0, sharpness=0.0, intensity=0.0, flip_rows=False, flip_columns=False
)


def _as_seeds(value: Any) -> Any:
    """Let a number stand for the seeds from 0 on."""
    return list(range(value)) if isinstance(value, int) and not isinstance(value, bool) and value > 0 else value


def _as_size(value: Any) -> Any:
    """Read `64x48`, as the command line writes it."""
    return [part.strip() for part in value.lower().split("x")] if isinstance(value, str) else value


def _as_fractions(value: Any) -> Any:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) and "," in value else value


class Phantom(Part):
    """A data set that the study draws itself, see `synthmed phantom`."""

    cases: int = Field(24, ge=3)
    size: int = Field(64, ge=16)
    channels: int = Field(2, ge=1)
    seed: int = Field(0, ge=0)


class DataSet(Part):
    """A data set and how it is prepared.

    Attributes:
        name: In tables and figures.
        path: Its folder; relative to that of the configuration, of a preset to the current one.
        phantom: Drawn instead of read.
        split: Fractions of patients for training, validation and test, or a JSON file of names as for `prepare`.
        seed: Of the split, and of the order in which training patients are drawn.
        axis: As `prepare`; so are the next five.
        size: Rows and columns of a slice.
        spacing: Pixel size.
        normalise: How channels are scaled.
        bias_correction: Whether MRI is freed of slow shading.
        slices: Which training slices are offered.
        patient_pattern: Finds the patient in a case's name.
        patients: Numbers of real training patients; by default those of the study.
    """

    name: Name
    path: Path | None = None
    phantom: Phantom | None = None
    split: Annotated[tuple[float, float, float] | Path, BeforeValidator(_as_fractions)] = (0.7, 0.15, 0.15)
    seed: int = Field(0, ge=0)
    axis: Literal["sagittal", "coronal", "axial"] | None = None
    size: Annotated[tuple[Count, Count], BeforeValidator(_as_size)] | None = None
    spacing: tuple[float, float] | None = None
    normalise: tuple[str, ...] = ()
    bias_correction: bool = False
    slices: Literal["all", "foreground", "balanced"] = "all"
    patient_pattern: str | None = None
    patients: Annotated[tuple[Count, ...], BeforeValidator(as_list)] | None = None
    seeds: Count | None = None

    @model_validator(mode="after")
    def _one_source(self) -> "DataSet":
        if (self.path is None) == (self.phantom is None):
            raise ValueError("give either path, the folder of the data set, or phantom")
        return self


class Scoring(Part):
    """How a trained U-Net is scored.

    Attributes:
        split: On which patients.
        geometry: Against the label maps of the store, or of the source.
        flips: As `segment predict`.
        largest_component: As `segment predict`.
        tolerance: Of the surface Dice, mm; None leaves distances out, which take longer than the prediction.
    """

    split: Split = "test"
    geometry: Literal["store", "source"] = "store"
    flips: Flips = "none"
    largest_component: bool = False
    tolerance: float | None = Field(1.0, ge=0)


class Configuration(Part):
    """A study: every data set x number of patients x draw x model x seed is a trial.

    Attributes:
        name: Of the study.
        data: Data sets.
        patients: Numbers of real training patients.
        draws: How many choices of these patients.
        models: What is compared.
        seeds: Of the U-Nets; a number stands for the seeds from 0 on.
        fewer_seeds: By a number of real patients, how many of the seeds it is trained with; by default all.
        training: Options of every U-Net.
        scoring: How they are scored.
        threads: Of each training; results depend on them by rounding, so they do not follow from the machine.
    """

    name: Name = "study"
    data: Annotated[tuple[DataSet, ...], Field(min_length=1)]
    patients: Annotated[tuple[Count, ...], BeforeValidator(as_list)] = ()
    draws: Count = 1
    models: Annotated[tuple[Model, ...], Field(min_length=1)]
    seeds: Annotated[
        tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Field(min_length=1), BeforeValidator(_as_seeds)
    ] = (0,)
    fewer_seeds: dict[Count, Count] = {}
    training: dict[str, Any] = {}
    scoring: Scoring = Scoring()
    threads: Count = 1

    @field_validator("training")
    @classmethod
    def _known(cls, training: dict[str, Any]) -> dict[str, Any]:
        for name in training:
            if name in _SET_BY_THE_MODEL and name != "augmentation":
                raise ValueError(f"{name} is set by models and seeds, not under training")
        in_words(check_options, training)
        return training

    @model_validator(mode="after")
    def _fits(self) -> "Configuration":
        for what, values in (
            ("data sets", [one.name for one in self.data]),
            ("seeds", list(self.seeds)),
            ("patients", list(self.patients)),
        ):
            twice = [value for value, count in Counter(values).items() if count > 1]
            if twice:
                raise ValueError(f"{what}: {twice[0]} stands there twice")
        for one in self.data:
            if not (one.patients or self.patients):
                raise ValueError(f"data set {one.name}: say how many training patients, such as patients: [5, 10]")
        known = {number for one in self.data for number in one.patients or self.patients}
        asked = [(f"model {model.name}", number) for model in self.models for number in model.patients or ()]
        for where, number in [*asked, *(("fewer_seeds", number) for number in self.fewer_seeds)]:
            if number not in known:
                raise ValueError(f"{where}: no data set has {number} training patients: {sorted(known)}")
        return self

    def seeds_for(self, model: Model, patients: int) -> tuple[int, ...]:
        """Return the seeds of a model's U-Nets beside a number of real patients."""
        everything = len(self.seeds)
        return self.seeds[: min(model.seeds or everything, self.fewer_seeds.get(patients, everything))]

    def segment_options(self, *, augmentation: bool) -> SegmentOptions:
        """Return the options that all U-Nets share, with or without classical augmentation."""
        options = check_options(self.training)
        return options if augmentation else options.model_copy(update={"augmentation": NO_AUGMENTATION})
