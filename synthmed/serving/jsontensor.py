"""From the JSON of a predict request to arrays, by TensorFlow Serving's rules for its row and its column form."""

import base64
import binascii
from collections.abc import Mapping
from itertools import chain
from typing import Any, Literal

import numpy as np

from synthmed.serving.jsontext import printed
from synthmed.serving.status import Code, ServingError, invalid

Form = Literal["row", "column"]

INTEGERS = {"int8": 8, "int16": 16, "int32": 32, "int64": 64, "uint8": 8, "uint16": 16, "uint32": 32, "uint64": 64}
FLOATS = {"float": np.float32, "double": np.float64}
_NUMPY = {name: np.dtype(name) for name in INTEGERS} | {"bool": np.dtype(bool), "string": np.dtype(object)}
_NUMPY |= {name: np.dtype(kind) for name, kind in FLOATS.items()}


def request_arrays(document: dict[str, Any], dtypes: Mapping[str, str]) -> tuple[Form, dict[str, np.ndarray]]:
    """Return the form of a predict request and its inputs by name.

    Args:
        document: The request's JSON object.
        dtypes: TensorFlow's name of each input's type (`float`, `int64`, `string` ...) by the input's name.

    Raises:
        ServingError: INVALID_ARGUMENT with TensorFlow Serving's text; UNIMPLEMENTED for a type without a form in JSON.
    """
    try:
        return _request_arrays(document, dtypes)
    except ValueError as error:
        # NumPy has arrays of 64 dimensions at most.
        raise invalid(f"Failed to convert JSON to a tensor: {error}") from None


def _request_arrays(document: dict[str, Any], dtypes: Mapping[str, str]) -> tuple[Form, dict[str, np.ndarray]]:
    if "instances" in document and "inputs" in document:
        only_one = "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
        raise invalid(f"JSON Value: {printed(document)} {only_one}")
    if "instances" in document:
        instances = document["instances"]
        if not isinstance(instances, list):
            raise invalid(f"JSON Value: {printed(document)} Expecting 'instances' to be an list/array")
        if not instances:
            raise invalid(f"JSON Value: {printed(document)} No values in 'instances' array")
        return "row", _rows(instances, dtypes)
    if "inputs" in document:
        return "column", _columns(document["inputs"], dtypes)
    raise invalid("Missing 'inputs' or 'instances' key")


def _rows(instances: list[Any], dtypes: Mapping[str, str]) -> dict[str, np.ndarray]:
    if not isinstance(instances[0], dict) and len(dtypes) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    if _is_named(instances[0]):
        return _named_rows(instances, dtypes)
    name = min(dtypes)
    whole = _regular_array(instances, dtypes[name])
    if whole is not None:
        return {name: whole}
    rows: list[np.ndarray] = []
    for number, element in enumerate(instances):
        if _is_named(element):
            raise invalid(f"Expecting value/list but got object at item {number} of input list")
        try:
            rows.append(_like_first(array_of(element, dtypes[name]), rows))
        except ServingError as error:
            reason = f"{error.code.name}: {error.message}"
            raise invalid(f"Failed to process element: {number} of 'instances' list. Error: {reason}") from None
    return {name: np.stack(rows)}


def _named_rows(instances: list[Any], dtypes: Mapping[str, str]) -> dict[str, np.ndarray]:
    rows: dict[str, list[np.ndarray]] = {name: [] for name in dtypes}
    for number, element in enumerate(instances):
        if not _is_named(element):
            raise invalid(f"Expecting object but got list at item {number} of input list")
        for name, value in element.items():
            try:
                if name not in dtypes:
                    raise invalid(f"JSON object: does not have named input: {name}")
                rows[name].append(_like_first(array_of(value, dtypes[name]), rows[name]))
            except ServingError as error:
                reason = f"{error.code.name}: {error.message}"
                where = f"element: {number} key: {name} of 'instances' list"
                raise invalid(f"Failed to process {where}. Error: {reason}") from None
        if set(element) != set(dtypes):
            raise invalid(
                f"Failed to process element: {number} of 'instances' list. JSON object: {printed(element)} "
                f"keys must be equal to: {','.join(sorted(dtypes))}"
            )
    return {name: np.stack(values) for name, values in rows.items()}


def _columns(inputs: Any, dtypes: Mapping[str, str]) -> dict[str, np.ndarray]:
    if not _is_named(inputs):
        if len(dtypes) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        name = min(dtypes)
        return {name: array_of(inputs, dtypes[name])}
    arrays = {}
    for name in sorted(dtypes):
        if name not in inputs:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
        arrays[name] = array_of(inputs[name], dtypes[name])
    return arrays


def _like_first(array: np.ndarray, others: list[np.ndarray]) -> np.ndarray:
    if others and others[0].size != array.size:
        raise invalid(f"Expecting tensor size: {others[0].size} but got: {array.size}")
    if others and others[0].shape != array.shape:
        raise invalid(f"Expecting shape {_shape(others[0])} but got: {_shape(array)}")
    return array


def _shape(array: np.ndarray) -> str:
    return f"[{','.join(map(str, array.shape))}]"


def array_of(value: Any, dtype: str) -> np.ndarray:
    """Return a JSON value, a scalar or nested lists, as an array of a TensorFlow type.

    Raises:
        ServingError: INVALID_ARGUMENT where the lists are ragged or a value does not fit the type.
    """
    regular = _regular_array(value, dtype)
    if regular is not None:
        return regular
    shape: list[int] = []
    probe = value
    while isinstance(probe, list):
        shape.append(len(probe))
        probe = probe[0] if probe else None
    leaves: list[Any] = []
    _collect(value, 0, shape, dtype, leaves)
    array = np.empty(len(leaves), _numpy(dtype))
    array[:] = leaves
    return array.reshape(shape)


def _regular_array(value: Any, dtype: str) -> np.ndarray | None:
    """Return the array where all is as it should be, by the quick way; None leaves the verdict to the thorough one."""
    if dtype not in FLOATS and dtype not in INTEGERS:
        return None
    shape: list[int] = []
    level = [value]
    while level and all(type(item) is list for item in level):
        sizes = set(map(len, level))
        if len(sizes) != 1:
            return None
        shape.append(sizes.pop())
        level = list(chain.from_iterable(level))
    kinds = set(map(type, level))
    if not kinds <= ({int, float} if dtype in FLOATS else {int}):
        return None
    try:
        with np.errstate(over="ignore"):
            array = np.array(level, np.float64 if dtype in FLOATS else np.int64).astype(_numpy(dtype))
    except OverflowError:
        return None
    if dtype in INTEGERS and (dtype == "uint64" or level != array.tolist()):
        return None
    return array.reshape(shape)


def _collect(value: Any, level: int, shape: list[int], dtype: str, leaves: list[Any]) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid(
                f"JSON Value: {printed(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {len(shape)}"
            )
        leaves.append(_leaf(value, dtype))
        return
    if level >= len(shape):
        raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for item in value:
        _collect(item, level + 1, shape, dtype, leaves)


def _leaf(value: Any, dtype: str) -> Any:
    if dtype == "string":
        if isinstance(value, str):
            return value.encode("utf-8", "surrogateescape")
        if isinstance(value, dict):
            return _decoded(value)
    elif dtype in FLOATS:
        if type(value) in (int, float):
            with np.errstate(over="ignore"):
                return FLOATS[dtype](value)
    elif dtype == "bool":
        if isinstance(value, bool):
            return value
    elif dtype in INTEGERS:
        limits = np.iinfo(dtype)
        if type(value) is int and limits.min <= value <= limits.max:
            return value
    else:
        raise ServingError(Code.UNIMPLEMENTED, f"Conversion of JSON Value: {printed(value)} to type: {dtype}")
    raise invalid(f"JSON Value: {printed(value)} Type: {_kind(value)} is not of expected type: {dtype}")


def _decoded(value: dict[str, Any]) -> bytes:
    if not _is_base64(value):
        raise invalid(f"JSON Value: {printed(value)} not formatted correctly for base64 data")
    text = "".join(value["b64"].split()).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise invalid("Unable to base64 decode") from None


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and list(value) == ["b64"] and isinstance(value["b64"], str)


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _numpy(dtype: str) -> np.dtype:
    return _NUMPY[dtype]


def _kind(value: Any) -> str:
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return "True" if value else "False"
    if isinstance(value, dict):
        return "Object"
    return "Array" if isinstance(value, list) else "String" if isinstance(value, str) else "Number"
