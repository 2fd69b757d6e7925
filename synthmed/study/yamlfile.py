"""Reading a study's configuration, and saying in which line it is wrong."""

from collections.abc import Sequence
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from synthmed.errors import UserError
from synthmed.study.config import Configuration, DataSet, Phantom, Scoring
from synthmed.study.model import Generator, Model, Recipe

Location = Sequence[str | int]
_PARTS: tuple[type[BaseModel], ...] = (Configuration, DataSet, Model, Generator, Recipe, Scoring, Phantom)


def preset_names() -> list[str]:
    """Return the names of the configurations that ship."""
    return sorted(one.name.removesuffix(".yaml") for one in _presets().iterdir() if one.name.endswith(".yaml"))


def preset_text(name: str) -> str:
    """Return the YAML of a configuration that ships."""
    return (_presets() / f"{name}.yaml").read_text(encoding="utf-8")


def read_configuration(source: str, *, paths: dict[str, Path] | None = None) -> Configuration:
    """Return the configuration of a YAML file, or of a preset by its name, with absolute paths.

    Args:
        source: The file, or the name of a preset; a file of that name goes before it.
        paths: Folders of data sets by name, instead of what the configuration says.

    Raises:
        UserError: If there is none, or something in it is wrong; the line is named.
    """
    path = Path(source)
    if path.is_file():
        folder, where = path.resolve().parent, str(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path} cannot be read: {error}") from None
    elif source in preset_names():
        folder, where, text = Path.cwd(), f"preset {source}", preset_text(source)
    else:
        raise UserError(f"{source} is no file and no preset: give a YAML file, or one of {', '.join(preset_names())}")
    return _located(parse_configuration(text, where), folder, paths or {})


def parse_configuration(text: str, where: str) -> Configuration:
    """Return the configuration that a YAML text says; `where` names the text in messages.

    Raises:
        UserError: If something in it is wrong.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be read"
        raise UserError(f"{where}{line}: not valid YAML ({problem}): mend the line") from None
    if not isinstance(value, dict) or node is None:
        raise UserError(f"{where}: write a mapping with data, patients, models and seeds")
    _refuse_twice(node, where)
    try:
        return Configuration.model_validate(value)
    except ValidationError as error:
        raise UserError(f"{where}, {_message(node, error)}") from None


def _presets() -> Any:
    return files("synthmed.study") / "presets"


def _located(configuration: Configuration, folder: Path, paths: dict[str, Path]) -> Configuration:
    """Return the configuration with absolute paths."""
    unknown = set(paths) - {one.name for one in configuration.data}
    if unknown:
        known = ", ".join(one.name for one in configuration.data)
        raise UserError(f"--data {sorted(unknown)[0]}=...: the study has no such data set, but {known}")
    data = []
    for one in configuration.data:
        changes: dict[str, Any] = {}
        if one.name in paths:
            changes = {"path": paths[one.name].resolve(), "phantom": None}
        elif one.path is not None:
            changes = {"path": (folder / one.path.expanduser()).resolve()}
        if isinstance(one.split, Path):
            changes["split"] = (folder / one.split.expanduser()).resolve()
        data.append(one.model_copy(update=changes))
    return configuration.model_copy(update={"data": tuple(data)})


def _message(node: yaml.Node, error: ValidationError) -> str:
    """Return the line and what is wrong there, of the first error."""
    # Where a value may be one of several kinds there is an error for each: the longest location says most.
    first = error.errors()[0]
    location = first["loc"]
    found, reached = _find(node, location)
    line = f"line {found.start_mark.line + 1}"
    name = str(location[-1]) if location else ""
    if first["type"] == "extra_forbidden":
        known = [field for part in _PARTS for field in part.model_fields]
        near = get_close_matches(name, known, n=1)
        return f"{line}: there is no key {name!r} here: " + (f"did you mean {near[0]}?" if near else "take it out")
    if first["type"] == "missing":
        return f"{line}: {name} is missing here: add it"
    place = ".".join(str(part) for part in location[:reached])
    text = first["msg"].removeprefix("Value error, ")
    given = "" if first["type"] == "value_error" else f" = {_short(first.get('input'))}"
    return f"{line}: {place}{given}: {text[:1].lower()}{text[1:]}" if place else f"{line}: {text}"


def _find(node: yaml.Node, location: Location) -> tuple[yaml.Node, int]:
    """Return the node at a location, or the last on the way there, and how many steps lead to it."""
    for number, step in enumerate(location):
        inner: yaml.Node | None = None
        if isinstance(node, yaml.MappingNode):
            inner = next((value for key, value in node.value if key.value == str(step)), None)
            last = number == len(location) - 1
            key = next((key for key, _ in node.value if key.value == str(step)), None)
            if last and key is not None:
                # The line of the key: its value may begin in the next one.
                return key, number + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            inner = node.value[step]
        if inner is None:
            return node, number
        node = inner
    return node, len(location)


def _refuse_twice(node: yaml.Node, where: str) -> None:
    """Refuse a key that stands twice in one mapping: YAML's reader would silently drop the first."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if key.value in seen:
                raise UserError(f"{where}, line {key.start_mark.line + 1}: {key.value} stands there twice: keep one")
            seen.add(key.value)
            _refuse_twice(value, where)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_twice(value, where)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
