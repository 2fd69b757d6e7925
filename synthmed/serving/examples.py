"""The classify and regress verbs, which take tf.Example lists: generators have no such signature, and that is said."""

from collections.abc import Callable
from typing import Any

from synthmed.serving.jsontext import printed
from synthmed.serving.servable import DEFAULT_SIGNATURE, Servable
from synthmed.serving.status import Code, ServingError, invalid

_KINDS = {"classify": "classification", "regress": "regression"}


def refuse_examples(verb: str, document: dict[str, Any], find: Callable[[], Servable]) -> ServingError:
    """Return the error that a classify or regress request gets.

    Args:
        verb: `classify` or `regress`.
        document: The request's JSON object.
        find: Returns the servable of the request, or raises.

    Raises:
        ServingError: If the request is malformed or its model is unknown.
    """
    examples = document.get("examples")
    if "examples" not in document:
        missing = "When method is classify, key 'examples' is expected and was not found"
        raise invalid(f"JSON Value: {printed(document)} {missing}")
    if not isinstance(examples, list):
        raise invalid(f"JSON Value: {printed(document)} Expecting 'examples' value to be an list/array")
    if not examples:
        raise invalid(f"JSON Value: {printed(document)} 'examples' value is an empty array")
    if not isinstance(examples[0], dict):
        raise invalid(f"Example must be JSON object but got JSON {_kind(examples[0])}")
    servable = find()
    name = document.get("signature_name") or DEFAULT_SIGNATURE
    if name not in servable.signatures:
        return invalid(f"No signature was found with the name: {name}")
    definition = servable.signatures[name]
    if set(definition.inputs) != {"inputs"}:
        from google.protobuf import text_format

        text = text_format.MessageToString(definition)
        return invalid(f"No {_KINDS[verb]} inputs found in SignatureDef: {text}")
    return ServingError(Code.UNIMPLEMENTED, f"{verb} is not offered by this server: use predict")


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return "Array"
    if isinstance(value, str):
        return "String"
    return "Null" if value is None else str(value) if isinstance(value, bool) else "Number"
