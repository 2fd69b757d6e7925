"""The page at `/`: what a server serves, and how it is asked."""

import json
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

import synthmed
from synthmed.serving.manager import ModelManager
from synthmed.serving.servable import DEFAULT_SIGNATURE, Servable

_EXAMPLES = {"INT": 1, "UIN": 1, "FLO": 1.0, "DOU": 1.0, "STR": "text", "BOO": True}
"""A value by the first letters of TensorFlow's name of its type."""


def index_page(manager: ModelManager, *, url: str) -> str:
    """Return the page as HTML.

    Args:
        manager: Its models are listed, with the states of their versions and the signatures of the newest one.
        url: Where the server is asked.
    """
    newest = {one.name: one for one in manager.servables()}
    models = [
        {
            "name": name,
            "path": f"/v1/models/{quote(name, safe='')}",
            "versions": manager.known(name),
            "signatures": _signatures(newest[name]) if name in newest else [],
            "version": newest[name].version if name in newest else None,
            "example": _example(newest[name]) if name in newest else None,
        }
        for name in sorted(manager.configs)
    ]
    return _template().render(models=models, url=url, version=synthmed.__version__)


@cache
def _template() -> Template:
    folder = Path(__file__).with_name("templates")
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("index.html")


def _signatures(servable: Servable) -> list[dict[str, Any]]:
    return [
        {"name": name, "inputs": _tensors(definition.inputs), "outputs": _tensors(definition.outputs)}
        for name, definition in sorted(servable.signatures.items())
        # TensorFlow's own, such as __saved_model_init_op, are nothing to ask for.
        if not name.startswith("__")
    ]


def _tensors(infos: Any) -> list[str]:
    return [f"{name}: {_kind(info).lower()} {_shape(info)}" for name, info in sorted(infos.items())]


def _kind(info: Any) -> str:
    return type(info).DESCRIPTOR.fields_by_name["dtype"].enum_type.values_by_number[info.dtype].name.removeprefix("DT_")


def _shape(info: Any) -> str:
    if info.tensor_shape.unknown_rank:
        return "of any shape"
    return f"[{', '.join('b' if dim.size < 0 else str(dim.size) for dim in info.tensor_shape.dim)}]"


def _example(servable: Servable) -> str | None:
    """Return the body of a request that the model answers, of a signature whose inputs are one value an item."""
    for name in sorted(servable.signatures, key=lambda name: (name != "sample", name != DEFAULT_SIGNATURE, name)):
        inputs = servable.signatures[name].inputs
        values = {key: _EXAMPLES.get(_kind(info)[:3]) for key, info in sorted(inputs.items())}
        if inputs and None not in values.values() and all(_shape(info) == "[b]" for info in inputs.values()):
            body = {"signature_name": name, "inputs": {key: [value] for key, value in values.items()}}
            # It stands between the single quotation marks of a shell.
            return json.dumps(body).replace("'", "\\u0027")
    return None
