"""How synthetic slices are blended into a training: its options, and the schedule that follows from them."""

import math
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from synthmed.data.blend import batch_parts
from synthmed.errors import UserError

Options = TypeVar("Options", bound=BaseModel)


def checked(
    model: type[Options],
    values: Mapping[str, Any],
    *,
    begun: Options | None = None,
    flags: Mapping[str, str] | None = None,
) -> Options:
    """Return the checked options.

    Args:
        model: What holds them.
        values: What was given; None counts as not given.
        begun: Options of a run that is to be resumed, which stand in for what was not given.
        flags: Flags of options that have another name.

    Raises:
        UserError: If an option does not exist or has a wrong value; it is named by its flag.
    """
    given = {name: value for name, value in values.items() if value is not None}
    try:
        return model.model_validate((begun.model_dump() if begun else {}) | given)
    except ValidationError as error:
        first = error.errors()[0]
        # Numbers say which of several values: the flag is the same.
        name = "-".join(part for part in first["loc"] if isinstance(part, str))
        flag = (flags or {}).get(name, name.replace("_", "-"))
        raise UserError(f"--{flag} {first.get('input')}: {first['msg'].lower()}") from None


class Blending(BaseModel):
    """What blending does besides the ratio that a training starts with.

    Attributes:
        ratio_end: Ratio at the last step; the share of synthetic slices goes there along a line. None stays constant.
        pretrain: Share of the steps, at the start, on synthetic slices alone; the ratios hold for the steps after it,
            so that `ratio=0, pretrain=0.5` is pre-training and then fine-tuning on real slices.
        synthetic_weight: What a synthetic slice counts in the loss where a real one counts 1.
        sampling: "uniform" offers every slice as often as the store's plan says; "balanced" offers those of rare
            classes more often, by repeat factors over the training slices at hand (see `synthmed.data.selection`), the
            synthetic ones likewise.
        keep_fraction: Share of a synthetic set that stays after its samples were compared with the training patients;
            1 compares none.
        filter_model: Run folder of a U-Net trained on real slices of these training patients, whose agreement with the
            samples' label maps counts as well; "" does without.
        psi: Truncation of slices that are drawn during the training.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    ratio_end: float | None = Field(None, ge=0)
    pretrain: float = Field(0.0, ge=0, le=1)
    synthetic_weight: float = Field(1.0, gt=0)
    sampling: Literal["uniform", "balanced"] = "uniform"
    keep_fraction: float = Field(1.0, gt=0, le=1, validation_alias=AliasChoices("keep_fraction", "keep"))
    filter_model: str = Field("", validation_alias=AliasChoices("filter_model", "judge"))
    psi: float = Field(1.0, ge=0, le=1)

    def uses_synthetic(self, ratio: float) -> bool:
        """Return whether any step has synthetic slices where the training starts with `ratio`."""
        return ratio > 0 or bool(self.ratio_end) or self.pretrain > 0

    def without_synthetic(self) -> "Blending":
        """Return what is left for real slices alone: how they are sampled."""
        return Blending(sampling=self.sampling)


FLAGS = {"keep_fraction": "filter", "filter_model": "filter-with"}
"""Options whose flag has another name."""


def check_blending(values: dict[str, Any], *, begun: Blending | None = None) -> Blending:
    """Return the checked options.

    Args:
        values: What was given; None counts as not given.
        begun: Options of a run that is to be resumed, which stand in for what was not given.

    Raises:
        UserError: If an option has a wrong value, or two do not go together.
    """
    blending = checked(Blending, values, begun=begun, flags=FLAGS)
    if blending.filter_model and blending.keep_fraction == 1:
        raise UserError("--filter-with names a filter model, but nothing is to be dropped: add --filter 0.5")
    return blending


class Schedule:
    """The number of synthetic slices in the batch of each step, and of all before it.

    Args:
        batch: Slices a batch.
        ratio: Synthetic slices for each real one after any pre-training.
        steps: Steps of the whole training; after them the last step's proportion stays.
        blending: See `Blending`.

    Raises:
        UserError: If a batch of 1 would have to hold slices of both kinds.
    """

    def __init__(self, *, batch: int, ratio: float, steps: int, blending: Blending):
        self.batch = batch
        alone = round(blending.pretrain * steps)
        end = ratio if blending.ratio_end is None else blending.ratio_end
        places = np.linspace(0.0, 1.0, max(steps - alone, 1))
        blended = [batch_parts(batch, _between(ratio, end, place))[1] for place in places] if alone < steps else []
        self._synthetic = np.array([batch] * alone + blended, np.int64)
        self._before = np.concatenate([[0], np.cumsum(self._synthetic)])

    @property
    def uses_real(self) -> bool:
        """Whether any batch holds real slices."""
        return bool((self._synthetic < self.batch).any())

    @property
    def uses_synthetic(self) -> bool:
        """Whether any batch holds synthetic slices."""
        return bool(self._synthetic.any())

    def parts(self, step: int) -> tuple[int, int]:
        """Return the number of real and of synthetic slices in the batch of a step."""
        synthetic = int(self._synthetic[min(step, len(self._synthetic) - 1)])
        return self.batch - synthetic, synthetic

    def before(self, step: int) -> tuple[int, int]:
        """Return the number of real and of synthetic slices in all batches before that of a step."""
        last = len(self._synthetic)
        synthetic = int(self._before[min(step, last)]) + max(step - last, 0) * self.parts(last)[1]
        return step * self.batch - synthetic, synthetic


def _between(first: float, last: float, place: float) -> float:
    """Return the ratio whose share of the batch lies at `place`, 0 to 1, between those of two ratios."""
    if first == last or place == 0:
        return first
    if place == 1:
        return last
    start, end = (1.0 if math.isinf(ratio) else ratio / (1 + ratio) for ratio in (first, last))
    share = start + place * (end - start)
    return share / (1.0 - share)
