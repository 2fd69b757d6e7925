"""The last steps of reading what has no description: label values, patients, notes."""

from pathlib import Path

from synthmed.data.readers.base import Dataset, Modality, ReadOptions
from synthmed.data.readers.cases import Found
from synthmed.data.readers.description import UNNAMED
from synthmed.data.readers.found import find_labels
from synthmed.data.readers.patients import assign_patients


def labelled_dataset(
    found: Found,
    path: Path,
    options: ReadOptions,
    *,
    layout: str,
    channels: tuple[str, ...],
    modalities: tuple[Modality, ...],
    numbered: bool = False,
) -> Dataset:
    """Return a data set of found cases: with the label values that are in the files, or without labels at all.

    Args:
        found: Cases by their names.
        path: The data set.
        options: What the user says.
        layout: Name of the layout.
        channels: Names of the channels.
        modalities: Their kinds.
        numbered: See `assign_patients`.

    Raises:
        UserError: If label values are no classes, or the pattern of patients is wrong.
    """
    cases, patients = assign_patients(found.cases, options.patient_pattern, folders=found.folders, numbered=numbered)
    classes: tuple[str, ...] = ("background",)
    values: tuple[int, ...] = (0,)
    labelled = any(case.label is not None for case in cases) or bool(found.orphans)
    if labelled:
        labels = find_labels(cases, path)
        cases, classes, values = labels.cases, labels.classes, labels.values
        said = labels.note
    else:
        said = "no label maps found: images alone; --label PATTERN says which files are label maps"
    first = cases[0].images[0].path.name if cases else ""
    return Dataset(
        path=path,
        name=UNNAMED,
        licence="unknown",
        layout=layout,
        channels=channels,
        classes=classes,
        label_values=values,
        cases=cases,
        modalities=modalities,
        orphans=found.orphans,
        notes=(*found.notes, said, *patients),
        file_ending="".join(Path(first).suffixes[-2:]) if first.lower().endswith(".gz") else Path(first).suffix,
        labelled=labelled,
    )
