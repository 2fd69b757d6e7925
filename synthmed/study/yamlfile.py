"""Reading a study's configuration: a file or a preset, with absolute paths."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from synthmed.configuration import Document, parse_yaml, read_yaml
from synthmed.errors import UserError
from synthmed.study.config import Configuration


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
        folder, document = path.resolve().parent, read_yaml(path)
    elif source in preset_names():
        folder, document = Path.cwd(), parse_yaml(preset_text(source), f"preset {source}")
    else:
        raise UserError(f"{source} is no file and no preset: give a YAML file, or one of {', '.join(preset_names())}")
    return _located(_checked(document), folder, paths or {})


def parse_configuration(text: str, where: str) -> Configuration:
    """Return the configuration that a YAML text says; `where` names the text in messages.

    Raises:
        UserError: If something in it is wrong.
    """
    return _checked(parse_yaml(text, where))


def _checked(document: Document) -> Configuration:
    if not isinstance(document.value, dict):
        raise UserError(f"{document.where}: write a mapping with data, patients, models and seeds")
    return document.check(Configuration)


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
