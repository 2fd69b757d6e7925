"""YAML that people write: plain values within bounds, the line of each, and one line for what is wrong with them.

The project reads YAML here and nowhere else. A file becomes texts, numbers, truth values, lists and mappings with keys
that are texts or whole numbers; it can name no class, and can neither grow nor nest beyond what a person writes.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from synthmed.errors import UserError
from synthmed.files import read_text

LARGEST_FILE = 4 << 20
MOST_VALUES = 200_000
MOST_CHARACTERS = 16 << 20
"""Values, and characters of their texts, with every alias counted as what it stands for."""
DEEPEST = 50
LONGEST_NUMBER = 64

Location = Sequence[str | int]
_Model = TypeVar("_Model", bound=BaseModel)
_TAG = "tag:yaml.org,2002:"
# libyaml is ten times as fast as the same in Python; both give the same events.
_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(slots=True)
class _Node:
    """A value and where it stands. `line` is that of the key where it has one: its value may begin in the next."""

    value: Any
    line: int
    inner: "dict[str, _Node] | list[_Node] | None" = None
    values: int = 1
    characters: int = 0


@dataclass(slots=True)
class _Open:
    """A list or a mapping whose end has not come yet."""

    node: _Node
    anchor: str | None
    key: str | int | None = None
    key_line: int = 0


@dataclass(frozen=True)
class Document:
    """What a YAML text says.

    Attributes:
        where: The file, for messages.
        value: Plain values; None where the text is empty.
    """

    where: str
    value: Any
    _root: _Node = field(repr=False)

    def place(self, location: Location = ()) -> str:
        """Return the file, and the line of what stands at a location or is the last on the way there.

        What concerns the whole document has no line.
        """
        return f"{self.where}, line {_find(self._root, location)[0].line}" if location else self.where

    def check(self, model: type[_Model]) -> _Model:
        """Return what the document says as a model.

        Raises:
            UserError: If it is no such thing; the first thing that is wrong is named with its line.
        """
        try:
            return model.model_validate(self.value)
        except ValidationError as error:
            first = _first(error)
            told = _told(first, _find(self._root, first["loc"])[1], model)
            raise UserError(f"{self.place(first['loc'])}: {told}") from None
        except RecursionError:
            raise UserError(f"{self.where}: it is nested too deeply: write it flatter") from None


def read_yaml(path: Path | str) -> Document:
    """Return what a YAML file says.

    Raises:
        UserError: If it cannot be read, is no YAML, or is larger or deeper than what people write.
    """
    return parse_yaml(read_text(path, most=LARGEST_FILE), str(path))


def parse_yaml(text: str, where: str) -> Document:
    """Return what a YAML text says; `where` names it in messages.

    Raises:
        UserError: See `read_yaml`.
    """
    reader = _Reader(where)
    if len(text) > LARGEST_FILE:
        raise UserError(f"{where} has more than {LARGEST_FILE} characters: no such file is that long")
    try:
        for event in yaml.parse(text, Loader=_PARSER):
            reader.take(event)
    except yaml.reader.ReaderError as error:
        number = text.count("\n", 0, error.position) + 1
        raise UserError(f"{where}, line {number}: not valid YAML ({error.reason}): remove the character") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be read"
        raise UserError(f"{where}{line}: not valid YAML ({problem}): correct the line") from None
    except UnicodeEncodeError:
        raise UserError(f"{where} holds half a character (a surrogate): write it anew") from None
    root = reader.root or _Node(None, 1)
    return Document(where, root.value, root)


class _Reader:
    """Makes values of a parser's events. It does not call itself, so that no depth can exhaust it."""

    def __init__(self, where: str):
        self.root: _Node | None = None
        self._where = where
        self._open: list[_Open] = []
        self._anchors: dict[str, _Node | None] = {}
        self._documents = 0
        self._values = self._characters = 0
        self._resolver = yaml.SafeLoader("")

    def take(self, event: Any) -> None:
        """Take the next event."""
        line = event.start_mark.line + 1
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise self._wrong(line, "a second document begins with ---: write one")
        elif isinstance(event, yaml.CollectionStartEvent):
            self._start(event, line)
        elif isinstance(event, yaml.CollectionEndEvent):
            done = self._open.pop()
            if done.anchor:
                self._anchors[done.anchor] = done.node
            self._add(done.node)
        elif isinstance(event, yaml.ScalarEvent):
            node = _Node(self._scalar(event, line), line, characters=len(event.value))
            self._count(node)
            if event.anchor:
                self._anchors[event.anchor] = node
            self._add(node)
        elif isinstance(event, yaml.AliasEvent):
            known = self._anchors.get(str(event.anchor))
            if known is None:
                why = "stands in itself" if event.anchor in self._anchors else "is nowhere before"
                raise self._wrong(line, f"*{event.anchor} refers to what {why}: write it out")
            self._count(known)
            self._add(known, line)

    def _start(self, event: Any, line: int) -> None:
        mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in (None, "!", _TAG + ("map" if mapping else "seq")):
            raise self._wrong(line, f"the tag {event.tag} is not read: write plain values")
        if len(self._open) >= DEEPEST:
            raise self._wrong(line, f"it is nested more than {DEEPEST} deep: write it flatter")
        if self._at_key():
            raise self._wrong(line, "a list or a mapping is no key: write a text")
        node = _Node({}, line, {}) if mapping else _Node([], line, [])
        self._count(node)
        if event.anchor:
            self._anchors[event.anchor] = None
        self._open.append(_Open(node, event.anchor))

    def _at_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1].node.value, dict) and self._open[-1].key is None

    def _add(self, node: _Node, line: int | None = None) -> None:
        if not self._open:
            self.root = node
            return
        parent = self._open[-1]
        if self._at_key():
            parent.key, parent.key_line = self._key(parent, node, line or node.line), line or node.line
            return
        parent.node.values += node.values
        parent.node.characters += node.characters
        if isinstance(parent.node.inner, dict) and parent.key is not None:
            parent.node.value[parent.key] = node.value
            parent.node.inner[str(parent.key)] = _Node(node.value, parent.key_line, node.inner)
            parent.key = None
        elif isinstance(parent.node.inner, list):
            parent.node.value.append(node.value)
            parent.node.inner.append(node if line is None else _Node(node.value, line, node.inner))

    def _key(self, parent: _Open, node: _Node, line: int) -> str | int:
        if node.value == "<<":
            raise self._wrong(line, "<< (merging) is not read: write the keys out")
        if not isinstance(node.value, str | int) or isinstance(node.value, bool):
            raise self._wrong(line, f"the key is read as {node.value!r}, which is no text: write it in quotes")
        if node.value in parent.node.value:
            raise self._wrong(line, f"{node.value} stands there twice: remove one")
        return node.value

    def _count(self, node: _Node) -> None:
        self._values += node.values
        self._characters += node.characters
        if self._values > MOST_VALUES or self._characters > MOST_CHARACTERS:
            more = f"{MOST_VALUES} values" if self._values > MOST_VALUES else f"{MOST_CHARACTERS} characters"
            raise UserError(f"{self._where} stands for more than {more}, aliases (*) written out: make it shorter")

    def _scalar(self, event: Any, line: int) -> Any:
        text = event.value
        tag = event.tag
        if tag in (None, "!"):
            tag = self._resolver.resolve(yaml.ScalarNode, text, event.implicit)
        kind = tag.removeprefix(_TAG)
        # A day is a text here: names of cases look like one.
        if kind in ("str", "timestamp", "merge", "value"):
            return text
        if kind == "null":
            return None
        construct: Callable[[Any], Any] | None = {
            "bool": self._resolver.construct_yaml_bool,
            "int": self._resolver.construct_yaml_int,
            "float": self._resolver.construct_yaml_float,
        }.get(kind)
        if construct is None:
            raise self._wrong(line, f"the tag {event.tag} is not read: write plain values")
        if len(text) > LONGEST_NUMBER:
            raise self._wrong(line, f"a number of {len(text)} digits: write a shorter one, or a text in quotes")
        try:
            value = construct(yaml.ScalarNode(tag, text))
        except (ValueError, LookupError, OverflowError):
            raise self._wrong(line, f"{text!r} is no {kind}: write it in quotes if it is a text") from None
        if kind == "float" and math.isinf(value) and "inf" not in text.lower():
            raise self._wrong(line, f"{text} is larger than any number that can be used: write a smaller one")
        return value

    def _wrong(self, line: int, what: str) -> UserError:
        return UserError(f"{self._where}, line {line}: {what}")


def _find(node: _Node, location: Location) -> tuple[_Node, str]:
    """Return the node at a location, or the last on the way there, and the steps that lead to it as "data.0.path"."""
    steps = []
    for step in location:
        inner: _Node | None = None
        if isinstance(node.inner, dict):
            inner = node.inner.get(str(step))
        elif isinstance(node.inner, list) and isinstance(step, int) and step < len(node.inner):
            inner = node.inner[step]
        if inner is None:
            break
        node = inner
        steps.append(str(step))
    return node, ".".join(steps)


def _first(error: ValidationError) -> Any:
    """Return the error to name: of a key that is missing beside one that is not known, the misspelt one."""
    errors = error.errors()
    if errors[0]["type"] == "missing":
        beside = [one for one in errors if one["loc"][:-1] == errors[0]["loc"][:-1]]
        return next((one for one in beside if one["type"] == "extra_forbidden"), errors[0])
    return errors[0]


def _told(first: Any, place: str, model: type[BaseModel]) -> str:
    """Return what is wrong, of one of pydantic's errors, without the line."""
    name = str(first["loc"][-1]) if first["loc"] else ""
    if first["type"] == "extra_forbidden":
        near = get_close_matches(name, _keys(model.model_json_schema()), n=1)
        return f"there is no key {name!r} here: " + (f"did you mean {near[0]}?" if near else "take it out")
    if first["type"] == "missing":
        return f"{name} is missing here: add it"
    text = first["msg"].removeprefix("Value error, ").split("\n")[0]
    given = "" if first["type"] == "value_error" else f" = {short(first.get('input'))}"
    quotes = ", write it in quotes" if first["type"] == "string_type" else ""
    return f"{place}{given if place else ''}{': ' if place else ''}{text[:1].lower()}{text[1:]}{quotes}"


def _keys(schema: Any) -> list[str]:
    """Return the keys that a model and the models in it have."""
    parts = [schema, *schema.get("$defs", {}).values()]
    return [key for part in parts for key in part.get("properties", {})]


def short(value: Any) -> str:
    """Return a value as it would be written, cut to what fits a message."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
