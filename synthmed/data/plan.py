"""From a fingerprint to the plan by which cases become slices."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from synthmed.data.fitting import check_training, fit_scaling, parse_rules
from synthmed.data.foreground import kept_share, whole_box
from synthmed.data.inspect import CaseFingerprint, Fingerprint
from synthmed.data.orientation import AXIS_NAMES, VIEWS, turn_shape
from synthmed.data.schema import IGNORE, Plan, Split
from synthmed.errors import UserError

SIZE_STEP, SMALLEST, LARGEST = 16, 32, 256
# The networks halve a slice three times.
HALVABLE = 8
# Slices are cut across the axis with the largest voxels if these are at least this much longer than the others.
ANISOTROPY = 1.2
CROP_BELOW = 0.75
"""Margins are cut off where the median training case keeps at most this share of its voxels."""

Slices = Literal["all", "foreground", "balanced"]


@dataclass(frozen=True)
class PlanOptions:
    """What a user may say of a plan; what is None or "auto" follows from the data.

    Attributes:
        axis: "sagittal", "coronal" or "axial"; by default the axis along which voxels are longest, else axial.
        size: Rows and columns of a slice; by default the smallest multiples of 16 that hold the largest case, within
            32..256.
        spacing: Pixel size (row, column); by default the median over the training cases, made coarser where the
            largest case would not fit `size`.
        normalise: How channels are scaled, see `parse_rules`.
        bias_correction: Whether MRI is freed of slow shading.
        crop: Whether margins without content are cut off; "auto": where the median training case keeps at most three
            quarters of its voxels.
        slices: Which training slices are offered to a training.
    """

    axis: str | None = None
    size: tuple[int, int] | None = None
    spacing: tuple[float, float] | None = None
    normalise: tuple[str, ...] = ()
    bias_correction: bool = False
    crop: Literal["auto", "yes", "no"] = "auto"
    slices: Slices = "all"


@dataclass(frozen=True)
class ExplainedPlan:
    """A plan and why it is so.

    Attributes:
        plan: The plan.
        reasons: By field of a plan, in a few words; for "intensities" see `scalings`.
        scalings: The same for the intensities of each channel.
    """

    plan: Plan
    reasons: dict[str, str]
    scalings: tuple[str, ...]


def explain_plan(
    fingerprint: Fingerprint, *, split: dict[str, Split], options: PlanOptions | None = None
) -> ExplainedPlan:
    """Return a plan that fits a data set, and why: what is given is kept and the rest follows from the fingerprint.

    Axis, spacing, intensities and crop are fitted to the training cases alone. The size is no fit but a capacity: it
    holds the largest case of all, so that none is cut for being in another part.

    Args:
        fingerprint: Of the data set.
        split: Where each case belongs that is to be prepared.
        options: What the user says.

    Raises:
        UserError: If an option has no sensible value, or there are more classes than a label map of a store can tell
            apart.
    """
    if len(fingerprint.label_values) > IGNORE:
        raise UserError(
            f"{fingerprint.dataset} has {len(fingerprint.label_values)} classes, there can be {IGNORE} with the"
            " background: put several into one"
        )
    options = options or PlanOptions()
    training = [case for case in fingerprint.cases if split.get(case.case) == "train"]
    if not training:
        raise UserError(f"{fingerprint.dataset} has no training case, to which a plan is fitted: give another --split")
    modalities = fingerprint.modalities or ("other",) * len(fingerprint.channels)
    rules = parse_rules(options.normalise, fingerprint.channels)
    if options.bias_correction:
        _refuse_bias_correction(fingerprint.channels, modalities)
    voxels = np.sum([case.voxels for case in training], axis=0)
    if options.slices != "all" and voxels.any() and not voxels[1:].any():
        raise UserError(f"--slices {options.slices}: no training case shows any class, leave it out")
    check_training(training, split)
    number, why_axis = _axis(training, options.axis)
    crop, why_crop = _crop(training, options.crop)
    size, spacing, why_size, why_spacing = _frame(fingerprint, training, VIEWS[number], crop, options)
    fitted = [
        fit_scaling(rule, channel, modality, training)
        for channel, (rule, modality) in enumerate(zip(rules, modalities, strict=True))
    ]
    plan = Plan(
        axis=number,
        size=size,
        spacing=spacing,
        intensities=tuple(scaling for scaling, _ in fitted),
        label_values=fingerprint.label_values,
        channels=len(fingerprint.channels),
        ignore_value=fingerprint.ignore_value,
        bias_correction=options.bias_correction,
        crop=crop,
        slices=options.slices,
    )
    reasons = {"axis": why_axis, "size": why_size, "spacing": why_spacing, "crop": why_crop}
    return ExplainedPlan(plan, reasons, tuple(reason for _, reason in fitted))


def check_frame(size: tuple[int, int], spacing: tuple[float, float]) -> None:
    """Do nothing where networks can work on slices of this size, and pixels have one.

    Raises:
        UserError: Elsewhere.
    """
    if min(spacing) <= 0 or not all(math.isfinite(value) for value in spacing):
        raise UserError(f"--spacing {spacing[0]:g}x{spacing[1]:g}: pixel sizes must be above 0")
    if any(side < SMALLEST or side % HALVABLE for side in size):
        raise UserError(f"--size {size[0]}x{size[1]}: sides must be multiples of {HALVABLE}, at least {SMALLEST}")


def _frame(
    fingerprint: Fingerprint, training: list[CaseFingerprint], view: str, crop: bool, options: PlanOptions
) -> tuple[tuple[int, int], tuple[float, float], str, str]:
    """Return size, spacing, and why."""
    pixels = options.spacing or _median_spacing(training, view)
    check_frame((SMALLEST, SMALLEST), pixels)
    needed = np.max([_extent(case, view, crop) for case in fingerprint.cases], axis=0) / np.asarray(pixels)
    size = options.size or _default_size(needed)
    check_frame(size, pixels)
    why_size = why_spacing = "as the option says"
    if options.size is None:
        why_size = f"multiples of {SIZE_STEP} that hold the largest of all cases, within {SMALLEST} to {LARGEST}"
    if options.spacing is None:
        why_spacing = f"the median of {_count(training)}"
        # Rounding to whole pixels may put half a pixel too many on a slice; that much is no reason to resample.
        coarser = max(1.0, *((needed - 0.5) / np.asarray(size)))
        if coarser > 1.0:
            coarser = max(needed / np.asarray(size))
            why_spacing += f", {coarser:.3g} times as coarse so that the largest case fits"
        pixels = (pixels[0] * coarser, pixels[1] * coarser)
    return size, (float(pixels[0]), float(pixels[1])), why_size, why_spacing


def _refuse_bias_correction(channels: tuple[str, ...], modalities: tuple[str, ...]) -> None:
    for name, modality in zip(channels, modalities, strict=True):
        if modality in ("CT", "picture"):
            kind = "CT" if modality == "CT" else "a picture"
            raise UserError(f"--bias-correction is for MRI alone, and channel {name} is {kind}: leave it out")


def _crop(training: list[CaseFingerprint], wish: str) -> tuple[bool, str]:
    shares = [kept_share(case.content or whole_box(case.geometry.shape), case.geometry.shape) for case in training]
    median = float(np.median(shares))
    measured = f"the median training case keeps {median:.0%} of its voxels"
    if wish == "auto":
        return median <= CROP_BELOW, f"{measured}; cropping is worth it up to {CROP_BELOW:.0%}"
    return wish == "yes", f"as the option says; {measured}"


def _axis(training: list[CaseFingerprint], axis: str | None) -> tuple[Literal[0, 1, 2], str]:
    if axis is not None:
        if axis not in AXIS_NAMES:
            raise UserError(f"--axis {axis}: choose {', '.join(AXIS_NAMES)}")
        return _number(AXIS_NAMES.index(axis)), "as the option says"
    median = np.median([_turned_zooms(case, "RAS") for case in training], axis=0)
    longest = int(np.argmax(median))
    if median[longest] >= ANISOTROPY * np.sort(median)[1]:
        return _number(longest), "across the longest voxels of the training cases"
    return 2, "axial, as voxels are about as long as wide"


def _count(training: list[CaseFingerprint]) -> str:
    return f"{len(training)} training cases" if len(training) > 1 else "the one training case"


def _number(axis: int) -> Literal[0, 1, 2]:
    return 0 if axis == 0 else 1 if axis == 1 else 2


def _turned_zooms(case: CaseFingerprint, target: str) -> np.ndarray:
    lengths = np.linalg.norm(np.asarray(case.geometry.affine)[:3, :3], axis=0)
    return np.array(turn_shape(tuple(lengths), source=case.orientation, target=target))


def _extent(case: CaseFingerprint, view: str, crop: bool) -> np.ndarray:
    box = case.content if crop and case.content else whole_box(case.geometry.shape)
    shape = turn_shape(tuple(stop - start for start, stop in box), source=case.orientation, target=view)
    return np.array(shape[:2]) * _turned_zooms(case, view)[:2]


def _median_spacing(training: list[CaseFingerprint], view: str) -> tuple[float, float]:
    median = np.median([_turned_zooms(case, view)[:2] for case in training], axis=0)
    return float(median[0]), float(median[1])


def _default_size(needed: np.ndarray) -> tuple[int, int]:
    sides = [SIZE_STEP * math.ceil((side - 0.5) / SIZE_STEP) for side in needed]
    rows, columns = (int(np.clip(side, SMALLEST, LARGEST)) for side in sides)
    return rows, columns
