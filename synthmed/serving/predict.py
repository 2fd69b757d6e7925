"""TensorFlow Serving's Predict on its own messages: what gRPC answers, and what warm-up records ask."""

from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from synthmed.serving.limits import MAX_RANK, Limits
from synthmed.serving.servable import DEFAULT_SIGNATURE, Servable
from synthmed.serving.status import Code, ServingError, invalid


def predict(servable: Servable, request: Any, limits: Limits | None = None) -> Any:
    """Return the PredictResponse of a PredictRequest, with tensors as `tensor_content`.

    Args:
        servable: The version that the request means.
        request: A PredictRequest.
        limits: What an answer may weigh; None for no limit.

    Raises:
        ServingError: FAILED_PRECONDITION for an unknown signature, INVALID_ARGUMENT for whatever does not fit it, and
            what the model raises.
    """
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    if name not in servable.signatures:
        raise ServingError(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    definition = servable.signatures[name]
    inputs = _inputs(request, definition)
    filtered = _filtered(list(request.output_filter), definition)
    outputs = run_within(servable, name, inputs, limits)
    response = predict_pb2.PredictResponse()
    fill_spec(response.model_spec, servable, name)
    for alias in filtered or outputs:
        _fill_tensor(response.outputs[alias], outputs[alias], definition.outputs[alias].dtype)
    return response


def run_within(
    servable: Servable, signature: str, inputs: dict[str, np.ndarray], limits: Limits | None
) -> dict[str, np.ndarray]:
    """Return the outputs of a signature if they are not too large.

    Raises:
        ServingError: INVALID_ARGUMENT if they are, before the model runs where the signature tells their size.
    """
    allowed = limits.answer_bytes if limits is not None else None
    if allowed is not None:
        _check_answer(servable.answer_bytes(signature, inputs), allowed)
    outputs = servable.run(signature, inputs)
    if allowed is not None:
        _check_answer(sum(map(weight, outputs.values())), allowed)
    return outputs


def weight(value: np.ndarray) -> int:
    """Return the bytes of an array, strings with their contents."""
    array = np.asarray(value)
    return sum(map(len, array.ravel().tolist())) if array.dtype.kind == "O" else array.nbytes


def fill_spec(spec: Any, servable: Servable, signature: str) -> None:
    """Write into a ModelSpec which version and signature answered."""
    spec.name = servable.name
    spec.version.value = servable.version
    spec.signature_name = signature


def _check_answer(size: int, allowed: int) -> None:
    if size > allowed:
        raise invalid(f"the answer would have {size} bytes, more than {allowed}: ask for fewer items at once")


def _inputs(request: Any, definition: Any) -> dict[str, np.ndarray]:
    sent, wanted = set(request.inputs), set(definition.inputs)
    if sent != wanted:
        extra, missing = ",".join(sorted(sent - wanted)), ",".join(sorted(wanted - sent))
        raise invalid(
            f"input size does not match signature: {len(sent)}!={len(wanted)} len({{{','.join(sorted(sent))}}}) != "
            f"len({{{','.join(sorted(wanted))}}}). Sent extra: {{{extra}}}. Missing but required: {{{missing}}}."
        )
    arrays = {}
    for name, proto in request.inputs.items():
        expected = definition.inputs[name].dtype
        if proto.dtype != expected:
            raise invalid(f"input {name} expected type {_type_name(expected)}, got {_type_name(proto.dtype)}")
        try:
            arrays[name] = _array(proto)
        except (TypeError, ValueError, OverflowError, MemoryError) as error:
            raise invalid(f"input {name} is no valid tensor: {error}") from None
    return arrays


def _array(proto: Any) -> np.ndarray:
    sizes = [dim.size for dim in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in sizes):
        raise ValueError("its shape is not told")
    if len(sizes) > MAX_RANK:
        raise ValueError(f"it has {len(sizes)} dimensions, more than {MAX_RANK}")
    # A message of a few bytes can claim a shape of gigabytes, which would be filled with its last value.
    if np.prod(sizes, dtype=object) > max(proto.ByteSize(), _FILLED_ELEMENTS):
        raise ValueError(f"its shape {sizes} asks for more values than it has")
    return tf.make_ndarray(proto)


_FILLED_ELEMENTS = 2**20
"""Elements that one repeated value may stand for."""


def _type_name(number: int) -> str:
    try:
        return tf.as_dtype(number).name
    except TypeError:
        return "none" if number == 0 else f"number {number}"


def _filtered(aliases: list[str], definition: Any) -> list[str]:
    for position, alias in enumerate(aliases):
        if alias not in definition.outputs:
            known = ",".join(sorted(definition.outputs))
            raise invalid(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set {{{known}}}."
            )
        if alias in aliases[:position]:
            raise invalid(f"duplicate output tensor alias: {alias}")
    return aliases


def _fill_tensor(tensor: Any, value: np.ndarray, dtype: int) -> None:
    array = np.asarray(value)
    if array.dtype.kind == "O":
        tensor.CopyFrom(tf.make_tensor_proto(array))
        return
    # Written in place: make_tensor_proto and CopyFrom would copy megabytes twice more.
    tensor.dtype = dtype
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_content = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
