"""TensorFlow Serving's Predict on its own messages: what gRPC answers, and what warm-up records ask."""

from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from synthmed.serving.limits import Ticket
from synthmed.serving.servable import DEFAULT_SIGNATURE, STRING_BYTES, Servable
from synthmed.serving.status import Code, ServingError, invalid


def predict(servable: Servable, request: Any, ticket: Ticket | None = None) -> Any:
    """Return the PredictResponse of a PredictRequest, with tensors as `tensor_content`.

    Args:
        servable: The version that the request means.
        request: A PredictRequest.
        ticket: The request's; None for no limit.

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
    outputs = run_within(servable, name, inputs, ticket)
    response = predict_pb2.PredictResponse()
    fill_spec(response.model_spec, servable, name)
    for alias in filtered or outputs:
        _fill_tensor(response.outputs[alias], outputs[alias], definition.outputs[alias].dtype)
    return response


def run_within(
    servable: Servable, signature: str, inputs: dict[str, np.ndarray], ticket: Ticket | None
) -> dict[str, np.ndarray]:
    """Return the outputs of a signature for inputs that fit it, if they are not too large.

    A generator of synthmed draws in chunks, so that memory does not grow with the number of items, and a request that
    nobody waits for ends between two of them. All chunks of a request are of one size, the last one padded: as in
    `sample_in_batches`, an item then does not depend on its place.

    Raises:
        ServingError: INVALID_ARGUMENT if inputs do not fit, or if the outputs are too large (before the model runs
            where the signature tells their size), RESOURCE_EXHAUSTED if there is no room for them now,
            DEADLINE_EXCEEDED or CANCELLED between chunks.
    """
    items = servable.check(signature, inputs)
    if ticket is not None:
        if items is not None and items > ticket.limits.items:
            raise invalid(f"the request has {items} items, more than {ticket.limits.items}: ask for fewer at once")
        size = servable.answer_bytes(signature, inputs)
        _check_answer(size, ticket)
        ticket.reserve(size)
    if items is None or items <= servable.chunk:
        outputs = servable.run(signature, inputs)
    else:
        outputs = _in_chunks(servable, signature, inputs, items, ticket)
    _check_answer(sum(map(weight, outputs.values())), ticket)
    return outputs


def _in_chunks(
    servable: Servable, signature: str, inputs: dict[str, np.ndarray], items: int, ticket: Ticket | None
) -> dict[str, np.ndarray]:
    chunk = servable.chunk
    outputs: dict[str, np.ndarray] = {}
    for start in range(0, items, chunk):
        if ticket is not None:
            ticket.check()
        chosen = np.minimum(np.arange(start, start + chunk), items - 1)
        part = servable.run(signature, {name: value[chosen] for name, value in inputs.items()})
        if not outputs:
            # How long strings are shows in the first chunk.
            _check_answer(sum(map(weight, part.values())) * items // chunk, ticket)
            outputs = {name: np.empty((items, *value.shape[1:]), value.dtype) for name, value in part.items()}
        for name, value in part.items():
            outputs[name][start : start + chunk] = value[: items - start]
    return outputs


def weight(value: np.ndarray) -> int:
    """Return the bytes that an array takes, strings with their contents."""
    array = np.asarray(value)
    if array.dtype.kind != "O":
        return array.nbytes
    return sum(map(len, array.ravel().tolist())) + STRING_BYTES * array.size


def fill_spec(spec: Any, servable: Servable, signature: str) -> None:
    """Write into a ModelSpec which version and signature answered."""
    spec.name = servable.name
    spec.version.value = servable.version
    spec.signature_name = signature


def _check_answer(size: int, ticket: Ticket | None) -> None:
    if ticket is not None and size > (allowed := ticket.limits.answer_bytes):
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
