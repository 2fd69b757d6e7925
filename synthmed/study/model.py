"""One model of a study's comparison: what it adds to real patients, what draws that, and how it is blended."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from synthmed.errors import UserError
from synthmed.segmentation.schedule import Blending
from synthmed.training.options import TrainOptions
from synthmed.training.options import check_options as check_training

Variant = Literal["real", "duplicated", "base", "cond"]
Words = Annotated[str, Field(min_length=1, max_length=60, pattern=r"^\S([^\r\n\t]*\S)?$")]
Count = Annotated[int, Field(ge=1)]

UNUSED_MASK_KIMG = 0.05
"""Of a mask generator that no model draws from: `masks: deformed` takes real label maps."""
_SET_BY_THE_STUDY = ("variant", "kimg", "minutes", "seed", "init_from", "unlabelled", "strategy")


def as_list(value: Any) -> Any:
    """Let one value stand for a list of one."""
    return value if isinstance(value, (list, tuple)) else [value]


class Part(BaseModel):
    """Base of all parts: immutable, and a key that is not known is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Generator(Part):
    """How a generator is trained; models with equal ones share them.

    Attributes:
        patients: "own" is taught by the training patients of its trial. "others" is taught by patients of the data set
            that train no U-Net beside which the model is compared, as if another hospital had given its generator: one
            for all draws and numbers of patients.
        kimg: Thousand images that it is shown.
        mask_kimg: The same of the mask generator of `cond`; by default `kimg`, and next to nothing where the masks are
            deformed real ones.
        seed: Of the training.
        settings: Options of `synthmed train --set`.
    """

    patients: Literal["own", "others"] = "own"
    kimg: float = Field(25.0, gt=0)
    mask_kimg: float | None = Field(None, gt=0)
    seed: int = Field(0, ge=0, lt=2**31)
    settings: dict[str, Any] = {}

    @field_validator("settings")
    @classmethod
    def _known(cls, settings: dict[str, Any]) -> dict[str, Any]:
        for name in settings:
            if name in _SET_BY_THE_STUDY:
                raise ValueError(f"{name} is set by the study, not under settings")
        in_words(check_training, {"variant": "base", **settings})
        return settings

    def options(self, variant: str) -> TrainOptions:
        """Return the options of its training."""
        return check_training({**self.settings, "variant": variant, "kimg": self.kimg, "seed": self.seed})


class Recipe(Part):
    """How synthetic slices are blended with real ones, see `synthmed.segmentation.schedule.Blending`.

    Attributes:
        ratio: Synthetic slices for each real one in a batch; "auto" searches it on validation patients; None pours
            them into one pool, in which every slice, real or synthetic, is offered equally often.
        ratio_end: Ratio at the last step.
        pretrain: Share of the steps, at the start, on synthetic slices alone.
        weight: What a synthetic slice counts in the loss.
        sampling: "balanced" offers slices of rare classes more often.
        filter: Share of the synthetic slices that is kept after they were judged.
        judge: Whether a U-Net that is trained on this trial's real slices judges as well.
    """

    ratio: Annotated[float, Field(ge=0)] | Literal["auto"] | None = None
    ratio_end: float | None = Field(None, ge=0)
    pretrain: float = Field(0.0, ge=0, le=1)
    weight: float = Field(1.0, gt=0)
    sampling: Literal["uniform", "balanced"] = "uniform"
    filter: float = Field(1.0, gt=0, le=1)
    judge: bool = True

    def blending(self) -> Blending:
        """Return what a U-Net training is told, but for the judge."""
        return Blending(
            ratio_end=self.ratio_end,
            pretrain=self.pretrain,
            synthetic_weight=self.weight,
            sampling=self.sampling,
            keep=self.filter,
        )


class Model(Part):
    """One model of the comparison, or several: one for each number of added patients, with and without augmentation.

    Attributes:
        name: In tables and figures; models of one line there share it.
        variant: "real" adds nothing, "duplicated" adds copies of real slices, the others what a generator draws.
        added_patients: Numbers of synthetic patients; one counts as many slices as a training patient has on average.
        generator: How it is trained.
        masks: Of `cond`: drawn by the mask generator, or deformed ones of the patients who taught the generator.
        psi: Truncation of what is drawn.
        draw_seed: Of what is drawn.
        recipe: How it is blended.
        augmentation: Whether slices are augmented classically; a list gives a model each.
        patients: Numbers of real patients that it is trained beside; by default all of the study.
        seeds: How many of the study's seeds it has; by default all.
    """

    name: Words
    variant: Variant
    added_patients: Annotated[tuple[Annotated[float, Field(gt=0)], ...], BeforeValidator(as_list)] = ()
    generator: Generator = Generator()
    masks: Literal["generated", "deformed"] = "generated"
    psi: float = Field(1.0, ge=0, le=1)
    draw_seed: int = Field(1, ge=0, lt=2**31)
    recipe: Recipe = Recipe()
    augmentation: Annotated[tuple[bool, ...], BeforeValidator(as_list)] = (True,)
    patients: Annotated[tuple[Count, ...], BeforeValidator(as_list)] | None = None
    seeds: Count | None = None

    @model_validator(mode="after")
    def _fits(self) -> "Model":
        if (self.variant == "real") != (not self.added_patients):
            raise ValueError(
                "a real model adds nothing: leave out added_patients"
                if self.added_patients
                else f"{self.variant} needs added_patients, such as [5, 10]"
            )
        if self.variant == "real" and self.recipe.ratio == "auto":
            raise ValueError("a real model blends nothing, so there is no ratio to search: leave out ratio")
        if self.variant != "cond" and self.masks != "generated":
            raise ValueError("masks: deformed goes with variant: cond")
        if self.variant in ("real", "duplicated") and "generator" in self.model_fields_set:
            raise ValueError(f"a {self.variant} model has no generator: leave it out")
        return self

    @property
    def mask_kimg(self) -> float | None:
        """Thousand images that the mask generator is shown; None where the model has none."""
        if self.variant != "cond":
            return None
        unused = UNUSED_MASK_KIMG if self.masks == "deformed" else self.generator.kimg
        return self.generator.mask_kimg or unused


def in_words(check: Any, values: dict[str, Any]) -> None:
    """Run a check of options whose errors are ours, inside of pydantic's."""
    try:
        check(values)
    except UserError as error:
        raise ValueError(str(error)) from None
