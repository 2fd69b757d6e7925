"""The options of a training run: what the user may set, what follows from the data, and how they are checked."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from synthmed.configuration import parse_yaml, read_yaml, short
from synthmed.errors import UserError
from synthmed.hardware import resolve_precision


class TrainOptions(BaseModel):
    """Options of one run. `None` and "auto" are replaced by `resolve`; a run folder holds the resolved ones.

    Sources of the defaults: StyleGAN2 (arXiv:1912.04958) and its `auto` settings for small images; the sizes are
    chosen for two CPU cores.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True, allow_inf_nan=False)

    variant: Literal["base", "mask", "cond"]
    seed: int = Field(0, ge=0, lt=2**31)
    kimg: float | None = Field(None, gt=0, description="Stop after so many thousand real images.")
    minutes: float | None = Field(None, gt=0, description="Stop after so many minutes of training.")
    batch: int = Field(8, ge=1)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    z_dim: int | None = Field(None, ge=1)
    w_dim: int | None = Field(None, ge=1)
    mapping_layers: int = Field(4, ge=1)
    channel_base: int | None = Field(None, ge=32)
    channel_max: int | None = Field(None, ge=16)
    minibatch_group: int = Field(4, ge=1)

    mask_planes: Literal["one-hot", "softened", "distance"] = "softened"
    injection: Literal["concatenate", "modulate"] = "concatenate"
    mismatched: float = Field(0.0, ge=0, lt=1, description="Weight of real images with another slice's mask (cond).")
    position: bool = Field(True, description="Tell the networks where a slice lies along its case.")
    shown: bool = Field(False, description="Tell the networks which classes a slice shows.")

    augment: Literal["none", "diff", "ada"] = "diff"
    augment_operations: tuple[str, ...] | None = None
    augment_target: float = Field(0.3, gt=-1, lt=1, description="Where the sign of D(real) is held (ada).")
    augment_kimg: float = Field(25.0, gt=0, description="Thousand images in which p could go from 0 to 1 (ada).")

    loss: Literal["logistic", "relativistic"] = "logistic"
    learning_rate: float = Field(0.002, gt=0)
    r1_gamma: float | None = Field(None, ge=0)
    r1_every: int | None = Field(None, ge=1)
    path_weight: float | None = Field(None, ge=0)
    path_every: int = Field(4, ge=1)
    path_decay: float = Field(0.01, gt=0, le=1)
    path_batch_shrink: int = Field(2, ge=1)
    style_mixing: float = Field(0.9, ge=0, le=1)
    ema_kimg: float | None = Field(None, gt=0)
    ema_rampup: float = Field(0.05, gt=0)

    checkpoint_seconds: float = Field(60.0, gt=0, description="Time between checkpoints.")
    snapshot_kimg: float | None = Field(None, gt=0, description="Thousand images between sample grids.")
    keep_checkpoints: int = Field(2, ge=1)
    distance_kimg: float | None = Field(None, gt=0, description="Thousand images between distances to held-out slices.")
    distance_slices: int = Field(512, ge=16, description="Slices that are drawn for that distance.")
    rollbacks: int = Field(3, ge=0, description="How often a diverged training goes back and on at half the rate.")

    init_from: str | None = Field(None, description="Run whose weights this one starts from.")
    unlabelled: str | None = Field(None, description="Store of images without label maps (base).")
    strategy: Literal["one", "mirrored", "workers"] = "one"
    steps_ahead: int | None = Field(None, ge=1, description="Steps that JAX does at a time; by the device.")

    @property
    def path_batch(self) -> int:
        """Slices in a batch of path-length regularisation."""
        return max(1, self.batch // self.path_batch_shrink)

    @field_validator("augment_operations")
    @classmethod
    def _known_operations(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        # Not at the top: augmentation needs Keras, and options are read by commands that do not.
        from synthmed.training.augmentation import AUGMENTATIONS

        unknown = [name for name in names or () if name not in AUGMENTATIONS]
        if unknown:
            raise ValueError(f"{unknown[0]} is none of {', '.join(AUGMENTATIONS)}")
        return names

    def architecture(self) -> tuple[int, int, int, int]:
        """Return (z_dim, w_dim, channel_base, channel_max) of resolved options.

        Raises:
            ValueError: If the options are not resolved.
        """
        if self.z_dim is None or self.w_dim is None or self.channel_base is None or self.channel_max is None:
            raise ValueError("the options are not resolved: call resolve first")
        return self.z_dim, self.w_dim, self.channel_base, self.channel_max


BUDGETS = ("kimg", "minutes")


def read_options(
    values: dict[str, Any],
    *,
    begun: TrainOptions | None = None,
    config: Path | None = None,
    assignments: tuple[str, ...] = (),
) -> TrainOptions:
    """Merge a YAML file, `key=value` assignments and explicit values, later ones winning, and check them.

    Args:
        values: Explicit values; those that are None do not count.
        begun: Options of the run that is resumed; they hold where nothing else is given, but for its budget.
        config: YAML file with a mapping of options, or None.
        assignments: Texts `key=value`; the value is read as YAML.

    Raises:
        UserError: If the file is not a mapping, or an option does not exist or has a wrong value.
    """
    merged = begun.model_dump(exclude=set(BUDGETS)) if begun else {}
    places: dict[str, str] = {}
    if config is not None:
        document = read_yaml(config)
        if not isinstance(document.value, dict):
            raise UserError(f"{config}: write a mapping of options, such as `batch: 16`")
        merged |= {str(key): value for key, value in document.value.items()}
        places |= {str(key): document.place([key]) for key in document.value}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--set {text}: write it as key=value")
        places[key.strip()] = f"--set {text[:60]}"
        merged[key.strip()] = parse_yaml(value, places[key.strip()]).value
    given = {key: value for key, value in values.items() if value is not None}
    return check_options(merged | given, {key: place for key, place in places.items() if key not in given})


def check_options(values: dict[str, Any], places: Mapping[str, str] | None = None) -> TrainOptions:
    """Return the checked options.

    Args:
        values: Options by name.
        places: Where options were written that come from a file, for messages.

    Raises:
        UserError: If an option does not exist (the nearest is suggested) or has a wrong value.
    """

    def wrong(key: str, what: str) -> UserError:
        place = (places or {}).get(key)
        return UserError(f"{place}: {what}" if place else what)

    for key in values:
        if key not in TrainOptions.model_fields:
            near = difflib.get_close_matches(key, TrainOptions.model_fields, n=1)
            hint = f"did you mean {near[0]}?" if near else "see `synthmed train --dry-run` for all of them"
            raise wrong(key, f"there is no option {key!r}: {hint}")
    try:
        return TrainOptions.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "options"
        told = f"option {name} = {short(first.get('input'))}: {first['msg'].lower()}"
        raise wrong(name.split(".")[0], told) from None


def resolve(options: TrainOptions, *, size: tuple[int, int], accelerator: bool = False) -> TrainOptions:
    """Return the options with everything that follows from the slice size, the batch and the hardware filled in.

    Args:
        options: As the user gave them.
        size: (height, width) of a slice.
        accelerator: Whether a GPU or TPU that has bfloat16 does the work.
    """
    longer = max(size)
    channel_max = options.channel_max or (128 if longer <= 64 else 256 if longer <= 128 else 512)
    policy = resolve_precision(options.precision, accelerator=accelerator)
    filled: dict[str, Any] = {
        "channel_base": options.channel_base or 32 * longer,
        "channel_max": channel_max,
        "z_dim": options.z_dim or channel_max,
        "w_dim": options.w_dim or channel_max,
        "r1_gamma": r1_heuristic(size, options.batch) if options.r1_gamma is None else options.r1_gamma,
        # The relativistic recipe has no path length, and stands or falls with its penalties on both sides.
        "r1_every": options.r1_every or (4 if options.loss == "relativistic" else 16),
        "path_weight": _path_weight(options),
        "augment_operations": _operations(options),
        "ema_kimg": options.ema_kimg or options.batch * 10 / 32,
        "precision": "bfloat16" if policy == "mixed_bfloat16" else "float32",
    }
    return options.model_copy(update=filled)


def _path_weight(options: TrainOptions) -> float:
    if options.path_weight is not None:
        return options.path_weight
    return 0.0 if options.loss == "relativistic" else 2.0


def _operations(options: TrainOptions) -> tuple[str, ...]:
    if options.augment == "none":
        return ()
    if options.augment_operations is not None:
        return options.augment_operations
    from synthmed.training.augmentation import ADA_OPERATIONS, DIFF_OPERATIONS

    return ADA_OPERATIONS if options.augment == "ada" else DIFF_OPERATIONS


def r1_heuristic(size: tuple[int, int], batch: int) -> float:
    """Return the weight of R1 for slices of `size` (height, width) and a batch.

    It grows with the pixels and shrinks with the batch as in StyleGAN2-ADA's automatic settings, at ten times their
    level: with few and mostly flat masks their discriminator outran the generator within a few hundred steps.
    """
    return 0.002 * size[0] * size[1] / batch
