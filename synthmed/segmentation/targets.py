"""What is scored: the classes or regions that a data set's description names, and what it says is not known."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthmed.data.readers import Dataset
from synthmed.files import read_json

DESCRIPTION = "dataset.json"


@dataclass(frozen=True)
class Target:
    """One class or region.

    Attributes:
        label: Number by which it is known in a table: the class's value, or the region's place in their order from 1.
        name: Its name.
        values: The values in the label files that it is made of.
    """

    label: int
    name: str
    values: tuple[int, ...]


@dataclass(frozen=True)
class Targets:
    """All that a description names.

    Attributes:
        named: Classes or regions.
        regions: Whether they are regions, which share values.
        ignore: Value in the reference that means "not known"; None where there is none.
    """

    named: tuple[Target, ...] = ()
    regions: bool = False
    ignore: int | None = None


def find_targets(reference: Path, first: Path) -> Targets:
    """Return what the description names that lies nearest to a folder of label files; nothing where there is none.

    Args:
        reference: The folder, or a data set with `labelsTr`.
        first: One of its label files.
    """
    folders = [reference, reference.parent, first.parent.parent]
    path = next((folder / DESCRIPTION for folder in folders if (folder / DESCRIPTION).is_file()), None)
    content = read_json(path) if path else {}
    labels = content.get("labels") if isinstance(content, dict) else None
    return _targets(labels) if isinstance(labels, dict) else Targets()


def targets_of(dataset: Dataset) -> Targets:
    """Return what a data set names, as its reader understood it."""
    classes = {name: (value,) for name, value in zip(dataset.classes[1:], dataset.label_values[1:], strict=True)}
    named = tuple(
        Target(number if dataset.regions else values[0], name, values)
        for number, (name, values) in enumerate((dataset.regions or classes).items(), start=1)
    )
    return Targets(named, bool(dataset.regions), dataset.ignore_value)


def _targets(labels: dict[str, Any]) -> Targets:
    # Medical Segmentation Decathlon writes {"1": "name"}, nnU-Net {"name": 1}, or {"name": [1, 2]} for a region.
    pairs = [(str(value), _whole([key])) if key.isdecimal() else (key, _whole(value)) for key, value in labels.items()]
    ignore = next((values[0] for name, values in pairs if name == "ignore" and len(values) == 1), None)
    kept = [(name, values) for name, values in pairs if values and values != (0,) and name != "ignore"]
    regions = any(len(values) > 1 for _, values in kept)
    named = tuple(
        Target(number if regions else values[0], name, values) for number, (name, values) in enumerate(kept, start=1)
    )
    return Targets(named, regions, ignore)


def _whole(value: Any) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(int(one) for one in values) if all(str(one).isdecimal() for one in values) else ()
