"""The options of a training run: as they are asked for, as they are run, and how they are read and checked."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from synthmed.configuration import parse_yaml, read_yaml, short
from synthmed.errors import UserError
from synthmed.hardware import resolve_precision

BUDGETS = ("kimg", "minutes")
# Names in files and commands of before.
ALIASES = {"shown": "class_presence", "mask_planes": "mask_channels"}
# Weight of the path length regulariser, steps between those of R1: the relativistic recipe has no path length, and
# stands or falls with its penalties on both sides.
LOSS_DEFAULTS = {"logistic": (2.0, 16), "relativistic": (0.0, 4)}


class TrainOptions(BaseModel):
    """Options of one run as they are asked for; `resolve` replaces None and "auto".

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

    mask_channels: Literal["one-hot", "softened", "distance"] = "softened"
    injection: Literal["concatenate", "modulate"] = "concatenate"
    mismatched: float = Field(0.0, ge=0, lt=1, description="Weight of real images with another slice's mask (cond).")
    position: bool = Field(True, description="Condition the networks on where a slice lies along its case.")
    class_presence: bool = Field(False, description="Condition the networks on which classes are in a slice.")

    augment: Literal["none", "diff", "ada"] = "diff"
    augment_operations: tuple[str, ...] | None = None
    augment_target: float = Field(0.3, gt=-1, lt=1, description="The sign of D(real) to aim at (ada).")
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


class ResolvedOptions(TrainOptions):
    """Options of one run as it is trained, with all that follows from the data and the hardware.

    What stays None says that there is none: a budget, a run to start from, unlabelled images; or, of `steps_ahead`,
    that each machine decides.
    """

    precision: Literal["float32", "bfloat16"]
    z_dim: int
    w_dim: int
    channel_base: int
    channel_max: int
    augment_operations: tuple[str, ...]
    r1_gamma: float
    r1_every: int
    path_weight: float
    ema_kimg: float
    snapshot_kimg: float
    distance_kimg: float

    def with_kimg(self, kimg: float | None) -> "ResolvedOptions":
        """Return the options with another budget, and the intervals that follow from it."""
        intervals = _intervals(kimg)
        return self.model_copy(update={"kimg": kimg} | {name: intervals[name] for name in self.follow_budget})

    @property
    def follow_budget(self) -> set[str]:
        """Names of the intervals that are those of the budget."""
        return {name for name, value in _intervals(self.kimg).items() if getattr(self, name) == value}

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_versions(cls, values: Any) -> Any:
        """Take run files of versions that had other names, and intervals that were not yet resolved."""
        if not isinstance(values, dict):
            return values
        values, kimg = renamed(values), values.get("kimg")
        for name, value in _intervals(kimg if isinstance(kimg, int | float) else None).items():
            values[name] = value if values.get(name) is None else values[name]
        return values


def read_options(
    values: dict[str, Any],
    *,
    existing_run: ResolvedOptions | None = None,
    config: Path | None = None,
    assignments: tuple[str, ...] = (),
) -> TrainOptions:
    """Merge a YAML file, `key=value` assignments and explicit values, later ones winning, and check them.

    Args:
        values: Explicit values; those that are None do not count.
        existing_run: Options of the run that is resumed; they count where nothing else is given, but for its budget and
            what follows from that.
        config: YAML file with a mapping of options, or None.
        assignments: Texts `key=value`; the value is read as YAML.

    Raises:
        UserError: If the file is not a mapping, or an option does not exist or has a wrong value.
    """
    merged: dict[str, Any] = {}
    if existing_run:
        merged = existing_run.model_dump(exclude={*BUDGETS, *existing_run.follow_budget})
    places: dict[str, str] = {}
    if config is not None:
        document = read_yaml(config)
        if not isinstance(document.value, dict):
            raise UserError(f"{config}: write a mapping of options, such as `batch: 16`")
        merged |= renamed({str(key): value for key, value in document.value.items()})
        places |= renamed({str(key): document.place([key]) for key in document.value})
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--set {text}: write it as key=value")
        place = f"--set {text[:60]}"
        merged |= renamed({key.strip(): parse_yaml(value, place).value})
        places |= renamed({key.strip(): place})
    given = {key: value for key, value in values.items() if value is not None}
    return check_options(merged | given, {key: place for key, place in places.items() if key not in given})


def renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return options by the names of today."""
    return {ALIASES.get(name, name): value for name, value in values.items()}


def check_options(values: dict[str, Any], places: Mapping[str, str] | None = None) -> TrainOptions:
    """Return the checked options.

    Args:
        values: Options by name, maybe a name of before.
        places: Where options were written that come from a file, for messages.

    Raises:
        UserError: If an option does not exist (the nearest is suggested) or has a wrong value.
    """

    def wrong(key: str, what: str) -> UserError:
        place = (places or {}).get(key)
        return UserError(f"{place}: {what}" if place else what)

    values = renamed(values)
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
        what = f"option {name} = {short(first.get('input'))}: {first['msg'].lower()}"
        raise wrong(name.split(".")[0], what) from None


def resolve(options: TrainOptions, *, size: tuple[int, int], accelerator: bool = False) -> ResolvedOptions:
    """Return the options with everything that follows from the slice size, the batch, the budget and the hardware.

    Args:
        options: As the user gave them; those of a run stay as they are.
        size: (height, width) of a slice.
        accelerator: Whether a GPU or TPU that has bfloat16 does the work.
    """
    longer = max(size)
    channel_max = options.channel_max or (128 if longer <= 64 else 256 if longer <= 128 else 512)
    policy = resolve_precision(options.precision, accelerator=accelerator)
    path_weight, r1_every = LOSS_DEFAULTS[options.loss]
    found: dict[str, Any] = {
        "channel_base": 32 * longer,
        "channel_max": channel_max,
        "z_dim": channel_max,
        "w_dim": channel_max,
        "r1_gamma": r1_heuristic(size, options.batch),
        "r1_every": r1_every,
        "path_weight": path_weight,
        "ema_kimg": options.batch * 10 / 32,
        **_intervals(options.kimg),
    }
    asked = {name: value for name, value in options.model_dump().items() if value is not None}
    fixed = {
        "augment_operations": _operations(options),
        "precision": "bfloat16" if policy == "mixed_bfloat16" else "float32",
    }
    return ResolvedOptions.model_validate(found | asked | fixed)


def _operations(options: TrainOptions) -> tuple[str, ...]:
    if options.augment == "none":
        return ()
    if options.augment_operations is not None:
        return options.augment_operations
    from synthmed.training.augmentation import ADA_OPERATIONS, DIFF_OPERATIONS

    return ADA_OPERATIONS if options.augment == "ada" else DIFF_OPERATIONS


def _intervals(kimg: float | None) -> dict[str, float]:
    """Return how many thousand images lie between sample grids and between distances, by the budget."""
    if kimg is None:
        return {"snapshot_kimg": 5.0, "distance_kimg": 2.0}
    return dict.fromkeys(("snapshot_kimg", "distance_kimg"), max(1.0, kimg / 12))


def r1_heuristic(size: tuple[int, int], batch: int) -> float:
    """Return the weight of R1 for slices of `size` (height, width) and a batch.

    It grows with the pixels and shrinks with the batch as in StyleGAN2-ADA's automatic settings, at ten times their
    level: with few and mostly flat masks their discriminator outran the generator within a few hundred steps.
    """
    return 0.002 * size[0] * size[1] / batch
