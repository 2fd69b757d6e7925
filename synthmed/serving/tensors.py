"""NumPy arrays as TensorFlow's tensor messages and back, without TensorFlow."""

import math
from typing import Any

import numpy as np

from synthmed.serving.wire import message

# TensorFlow's number of a type: its form in NumPy, and the field that holds its values one by one. Numbers of fixed
# width lie there as they are, the others as varints.
_TYPES = {
    1: ("<f4", "float_val"),
    2: ("<f8", "double_val"),
    3: ("<i4", "int_val"),
    4: ("u1", "int_val"),
    5: ("<i2", "int_val"),
    6: ("i1", "int_val"),
    7: ("O", "string_val"),
    9: ("<i8", "int64_val"),
    10: ("?", "bool_val"),
    17: ("<u2", "int_val"),
    19: ("<f2", "half_val"),
    22: ("<u4", "uint32_val"),
    23: ("<u8", "uint64_val"),
}
_NUMBERS = {np.dtype(kind): number for number, (kind, _) in _TYPES.items() if kind != "O"}
_STRING = 7
MOST_ELEMENTS = 2**31
"""A message is at most 2 GB; a few bytes of it may not claim all memory by a shape."""


def to_tensor(array: np.ndarray) -> Any:
    """Return the message of an array of numbers, truth values or bytes objects.

    Raises:
        ValueError: If TensorFlow has no such type.
    """
    tensor = message("Tensor")()
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    if array.dtype.kind in "OS":
        tensor.dtype = _STRING
        tensor.string_val.extend(bytes(value) for value in array.ravel())
        return tensor
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    if little.dtype not in _NUMBERS:
        raise ValueError(f"no tensor has the type {array.dtype}")
    tensor.dtype = _NUMBERS[little.dtype]
    tensor.tensor_content = little.tobytes()
    return tensor


def to_array(tensor: Any) -> np.ndarray:
    """Return the array of a tensor message, as `tf.make_ndarray` does.

    Values come as one block (`tensor_content`) or one by one, in a field of their type; of those there may be fewer
    than elements, and the last one is then repeated. Arrays of strings are arrays of bytes objects; others may be
    read-only.

    Raises:
        ValueError: If the message is not understood, or its values do not fit its shape.
    """
    if tensor.dtype not in _TYPES:
        raise ValueError(f"a tensor has the type number {tensor.dtype}, which is not read")
    kind, field = _TYPES[tensor.dtype]
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    if tensor.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise ValueError("a tensor has no shape")
    count = math.prod(shape)
    if count > MOST_ELEMENTS:
        raise ValueError(f"a tensor claims {count} elements")
    if kind == "O":
        return _strings(list(tensor.string_val), count).reshape(shape)
    if tensor.tensor_content:
        values = _block(tensor.tensor_content, np.dtype(kind))
    else:
        values = _filled(_values(b"".join(getattr(tensor, field)), kind, field), count)
    if values.size != count:
        raise ValueError(f"a tensor of shape {shape} comes with {values.size} values")
    return values.reshape(shape)


def _values(packed: bytes, kind: str, field: str) -> np.ndarray:
    dtype = np.dtype(kind)
    if field in ("float_val", "double_val"):
        return _block(packed, dtype)
    numbers = _varints(packed)
    if field == "half_val":
        # The bits of each half-precision number lie in an integer.
        return numbers.astype(np.uint16).view(dtype)
    return numbers.view(np.int64).astype(dtype) if dtype.kind == "i" else numbers.astype(dtype)


def _block(values: bytes, dtype: np.dtype) -> np.ndarray:
    if len(values) % dtype.itemsize:
        raise ValueError("a tensor's values are cut off")
    return np.frombuffer(values, dtype)


def _varints(packed: bytes) -> np.ndarray:
    """Return uint64 numbers from varints: seven bits a byte, the lowest first, and the top bit set but in the last."""
    octets = np.frombuffer(packed, np.uint8)
    last = octets < 128
    if last.all():
        return octets.astype(np.uint64)
    if not last[-1]:
        raise ValueError("a tensor's numbers are cut off")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    place = np.arange(octets.size) - np.repeat(starts, ends - starts + 1)
    if place.max() > 9:
        raise ValueError("a tensor's numbers have more than 64 bits")
    return np.add.reduceat((octets & 127).astype(np.uint64) << (7 * place).astype(np.uint64), starts)


def _filled(values: np.ndarray, count: int) -> np.ndarray:
    if not 0 < values.size < count:
        # TensorFlow leaves out values that are all zero.
        return values if values.size else np.zeros(count, values.dtype)
    return np.concatenate([values, np.broadcast_to(values[-1:], count - values.size)])


def _strings(values: list[bytes], count: int) -> np.ndarray:
    if len(values) > count:
        raise ValueError(f"a tensor of {count} strings comes with {len(values)}")
    filled = values + [values[-1] if values else b""] * (count - len(values))
    array = np.empty(count, object)
    array[:] = filled
    return array
