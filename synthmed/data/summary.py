"""A fingerprint and a store in words."""

from collections import Counter
from collections.abc import Iterable

import numpy as np

from synthmed.data.checks import Fingerprint
from synthmed.data.geometry import AXIS_NAMES
from synthmed.data.schema import SPLITS
from synthmed.data.store import Store

_UNITS = {"CT": "HU", "MRI": "no unit", "picture": "grey values", "other": "unit not known"}
_SPLIT_NAMES = {"train": "training", "val": "validation", "test": "test"}


def fingerprint_rows(found: Fingerprint) -> list[tuple[str, str]]:
    """Return what a data set is like as (name, value) rows; figures are over the cases that have no problem."""
    rows = [
        ("Layout", found.layout),
        ("Licence", found.licence),
        ("Patients", str(found.patients)),
        ("Cases without problems", str(len(found.cases))),
        ("Channels", ", ".join(found.channels)),
    ]
    if not found.cases:
        return [*rows, ("Classes", ", ".join(_named(found)))]
    return [*rows, *_geometry_rows(found), *_intensity_rows(found), *_label_rows(found)]


def _geometry_rows(found: Fingerprint) -> list[tuple[str, str]]:
    shapes = np.array([case.geometry.shape for case in found.cases])
    spacings = np.array([case.geometry.zooms for case in found.cases])
    named = {case.geometry.xyzt_units[0] for case in found.cases}
    units = sorted("a unit not said" if unit == "unknown" else unit for unit in named)
    types = Counter(case.geometry.dtype for case in found.cases).most_common()
    return [
        ("Shape (smallest, median, largest)", _range(shapes, ".0f")),
        (f"Spacing in {'/'.join(units)} (smallest, median, largest)", _range(spacings, ".3g")),
        ("Orientations (cases)", _counted(found.orientations().items())),
        ("Stored as (cases)", _counted(types)),
    ]


def _intensity_rows(found: Fingerprint) -> list[tuple[str, str]]:
    rows = []
    modalities = found.modalities or ("other",) * len(found.channels)
    for number, (channel, modality) in enumerate(zip(found.channels, modalities, strict=True)):
        low = min(case.minimum[number] for case in found.cases)
        high = [case.maximum[number] for case in found.cases]
        values = f"{low:.6g} to {max(high):.6g}, median maximum {np.median(high):.6g}"
        rows.append((f"Intensities of {channel} ({_UNITS[modality]})", values))
    return rows


def _label_rows(found: Fingerprint) -> list[tuple[str, str]]:
    if not any(sum(case.voxels) + case.ignored for case in found.cases):
        return [("Classes", "no label maps: images alone")]
    total = len(found.cases)
    rows = [
        (f"Class {name}", f"{share:.2%} of voxels, in {shown} of {_count(total, 'case')}")
        for name, share, shown in zip(_named(found), found.class_shares(), found.class_cases(), strict=True)
    ]
    if found.ignore_value is not None:
        rows.append((f"Ignored ({found.ignore_value})", f"{found.ignored_share():.2%} of voxels"))
    for name, values in found.regions.items():
        rows.append((f"Region {name}", "values " + ", ".join(map(str, values))))
    slices = np.median([case.foreground_slices for case in found.cases], axis=0)
    shape = np.median([case.geometry.shape for case in found.cases], axis=0)
    rows.append(("Slices with foreground along each axis (median)", f"{_join(slices, '.0f')} of {_join(shape, '.0f')}"))
    return rows


def store_lines(store: Store, *, cases_in_dataset: int) -> list[str]:
    """Return what a store holds and what a user should know of how it was made, line by line."""
    plan, cases = store.plan, store.cases()
    lines = [
        f"{store.path}: {store.dataset}, {len(store)} {AXIS_NAMES[plan.axis]} slices of {plan.size[0]} x {plan.size[1]}"
        f" pixels of {plan.spacing[0]:.3g} x {plan.spacing[1]:.3g}, channels {', '.join(store.channels)},"
        f" {'classes ' + ', '.join(store.classes) if store.labelled else 'no labels'}"
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
    if not store.labelled:
        lines.append(
            "images without labels can be shown to a `base` generator beside labelled ones (--set unlabelled=)"
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


def _named(found: Fingerprint) -> list[str]:
    return [f"{name} ({value})" for name, value in zip(found.classes, found.label_values, strict=True)]


def _counted(pairs: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in pairs)


def _range(values: np.ndarray, style: str) -> str:
    return "; ".join(_join(row, style) for row in (values.min(axis=0), np.median(values, axis=0), values.max(axis=0)))


def _join(values: Iterable[float], style: str) -> str:
    return " x ".join(format(float(value), style) for value in values)
