"""Medical Segmentation Decathlon: dataset.json lists image and label files; several channels are a fourth axis.

Source: http://medicaldecathlon.com, Simpson et al. 2019, arXiv:1902.09063.
"""

from pathlib import Path
from typing import Any

from synthmed.data.readers.base import CaseFiles, Dataset, ReadOptions, natural_key, visible_files
from synthmed.data.readers.description import FILE, channel_names, class_table, licence_of, name_of, read_description
from synthmed.data.readers.modality import modality_of
from synthmed.data.readers.patients import assign_patients
from synthmed.data.volumes import NIFTI_ENDINGS, NiftiSource
from synthmed.errors import UserError


class DecathlonReader:
    """Reads the layout of the Medical Segmentation Decathlon."""

    def recognises(self, path: Path) -> bool:
        """Return whether the folder has a dataset.json with "modality"."""
        return (path / FILE).is_file() and "modality" in read_description(path)

    def read(self, path: Path, options: ReadOptions) -> Dataset:
        """Return the training part of the set; files under `test` have no labels and are left out."""
        content = read_description(path)
        labels = content.get("labels")
        if not isinstance(labels, dict):
            raise UserError(f'{path / FILE}: "labels" must give each value its name, as {{"0": "background"}}')
        classes, values = class_table([(str(name), value) for value, name in labels.items()], path)
        channels = channel_names(content, "modality", path)
        cases = [_case(entry, path) for entry in _training(content, path)]
        cases.sort(key=lambda case: natural_key(case.case))
        names = [case.case for case in cases]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise UserError(f'{path / FILE}: "training" lists {twice} twice: keep it once')
        cases, notes = assign_patients(cases, options.patient_pattern)
        ending = ".nii" if cases and cases[0].images[0].path.name.lower().endswith(".nii") else ".nii.gz"
        listed = {case.label.path for case in cases if case.label}
        return Dataset(
            path=path,
            name=name_of(content),
            licence=licence_of(content),
            layout="Medical Segmentation Decathlon",
            channels=channels,
            classes=classes,
            label_values=values,
            cases=cases,
            modalities=tuple(modality_of(channel) for channel in channels),
            notes=notes,
            orphans=[label for label in visible_files(path / "labelsTr", ending) if label not in listed],
            file_ending=ending,
        )


def _training(content: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    entries = content.get("training")
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("image"), str) for entry in entries
    ):
        raise UserError(f'{path / FILE}: "training" must list {{"image": ..., "label": ...}} pairs')
    return entries


def _case(entry: dict[str, Any], path: Path) -> CaseFiles:
    image = _inside(path, entry["image"])
    label = _inside(path, entry["label"]) if isinstance(entry.get("label"), str) else None
    ending = next((ending for ending in NIFTI_ENDINGS if image.name.lower().endswith(ending)), None)
    if ending is None:
        raise UserError(f"{path / FILE}: {entry['image']} is no NIfTI file (.nii.gz or .nii)")
    case = image.name[: -len(ending)]
    known = NiftiSource(label) if label and label.is_file() else None
    return CaseFiles(case=case, patient=case, images=(NiftiSource(image),), label=known)


def _inside(path: Path, name: str) -> Path:
    if "\0" in name:
        raise UserError(f"{path / FILE}: {name!r} is no file's name: correct the path")
    joined = path / name
    if not joined.resolve().is_relative_to(path.resolve()):
        raise UserError(f"{path / FILE}: {name} lies outside the data set: move it into {path} and correct the path")
    return joined
