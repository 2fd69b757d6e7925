"""How many real and how many synthetic slices each batch of a training holds, and what synthetic ones weigh."""

import math
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from synthmed.errors import UserError
from synthmed.segmentation.checks import checked


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
        keep: Share of a synthetic set that is kept after its samples were judged against the training patients; 1
            judges none.
        judge: Run folder of a U-Net trained on real slices of these training patients, whose agreement with the
            samples' label maps is judged as well; "" judges without.
        psi: Truncation of slices that are drawn during the training.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    ratio_end: float | None = Field(None, ge=0)
    pretrain: float = Field(0.0, ge=0, le=1)
    synthetic_weight: float = Field(1.0, gt=0)
    sampling: Literal["uniform", "balanced"] = "uniform"
    keep: float = Field(1.0, gt=0, le=1)
    judge: str = ""
    psi: float = Field(1.0, ge=0, le=1)

    def uses_synthetic(self, ratio: float) -> bool:
        """Return whether any step has synthetic slices where the training starts with `ratio`."""
        return ratio > 0 or bool(self.ratio_end) or self.pretrain > 0

    def without_synthetic(self) -> "Blending":
        """Return what is left for real slices alone: how they are sampled."""
        return Blending(sampling=self.sampling)


FLAGS = {"keep": "filter", "judge": "filter-with"}
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
    if blending.judge and blending.keep == 1:
        raise UserError("--filter-with says how to judge, but nothing is to be dropped: add --filter 0.5")
    return blending


def batch_parts(batch: int, ratio: float) -> tuple[int, int]:
    """Return how many real and how many synthetic slices a batch holds: `ratio` synthetic ones for each real one.

    A batch has whole slices, so the proportion is the nearest that it allows, with at least one of each kind unless
    the ratio is 0 or infinite.

    Raises:
        UserError: If a batch of 1 would have to hold both.
    """
    if ratio == 0:
        return batch, 0
    if math.isinf(ratio):
        return 0, batch
    if batch < 2:
        raise UserError("--batch 1 cannot hold real and synthetic slices: choose at least 2")
    synthetic = min(max(round(batch * ratio / (1 + ratio)), 1), batch - 1)
    return batch - synthetic, synthetic


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
