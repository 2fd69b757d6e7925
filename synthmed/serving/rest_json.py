"""The JSON of TensorFlow Serving's REST interface: from a request's body to arrays, and from arrays to a reply.

Python's own parser reads it, after a check of depth and size that costs the same for any bytes. Texts of errors name
the element that is wrong and show no more than a few characters of it.
"""

import base64
import binascii
import gc
import json
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, Literal, NoReturn

import numpy as np

from synthmed.serving.limits import MAX_RANK
from synthmed.serving.status import Code, ServingError, invalid

Form = Literal["row", "column"]
"""`instances`, a list of items, or `inputs`, an array of each input."""

MAX_DEPTH = 300
MAX_PARTS = 2**21
"""Objects and arrays of a request, and its strings: each takes some hundred bytes, whatever it has in the body."""
MAX_VALUES = 2**23
"""Values of a request: each takes some 50 bytes until it lies in an array."""

_DTYPES = {np.dtype(kind).name: np.dtype(kind) for kind in "bhilBHIL?"}
_DTYPES |= {"float": np.dtype(np.float32), "double": np.dtype(np.float64), "string": np.dtype(object)}
_READ_WITH_CARE = re.compile(r"\d{19}|[eE]\+?\d{3}")
_HALF_A_PAIR = re.compile(r"\\u[dD][89a-fA-F]")
_WHOLE_PAIRS = re.compile(r"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
"""What a bracket adds to the depth, as int8."""
_SPACE = " \t\n\r"


def parse(body: bytes) -> Any:
    """Return the first JSON value of `body`; what follows it is ignored.

    Besides JSON, NaN, Infinity and -Infinity are read. Bytes that are not UTF-8 survive as surrogate escapes, so that
    they can be written back as they came. Of two members with one name the first counts.

    Raises:
        ServingError: INVALID_ARGUMENT if there is none, or it is nested too deeply or too large.
    """
    body = body.removeprefix(b"\xef\xbb\xbf")
    _check_size(body)
    text = body.decode("utf-8", "surrogateescape").lstrip(_SPACE)
    if not text:
        raise invalid("the request has no body: send a JSON object")
    decoder = _CAREFUL if _READ_WITH_CARE.search(text) else _PLAIN
    collects = gc.isenabled()
    # Every so many lists Python would look for garbage among all that TensorFlow has: JSON makes none.
    gc.disable()
    try:
        value, end = decoder.raw_decode(text)
    except json.JSONDecodeError as error:
        raise invalid(f"the body is no JSON: {error.msg.lower()} (character {error.pos})") from None
    except RecursionError:
        raise _too_deep() from None
    finally:
        if collects:
            gc.enable()
    if _HALF_A_PAIR.search(text, 0, end) and _HALF_A_PAIR.search(_WHOLE_PAIRS.sub(" ", text[:end])):
        raise invalid("the body is no JSON: a \\u escape is half of a surrogate pair")
    return value


def _check_size(body: bytes) -> None:
    """Refuse what would take too much memory or stack, by counting what stands outside strings."""
    if body.count(b'"') > 2 * MAX_PARTS:
        raise _too_large()
    # Without escaped backslashes, every other piece between quotation marks that are not escaped lies outside strings.
    outside = b"".join(body.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])
    steps = outside.translate(_STEPS, _ALL_BUT_BRACKETS)
    if outside.count(b",") > MAX_VALUES or steps.count(b"\x01") > MAX_PARTS:
        raise _too_large()
    depths = np.cumsum(np.frombuffer(steps[: 2 * MAX_PARTS], np.int8), dtype=np.int32)
    ends = np.flatnonzero(depths <= 0)
    if depths[: ends[0] if ends.size else None].max(initial=0) > MAX_DEPTH:
        raise _too_deep()


def _too_deep() -> ServingError:
    return invalid(f"the JSON is nested more than {MAX_DEPTH} deep")


def _too_large() -> ServingError:
    parts = f"{MAX_PARTS} lists, objects and strings"
    return invalid(f"the JSON has more than {MAX_VALUES} values, or {parts}: send fewer items at once")


def _first_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    return members if len(members) == len(pairs) else dict(reversed(pairs))


def _integer(text: str) -> int | float:
    # Python takes its time with integers of many digits; none that any type holds has more than these.
    return int(text) if len(text) <= 20 else _number(text)


def _number(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise invalid(f"the number {_shown(text)} is too large for a double")
    return number


_PLAIN = json.JSONDecoder(object_pairs_hook=_first_wins)
_CAREFUL = json.JSONDecoder(object_pairs_hook=_first_wins, parse_int=_integer, parse_float=_number)


def request_arrays(document: Mapping[str, Any], dtypes: Mapping[str, str]) -> tuple[Form, dict[str, np.ndarray]]:
    """Return the form of a predict request and its inputs by name.

    Args:
        document: The request's JSON object.
        dtypes: TensorFlow's name of each input's type (`float`, `int64`, `string` ...) by the input's name.

    Raises:
        ServingError: INVALID_ARGUMENT, naming the element that does not fit; UNIMPLEMENTED for a type without a form in
            JSON.
    """
    if ("instances" in document) == ("inputs" in document):
        raise invalid("a request has either 'instances' or 'inputs'")
    if "inputs" in document:
        return "column", _columns(document["inputs"], dtypes)
    instances = document["instances"]
    if not isinstance(instances, list) or not instances:
        raise invalid("'instances' is no list of items, or an empty one")
    return "row", _rows(instances, dtypes)


def _columns(inputs: Any, dtypes: Mapping[str, str]) -> dict[str, np.ndarray]:
    if _is_named(inputs):
        missing = [name for name in sorted(dtypes) if name not in inputs]
        if missing:
            raise invalid(f"'inputs' lacks {', '.join(missing)}")
        return {name: array_of(inputs[name], dtypes[name], f"inputs.{name}") for name in sorted(dtypes)}
    return {name: array_of(inputs, dtypes[name], "inputs") for name in _only(dtypes, "inputs")}


def _rows(instances: list[Any], dtypes: Mapping[str, str]) -> dict[str, np.ndarray]:
    if not _is_named(instances[0]):
        return {name: array_of(instances, dtypes[name], "instances") for name in _only(dtypes, "instances")}
    for number, item in enumerate(instances):
        if not _is_named(item):
            raise invalid(f"instances[{number}] is {_shown(item)}, but the first one is an object")
        if item.keys() != dtypes.keys():
            unlike = min(item.keys() ^ dtypes.keys())
            raise invalid(
                f"instances[{number}] {'has no' if unlike in dtypes else 'has an unknown'} {_shown(unlike)}: "
                f"its names are to be {', '.join(sorted(dtypes))}"
            )
    return {
        name: array_of([item[name] for item in instances], dtypes[name], "instances", member=f".{name}")
        for name in sorted(dtypes)
    }


def _only(dtypes: Mapping[str, str], key: str) -> Sequence[str]:
    if len(dtypes) > 1:
        raise invalid(f"'{key}' does not name its values, and the signature has {', '.join(sorted(dtypes))}")
    return list(dtypes)


def array_of(value: Any, dtype: str, where: str, *, member: str = "") -> np.ndarray:
    """Return a JSON value, a scalar or nested lists, as an array of a TensorFlow type.

    Args:
        value: The value.
        dtype: TensorFlow's name of the type.
        where: The value's place in the request, for the text of an error.
        member: What follows the first index in that place.

    Raises:
        ServingError: INVALID_ARGUMENT where the lists are ragged or a value does not fit the type.
    """
    shape: list[int] = []

    def refuse(level: list[Any], fits: Callable[[Any], bool], reason: str) -> NoReturn:
        first = next(number for number, item in enumerate(level) if not fits(item))
        indices = [f"[{index}]" for index in np.unravel_index(first, shape)] if shape else []
        place = where + "".join([*indices[:1], member, *indices[1:]])
        raise invalid(f"{place} is {_shown(level[first])}, {reason}")

    level = [value]
    while level and type(level[0]) is list:
        size = len(level[0])
        if set(map(type, level)) != {list} or set(map(len, level)) != {size}:
            refuse(level, _is_list_of(size), f"but others are lists of {size}")
        shape.append(size)
        if len(shape) > MAX_RANK:
            raise invalid(f"{where} is nested more than {MAX_RANK} deep")
        level = list(chain.from_iterable(level))
    kinds = _KINDS.get(dtype, {int} if dtype in _DTYPES else set())
    if not kinds:
        raise ServingError(Code.UNIMPLEMENTED, f"{where} is of type {dtype}, which JSON cannot carry")
    if not set(map(type, level)) <= kinds:
        refuse(level, lambda item: type(item) in kinds, f"but is to be of type {dtype}")
    if kinds == {int} and level:
        limits = np.iinfo(dtype)
        if min(level) < limits.min or max(level) > limits.max:
            refuse(level, lambda item: limits.min <= item <= limits.max, f"out of the range of {dtype}")
    if dtype == "string":
        level = [_octets(item, where) for item in level]
    # What is too large for float32 becomes infinite, as in TensorFlow Serving.
    array = np.empty(len(level), np.float64 if dtype == "float" else _DTYPES[dtype])
    array[:] = level
    with np.errstate(over="ignore"):
        return array.astype(_DTYPES[dtype], copy=False).reshape(shape)


def _is_list_of(size: int) -> Callable[[Any], bool]:
    return lambda item: type(item) is list and len(item) == size


_KINDS: dict[str, set[type]] = {"float": {int, float}, "double": {int, float}, "bool": {bool}, "string": {str, dict}}


def _octets(value: Any, where: str) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if not _is_base64(value):
        raise invalid(f'{where} has an object that is not {{"b64": "..."}}')
    text = "".join(value["b64"].split()).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise invalid(f"{where} has a 'b64' that is no base64") from None


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _shown(value: Any) -> str:
    """Return a value as texts of errors show it: in a few characters, whatever its size."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, str):
        return json.dumps(value if len(value) <= 40 else f"{value[:37]}...")
    return json.dumps(value)


def reply(form: Form, outputs: Mapping[str, np.ndarray]) -> bytes:
    """Return the body of a predict reply.

    Args:
        form: The form of the request.
        outputs: Arrays by name; strings are arrays of bytes objects.

    Raises:
        ServingError: INVALID_ARGUMENT where the outputs have no common first dimension in the row form.
    """
    arrays = {name: np.asarray(outputs[name]) for name in sorted(outputs)}
    if form == "column":
        whole = {name: value_text(array, as_bytes=name.endswith("_bytes")) for name, array in arrays.items()}
        return b'{"outputs": %s}' % (_members(whole) if len(whole) > 1 else next(iter(whole.values())))
    if any(array.ndim == 0 for array in arrays.values()) or len(set(map(len, arrays.values()))) > 1:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
        raise invalid(f"the outputs have no common first axis ({shapes}): ask with 'inputs' in place of 'instances'")
    texts = [[value_text(row, as_bytes=name.endswith("_bytes")) for row in array] for name, array in arrays.items()]
    rows = [
        _members(dict(zip(arrays, row, strict=True))) if len(row) > 1 else row[0] for row in zip(*texts, strict=True)
    ]
    return b'{"predictions": [%s]}' % b", ".join(rows)


def value_text(value: np.ndarray, *, as_bytes: bool = False) -> bytes:
    """Return an array, or one value, as JSON.

    A float32 prints with as few digits as read back to the same float32; NaN and infinities print as bare tokens.

    Args:
        value: The array; strings are bytes objects.
        as_bytes: Whether strings print as `{"b64": ...}`.
    """
    array = np.asarray(value)
    kind = array.dtype.kind
    if kind == "f":
        flat = array.ravel()
        texts = flat.astype(np.float32 if array.dtype.itemsize < 4 else array.dtype).astype("U").tolist()
        for index in np.flatnonzero(~np.isfinite(flat)):
            texts[index] = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[texts[index]]
    elif kind in "iu":
        texts = list(map(str, array.ravel().tolist()))
    elif kind == "b":
        texts = ["true" if item else "false" for item in array.ravel()]
    elif kind in "OS":
        texts = [_string(bytes(item), as_bytes=as_bytes) for item in array.ravel().tolist()]
    else:
        raise invalid(f"an output is of type {array.dtype.name}, which JSON cannot carry")
    return _nested(texts, array.shape).encode("utf-8", "surrogateescape")


def _nested(texts: list[str], shape: tuple[int, ...]) -> str:
    for size in reversed(shape):
        if size == 0:
            outer = shape[: shape.index(0)]
            return _nested(["[]"] * int(np.prod(outer)), outer)
        texts = [f"[{', '.join(texts[start : start + size])}]" for start in range(0, len(texts), size)]
    return texts[0]


def _string(value: bytes, *, as_bytes: bool) -> str:
    if as_bytes:
        return f'{{"b64": "{base64.b64encode(value).decode("ascii")}"}}'
    return json.dumps(value.decode("utf-8", "surrogateescape"), ensure_ascii=False)


def _members(texts: Mapping[str, bytes]) -> bytes:
    return b"{%s}" % b", ".join(b"%s: %s" % (json.dumps(name).encode(), text) for name, text in texts.items())
