"""nnU-Net raw, version 2: `imagesTr/CASE_0000.nii.gz` (a file a channel), `labelsTr/CASE.nii.gz`, dataset.json.

Source: nnU-Net's documentation/dataset_format.md, region_based_training.md and ignore_label.md.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synthmed.data.readers.base import CaseFiles, Dataset, Modality, ReadOptions, natural_key, visible_files
from synthmed.data.readers.description import FILE, channel_names, class_table, licence_of, name_of, read_description
from synthmed.data.readers.modality import modality_of
from synthmed.data.readers.patients import assign_patients
from synthmed.data.volumes import PICTURE_ENDINGS, VOLUME_ENDINGS, Source, source_of
from synthmed.errors import UserError
from synthmed.files import read_json


class NnunetReader:
    """Reads nnU-Net's raw layout."""

    def recognises(self, path: Path) -> bool:
        """Return whether the folder has a dataset.json with "channel_names"."""
        return (path / FILE).is_file() and "channel_names" in read_description(path)

    def read(self, path: Path, options: ReadOptions) -> Dataset:
        """Return the training part of the set; imagesTs has no labels and is left out."""
        content = read_description(path)
        ending = str(content.get("file_ending", ".nii.gz"))
        if ending.lower() not in (*VOLUME_ENDINGS, *PICTURE_ENDINGS):
            raise UserError(f'{path / FILE}: file_ending "{ending}" is not read; convert the files to .nii.gz')
        labels = _labels(content, path)
        channels = channel_names(content, "channel_names", path)
        maps = {
            file.name.removesuffix(ending): _source(file, ending, mask=True)
            for file in visible_files(path / "labelsTr", ending)
        }
        cases = [
            CaseFiles(case=case, patient=case, images=_without_gap(files), label=maps.pop(case, None))
            for case, files in grouped_by_channel(path / "imagesTr", ending).items()
        ]
        cases, notes = assign_patients(cases, options.patient_pattern)
        picture = ending.lower() in PICTURE_ENDINGS
        return Dataset(
            path=path,
            name=name_of(content),
            licence=licence_of(content),
            layout="nnU-Net raw",
            channels=channels,
            classes=labels.classes,
            label_values=labels.values,
            cases=cases,
            modalities=tuple(_modality(channel, picture) for channel in channels),
            ignore_value=labels.ignore,
            regions=labels.regions,
            orphans=[label.path for label in maps.values()],
            notes=notes,
            file_ending=ending,
        )


def grouped_by_channel(folder: Path, ending: str) -> dict[str, dict[int, Source]]:
    """Return the files `CASE_0000` with this ending by their case, in natural order, and by their number."""
    groups: dict[str, dict[int, Source]] = {}
    for file in visible_files(folder, ending):
        match = re.fullmatch(r"(.+)_(\d{4})", file.name.removesuffix(ending))
        if match:
            groups.setdefault(match[1], {})[int(match[2])] = _source(file, ending, mask=False)
    return dict(sorted(groups.items(), key=lambda item: natural_key(item[0])))


def missing_number(numbers: Iterable[int]) -> int | None:
    """Return the first number from 0 that is left out below the highest; None where there is no gap."""
    known = set(numbers)
    return next((number for number in range(max(known, default=0)) if number not in known), None)


def _without_gap(files: dict[int, Source]) -> tuple[Source, ...]:
    """Return a case's channels in their order; what is missing among them is told when it is opened."""
    missing = missing_number(files)
    if missing is None:
        return tuple(files.values())
    some = next(iter(files.values())).path
    name = re.sub(r"_\d{4}(?=\.[^_]*$)", f"_{missing:04d}", some.name)
    return tuple(files[number] for number in files if number < missing) + (
        source_of(some.with_name(name)),
        *(files[number] for number in files if number > missing),
    )


def _modality(channel: str, picture: bool) -> Modality:
    known = modality_of(channel)
    return "picture" if picture and known == "other" else known


def _source(file: Path, ending: str, *, mask: bool) -> Source:
    return source_of(file, mask=mask, spacing=_spacing(file, ending) if ending.lower() in (".tif", ".tiff") else None)


def _spacing(file: Path, ending: str) -> tuple[float, float, float] | None:
    """Return what a TIFF file's JSON file says: for an image the case's, without the number of the channel."""
    stem = file.name.removesuffix(ending)
    for name in (stem, re.sub(r"_\d{4}$", "", stem)):
        beside = file.parent / f"{name}.json"
        if beside.is_file():
            content = read_json(beside)
            try:
                slices, rows, columns = (float(value) for value in content["spacing"])
            except (ValueError, KeyError, TypeError, OverflowError):
                raise UserError(f'{beside} must hold {{"spacing": [slices, rows, columns]}}: write it in mm') from None
            if not all(0 < value < math.inf for value in (slices, rows, columns)):
                raise UserError(f"{beside} has a spacing that is not above 0: write it in mm")
            return columns, rows, slices
    return None


@dataclass(frozen=True)
class _Labels:
    classes: tuple[str, ...]
    values: tuple[int, ...]
    ignore: int | None = None
    regions: dict[str, tuple[int, ...]] = field(default_factory=dict)


def _labels(content: dict[str, Any], path: Path) -> _Labels:
    labels = content.get("labels")
    if not isinstance(labels, dict):
        raise UserError(f'{path / FILE}: "labels" must give each name its value, as {{"background": 0}}')
    labels = dict(labels)
    ignore = _ignore_value(labels, path)
    if any(isinstance(value, list) for value in labels.values()) or "regions_class_order" in content:
        return _regions(labels, content.get("regions_class_order"), ignore, path)
    classes, values = class_table(list(labels.items()), path)
    return _Labels(classes=classes, values=values, ignore=ignore)


def _ignore_value(labels: dict[str, Any], path: Path) -> int | None:
    """Take the label "ignore" out of `labels` and return its value."""
    if "ignore" not in labels:
        return None
    value = labels.pop("ignore")
    others = [one for own in labels.values() for one in (own if isinstance(own, list) else [own])]
    if not _is_whole(value) or not all(map(_is_whole, others)) or value <= max(others, default=0):
        raise UserError(f'{path / FILE}: the "ignore" label must have the highest value of all "labels", one number')
    return int(value)


def _regions(labels: dict[str, Any], order: Any, ignore: int | None, path: Path) -> _Labels:
    """Return classes that are label values, each named as the last region of which it is a part of its own."""
    regions = {
        name: tuple(sorted(set(value))) if isinstance(value, list) and all(map(_is_whole, value)) else (value,)
        for name, value in labels.items()
    }
    background = [name for name, values in regions.items() if values == (0,)]
    if not all(_is_whole(value) and value >= 0 for values in regions.values() for value in values) or not background:
        raise UserError(f'{path / FILE}: "labels" must be whole numbers or lists of them, with a background of 0')
    regions = {name: values for name, values in regions.items() if name not in background}
    if not isinstance(order, list) or len(order) != len(regions) or not all(map(_is_whole, order)):
        raise UserError(
            f'{path / FILE}: "regions_class_order" must give a label value for each of the {len(regions)} regions'
        )
    own = dict(zip(order, regions, strict=True))
    known = {value for values in regions.values() for value in values}
    for value, name in own.items():
        if value not in regions[name]:
            raise UserError(f'{path / FILE}: "regions_class_order" has {value} for {name}, which is no part of it')
    if len(own) < len(order) or 0 in known:
        raise UserError(
            f'{path / FILE}: two regions have one value in "regions_class_order", or background is a region'
        )
    pairs = [(background[0], 0), *((own.get(value, f"label {value}"), value) for value in sorted(known))]
    classes, values = class_table(pairs, path)
    return _Labels(classes=classes, values=values, ignore=ignore, regions=regions)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
