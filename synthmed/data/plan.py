"""The plan of a store: how cases become slices, fitted to training patients alone."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import ValidationError

from synthmed.data.geometry import AXIS_NAMES, VIEWS, kept_share, turn_shape, whole_box
from synthmed.data.inspect import CaseFingerprint, Fingerprint
from synthmed.data.intensities import HOUNSFIELD_RANGE, HOUNSFIELD_STEP
from synthmed.data.schema import IGNORE, Plan, Scaling, Split
from synthmed.errors import UserError, check_leak

SOFT_TISSUE = (-160, 240)
"""The window in which radiologists look at soft tissue (level 40, width 400), HU; no CT window is narrower."""
PERCENTILES = (0.5, 99.5)
DEVIATIONS = (-4.0, 4.0)
"""In four brain series and three channels of LGG at most 0.11 % of voxels were beyond; air was at -1.1 to -1.9."""
RULES = "auto, percentiles, zscore or window:LOW,HIGH"


def check_training(training: list[CaseFingerprint], split: dict[str, Split]) -> None:
    """Check that all of these cases are for training: nothing may be fitted to others.

    Raises:
        LeakError: If one is not.
    """
    others = [case.case for case in training if split.get(case.case) != "train"]
    check_leak(not others, f"{', '.join(others[:3])}: not for training, and nothing may be fitted to them")


def parse_rules(texts: Sequence[str], channels: Sequence[str]) -> list[str]:
    """Return the rule of each channel from texts as `--normalise` takes them: a rule for all, or CHANNEL=RULE.

    Raises:
        UserError: If a rule or a channel is not known.
    """
    general, rules = "auto", dict[str, str]()
    for text in texts:
        name, separator, rule = text.rpartition("=")
        if rule not in ("auto", "percentiles", "zscore"):
            _window(rule, text)
        if not separator:
            general = rule
        elif name in channels:
            rules[name] = rule
        else:
            raise UserError(f"--normalise {text}: there is no channel {name}, choose among {', '.join(channels)}")
    return [rules.get(name, general) for name in channels]


def fit_scaling(rule: str, channel: int, modality: str, training: list[CaseFingerprint]) -> tuple[Scaling, str]:
    """Return how a channel is scaled, and why so in a few words.

    Args:
        rule: From `parse_rules`; "auto" follows the modality.
        channel: Number of the channel.
        modality: Kind of its intensities, see `Dataset`.
        training: Fingerprints of the training cases alone.
    """
    if rule.startswith("window:"):
        return _window(rule, rule), "as the option says"
    if rule == "zscore":
        return Scaling(method="zscore", low=DEVIATIONS[0], high=DEVIATIONS[1]), "as the option says"
    if rule == "percentiles":
        return Scaling(low=PERCENTILES[0], high=PERCENTILES[1]), "as the option says"
    if modality == "CT":
        return _hounsfield_window(channel, training)
    if modality == "picture":
        return _picture_window(training)
    what = "MRI has no unit" if modality == "MRI" else "its unit is not known"
    return Scaling(low=PERCENTILES[0], high=PERCENTILES[1]), f"{what}: each case by its own percentiles"


def _hounsfield_window(channel: int, training: list[CaseFingerprint]) -> tuple[Scaling, str]:
    counts: Counter[int] = Counter()
    for case in training:
        if channel < len(case.hounsfield):
            counts.update(case.hounsfield[channel])
    low, high = SOFT_TISSUE
    reason = "CT without a labelled voxel in training: the window of soft tissue"
    if counts:
        bins = sorted(counts)
        reached = np.cumsum([counts[number] for number in bins]) / counts.total()
        # The bin in which a percentile lies counts whole, so that the window is rounded outwards.
        first = bins[int(np.searchsorted(reached, PERCENTILES[0] / 100))]
        last = bins[int(np.searchsorted(reached, PERCENTILES[1] / 100))] + HOUNSFIELD_STEP
        low, high = min(low, first), max(high, last)
        reason = (
            f"CT in HU: {PERCENTILES[0]:g} % to {PERCENTILES[1]:g} % of the training cases' foreground lie in {first}"
            f" to {last}; {SOFT_TISSUE[0]} to {SOFT_TISSUE[1]} at least"
        )
    return Scaling(method="window", low=max(low, HOUNSFIELD_RANGE[0]), high=min(high, HOUNSFIELD_RANGE[1])), reason


def _picture_window(training: list[CaseFingerprint]) -> tuple[Scaling, str]:
    types = {np.dtype(case.geometry.dtype) for case in training}
    highest = max(max(case.maximum) for case in training)
    lowest = min(min(case.minimum) for case in training)
    if lowest < 0 or any(kind.kind == "f" for kind in types):
        if lowest >= 0 and highest <= 1:
            return Scaling(method="window", low=0, high=1), "a picture of grey values from 0 to 1"
        return Scaling(low=PERCENTILES[0], high=PERCENTILES[1]), "a picture with values of no known range"
    bits = 8 if all(kind.itemsize == 1 for kind in types) else max(8, math.ceil(math.log2(highest + 1)))
    stored = max(kind.itemsize for kind in types) * 8
    reason = f"a picture, its full range: training cases use {bits} of {stored} bits"
    # All channels alike: colours must keep their proportions.
    return Scaling(method="window", low=0, high=2**bits - 1), reason


def _window(rule: str, text: str) -> Scaling:
    kind, _, numbers = rule.partition(":")
    try:
        low, high = (float(number) for number in numbers.split(","))
        if kind == "window":
            return Scaling(method="window", low=low, high=high)
    except (ValueError, ValidationError):
        pass
    raise UserError(f"--normalise {text}: give {RULES} (LOW below HIGH), or CHANNEL= before one of them")


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
