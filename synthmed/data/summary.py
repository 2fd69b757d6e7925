"""A fingerprint and a store in words."""

from collections.abc import Iterable

import numpy as np

from synthmed.data.inspect import Fingerprint
from synthmed.data.orientation import AXIS_NAMES
from synthmed.data.schema import SPLITS
from synthmed.data.store import Store

_SPLIT_NAMES = {"train": "training", "val": "validation", "test": "test"}


def fingerprint_rows(found: Fingerprint) -> list[tuple[str, str]]:
    """Return what a data set is like as (name, value) rows; figures are over the cases that have no problem."""
    rows = [
        ("Layout", found.layout),
        ("Licence", found.licence),
        ("Channels", ", ".join(found.channels)),
        ("Classes", _classes(found)),
        ("Patients", str(found.patients)),
        ("Cases without problems", str(len(found.cases))),
    ]
    if not found.cases:
        return rows
    shapes = np.array([case.geometry.shape for case in found.cases])
    spacings = np.array([case.geometry.zooms for case in found.cases])
    slices = np.array([case.foreground_slices for case in found.cases])
    units = sorted({case.geometry.xyzt_units[0] for case in found.cases})
    types = sorted({case.geometry.dtype for case in found.cases})
    orientations = (f"{codes} ({count})" for codes, count in found.orientations().items())
    rows += [
        ("Shape (smallest, median, largest)", _range(shapes, ".0f")),
        (f"Spacing in {'/'.join(units)} (smallest, median, largest)", _range(spacings, ".3g")),
        ("Orientations (cases)", ", ".join(orientations)),
        ("Stored as", ", ".join(types)),
    ]
    for number, channel in enumerate(found.channels):
        low = min(case.minimum[number] for case in found.cases)
        high = [case.maximum[number] for case in found.cases]
        rows.append(
            (f"Intensities of {channel}", f"{low:.6g} to {max(high):.6g}, median maximum {np.median(high):.6g}")
        )
    rows.append(("Slices with foreground along each axis (median)", _join(np.median(slices, axis=0), ".0f")))
    return rows


def store_lines(store: Store, *, cases_in_dataset: int) -> list[str]:
    """Return what a store holds and what a user should know of how it was made, line by line."""
    plan, cases = store.plan, store.cases()
    lines = [
        f"{store.path}: {store.dataset}, {len(store)} {AXIS_NAMES[plan.axis]} slices of {plan.size[0]} x {plan.size[1]}"
        f" pixels of {plan.spacing[0]:.3g} x {plan.spacing[1]:.3g}, channels {', '.join(store.channels)},"
        f" classes {', '.join(store.classes)}"
    ]
    for split in SPLITS:
        part = store.cases(split)
        patients = len({case.patient for case in part})
        count = sum(case.slices for case in part)
        note = "" if part else ": nothing can be measured on it"
        lines.append(
            f"{_SPLIT_NAMES[split]}: {_count(patients, 'patient')}, {_count(len(part), 'case')},"
            f" {_count(count, 'slice')}{note}"
        )
    if len(cases) < cases_in_dataset:
        why = "as the split asks" if store.labelled else "whose images the labelled store holds"
        lines.append(f"{cases_in_dataset - len(cases)} of {cases_in_dataset} cases were left out, {why}")
    resampled = sum(case.placement.step != (1.0, 1.0) for case in cases)
    cropped = sum(min(case.placement.start) < 0 for case in cases)
    freed = sum(case.placement.whole is not None for case in cases)
    if freed:
        lines.append(f"{_count(freed, 'case')} freed of margins without content, which return when a case is restored")
    if resampled:
        lines.append(f"{_count(resampled, 'case')} resampled to this pixel size")
    if cropped:
        lines.append(f"{_count(cropped, 'case')} cropped at the margins: a larger --size or --spacing keeps all")
    return lines


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _classes(found: Fingerprint) -> str:
    shares = found.class_shares()
    return ", ".join(
        f"{name} ({value}): {share:.2%}"
        for name, value, share in zip(found.classes, found.label_values, shares, strict=True)
    )


def _range(values: np.ndarray, style: str) -> str:
    return "; ".join(_join(row, style) for row in (values.min(axis=0), np.median(values, axis=0), values.max(axis=0)))


def _join(values: Iterable[float], style: str) -> str:
    return " x ".join(format(float(value), style) for value in values)
