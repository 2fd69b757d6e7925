"""The parts of dataset.json that Decathlon and nnU-Net share."""

from pathlib import Path
from typing import Any

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
