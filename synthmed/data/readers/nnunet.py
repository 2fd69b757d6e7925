"""nnU-Net raw, version 2: `imagesTr/CASE_0000.nii.gz` (a file a channel), `labelsTr/CASE.nii.gz`, dataset.json.

Source: nnU-Net's documentation/dataset_format.md.
"""

import re
from pathlib import Path
from typing import Any

from synthmed.data.readers.base import CaseFiles, Dataset, ReadOptions, natural_key, visible_files
from synthmed.data.readers.description import FILE, channel_names, class_table, licence_of, read_description
from synthmed.data.volumes import NiftiSource
from synthmed.errors import UserError

ENDINGS = (".nii.gz", ".nii")


class NnunetReader:
    """Reads nnU-Net's raw layout."""

    def recognises(self, path: Path) -> bool:
        """Return whether the folder has a dataset.json with "channel_names"."""
        return (path / FILE).is_file() and "channel_names" in read_description(path)

    def read(self, path: Path, options: ReadOptions) -> Dataset:
        """Return the training part of the set; imagesTs has no labels and is left out."""
        content = read_description(path)
        ending = str(content.get("file_ending", ".nii.gz"))
        if ending not in ENDINGS:
            raise UserError(f'{path / FILE}: file_ending "{ending}" is not read; convert the files to .nii.gz')
        classes, values = _classes(content, path)
        channels = channel_names(content, "channel_names", path)
        labels = {
            file.name.removesuffix(ending): NiftiSource(file) for file in visible_files(path / "labelsTr", ending)
        }
        cases = [
            CaseFiles(case=case, patient=case, images=tuple(files), label=labels.pop(case, None))
            for case, files in _grouped(path / "imagesTr", ending).items()
        ]
        return Dataset(
            path=path,
            name=str(content.get("name") or path.name),
            licence=licence_of(content),
            layout="nnU-Net raw",
            channels=channels,
            classes=classes,
            label_values=values,
            cases=cases,
            orphans=[label.path for label in labels.values()],
            file_ending=ending,
        )


def image_cases(folder: Path, channels: int) -> list[CaseFiles]:
    """Return the unlabelled cases of a folder of NIfTI files (see `read_images`)."""
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: give a data set or a folder of .nii.gz images")
    for ending in ENDINGS:
        grouped = _grouped(folder, ending)
        if grouped and all(len(files) == channels for files in grouped.values()):
            return [CaseFiles(case=case, patient=case, images=tuple(files)) for case, files in grouped.items()]
        whole = visible_files(folder, ending)
        if whole and not grouped:
            names = [file.name.removesuffix(ending) for file in whole]
            return [
                CaseFiles(case=name, patient=name, images=(NiftiSource(file),))
                for name, file in zip(names, whole, strict=True)
            ]
        for case, files in grouped.items():
            if len(files) != channels:
                raise UserError(f"{folder}: {case} has {len(files)} channel files, the model needs {channels}")
    raise UserError(f"{folder} holds no .nii.gz image: give a data set or a folder of images")


def _grouped(folder: Path, ending: str) -> dict[str, list[NiftiSource]]:
    groups: dict[str, list[NiftiSource]] = {}
    for file in visible_files(folder, ending):
        match = re.fullmatch(r"(.+)_(\d{4})", file.name.removesuffix(ending))
        if match:
            groups.setdefault(match[1], []).append(NiftiSource(file))
    return dict(sorted(groups.items(), key=lambda item: natural_key(item[0])))


def _classes(content: dict[str, Any], path: Path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    labels = content.get("labels")
    if not isinstance(labels, dict):
        raise UserError(f'{path / FILE}: "labels" must give each name its value, as {{"background": 0}}')
    if any(isinstance(value, list) for value in labels.values()) or "regions_class_order" in content:
        raise UserError(f"{path / FILE}: region-based labels are not read yet; give each class one value")
    if "ignore" in labels:
        raise UserError(f'{path / FILE}: the "ignore" label is not read yet; label every voxel and remove it')
    return class_table(list(labels.items()), path)
