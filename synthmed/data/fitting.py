"""What is fitted to training patients: which intensities of each channel a plan scales to -1 and 1."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from pydantic import ValidationError

from synthmed.data.foreground import HOUNSFIELD_RANGE, HOUNSFIELD_STEP
from synthmed.data.inspect import CaseFingerprint
from synthmed.data.schema import Scaling, Split
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
