"""Reader of the layouts with a dataset.json: nnU-Net raw and the Medical Segmentation Decathlon."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synthmed.data.formats import NIFTI_ENDINGS, PICTURE_ENDINGS, VOLUME_ENDINGS, NiftiSource, Source, source_of
from synthmed.data.readers.base import CaseFiles, Dataset, Modality, ReadOptions, natural_key, visible_files
from synthmed.data.readers.naming import assign_patients
from synthmed.errors import UserError
from synthmed.files import read_json

FILE = "dataset.json"
UNNAMED = "unnamed"
"""Name of a data set that has none: its folder's may tell of people, and would be in all that is made of it."""
_LONGEST = 100


def read_description(path: Path) -> dict[str, Any]:
    """Return the content of a folder's dataset.json.

    Raises:
        UserError: If it is missing or not a JSON object.
    """
    content = read_json(path / FILE)
    if not isinstance(content, dict):
        raise UserError(f"{path / FILE} is not a JSON object: write it as the data set's layout asks")
    return content


def described_channels(path: Path) -> tuple[str, ...] | None:
    """Return the names of the channels in a folder's dataset.json, of whichever layout; None where there is none.

    Raises:
        UserError: If the description is wrong.
    """
    if not (path / FILE).is_file():
        return None
    content = read_description(path)
    key = next((key for key in ("channel_names", "modality") if key in content), None)
    return None if key is None else channel_names(content, key, path)


def channel_names(content: dict[str, Any], key: str, path: Path) -> tuple[str, ...]:
    """Return the names of the channels, in the order of their numbers.

    Raises:
        UserError: If they are not numbered from 0 without a gap.
    """
    named = content.get(key)
    if not isinstance(named, dict) or set(named) != {str(number) for number in range(len(named))} or not named:
        raise UserError(f'{path / FILE}: "{key}" must name the channels by number, as {{"0": "T1", "1": "FLAIR"}}')
    return tuple(str(named[str(number)]) for number in range(len(named)))


def class_table(pairs: list[tuple[str, Any]], path: Path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return class names and their values, sorted by value, from (name, value) pairs.

    Raises:
        UserError: If values are no integers or repeat, names repeat, or no class has the value 0.
    """
    try:
        table = sorted((int(str(value)), str(name)) for name, value in pairs)
    except ValueError:
        raise UserError(f'{path / FILE}: each of "labels" must have one whole number') from None
    values, names = tuple(value for value, _ in table), tuple(name for _, name in table)
    if not values or values[0] != 0:
        raise UserError(f'{path / FILE}: "labels" must have a background with the value 0 and no negative value')
    if len(set(values)) < len(values) or len(set(names)) < len(names):
        raise UserError(f'{path / FILE}: two of "labels" have the same name or value')
    if len(values) > 256:
        raise UserError(f'{path / FILE}: {len(values)} "labels" are more than the 256 that a store holds')
    return names, values


def name_of(content: dict[str, Any]) -> str:
    """Return the name that a description states, in one line, else `UNNAMED`."""
    return " ".join(str(content.get("name") or "").split())[:_LONGEST] or UNNAMED


def licence_of(content: dict[str, Any]) -> str:
    """Return the licence that a description states, in either spelling, else "unknown"."""
    return str(content.get("licence") or content.get("license") or "unknown")


_MRI = re.compile(
    r"mri?|t1\w*|t2\w*|flair\w*|pd\w{0,2}|adc|dwi\w*|dce\w*|swi|swan|tof|bold|fmri|asl|dti|mprage|ti?rse|stir|lge|cine",
    re.IGNORECASE,
)


def modality_of(channel: str) -> Modality:
    """Return the kind of a channel's intensities: "CT" where it is named so, "MRI" for its sequences, else "other"."""
    parts = [part for part in re.split(r"[^0-9A-Za-z]+", channel) if part]
    if any(part.upper() == "CT" for part in parts):
        return "CT"
    return "MRI" if any(_MRI.fullmatch(part) for part in parts) else "other"


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
