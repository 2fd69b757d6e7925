"""Options of a U-Net training."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from synthmed.segmentation.augment import Augmentation
from synthmed.segmentation.schedule import Blending, checked

DEFAULT_RATIO = 0.5
"""Synthetic slices for each real one where a synthetic set is given and no ratio is: a third of each batch."""


class SegmentOptions(BaseModel):
    """Options of one U-Net training; a run folder holds all of them.

    Attributes:
        seed: Of initial weights, order of slices and augmentation.
        steps: Gradient steps, the same for every ratio.
        batch: Slices a step, real and synthetic together.
        ratio: Synthetic slices for each real slice; 0 is real only, infinity is synthetic only.
        train_patients: Use this many of the store's training patients; None for all.
        width: Channels of the U-Net at full resolution; None derives them from the size and number of the slices.
        levels: Resolutions of the U-Net; None derives them from the size of the slices.
        decoder_convolutions: Convolutions of each level on the way up.
        deep_supervision: Whether lower levels of the decoder are trained to predict the labels too.
        class_weights: "frequency" lets rare classes count more in the cross-entropy, by the training slices alone.
        context: Neighbouring slices on each side that the network sees beside a slice, as further channels.
        learning_rate: Highest rate of AdamW, reached after the warm-up, then decaying to 0 along a cosine.
        warmup: Share of the steps over which the rate rises from 0.
        weight_decay: Of AdamW, on convolution kernels alone.
        average: Decay a step of the moving average of the weights, which is what is validated and kept.
        precision: "auto" takes bfloat16 where the hardware has it.
        validate_every: Steps between validations on whole validation patients; None for a fifth of the steps.
        patience: Stop after this many validations in a row without a better one; None does all steps.
        keep: Whether prediction uses the weights after the last step or those of the best validation. None is "best"
            with `patience` and "last" without: the rate ends at 0 and the weights are averaged, so the last ones are
            hardly worse than any before, and the best of some scores of few patients is best by chance as well.
        log_every: Steps that one line of the log stands for.
        checkpoint_seconds: Time between checkpoints.
        augmentation: What is done to each training slice, real or synthetic.
        blending: Schedule, weight, sampling and selection of what is blended in.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(0, ge=0, lt=2**31)
    steps: int = Field(500, ge=1)
    batch: int = Field(32, ge=1)
    ratio: float = Field(0.0, ge=0)
    train_patients: int | None = Field(None, ge=1)
    width: int | None = Field(None, ge=1)
    levels: int | None = Field(None, ge=1)
    decoder_convolutions: int = Field(2, ge=1)
    deep_supervision: bool = True
    class_weights: Literal["none", "frequency"] = "none"
    context: int = Field(0, ge=0, le=16)
    learning_rate: float = Field(4e-3, gt=0)
    warmup: float = Field(0.05, ge=0, lt=1)
    weight_decay: float = Field(1e-2, ge=0)
    average: float = Field(0.99, ge=0, lt=1)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    validate_every: int | None = Field(None, ge=1)
    patience: int | None = Field(None, ge=1)
    keep: Literal["last", "best"] | None = None
    log_every: int = Field(10, ge=1)
    checkpoint_seconds: float = Field(60.0, ge=0)
    augmentation: Augmentation = Augmentation()
    blending: Blending = Blending()

    @property
    def uses_synthetic(self) -> bool:
        """Whether any step has synthetic slices."""
        return self.blending.uses_synthetic(self.ratio)


def check_options(values: dict[str, Any], *, begun: SegmentOptions | None = None) -> SegmentOptions:
    """Return the checked options.

    Args:
        values: What was given; None counts as not given.
        begun: Options of a run that is to be resumed, which stand in for what was not given.

    Raises:
        UserError: If an option does not exist or has a wrong value.
    """
    return checked(SegmentOptions, values, begun=begun)
