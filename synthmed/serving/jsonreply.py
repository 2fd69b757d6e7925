"""From arrays to the JSON of a predict reply, in row and column form."""

import base64
import json
from collections.abc import Mapping

import numpy as np

from synthmed.serving.jsontensor import Form
from synthmed.serving.status import invalid


def reply(form: Form, outputs: Mapping[str, np.ndarray]) -> bytes:
    """Return the body of a predict reply.

    Args:
        form: The form of the request.
        outputs: Arrays by name; strings are arrays of bytes objects.

    Raises:
        ServingError: INVALID_ARGUMENT where the outputs have no common first dimension in the row form.
    """
    if form == "column":
        texts = {name: value_text(outputs[name], as_bytes=_is_bytes(name, outputs[name])) for name in sorted(outputs)}
        return b'{"outputs": %s}' % (_members(texts) if len(texts) > 1 else next(iter(texts.values())))
    size = _batch_size(outputs)
    rows = {
        name: [value_text(row, as_bytes=_is_bytes(name, outputs[name])) for row in outputs[name]]
        for name in sorted(outputs)
    }
    if len(rows) > 1:
        texts_of_rows = [_members({name: rows[name][item] for name in rows}) for item in range(size)]
    else:
        texts_of_rows = next(iter(rows.values()))
    return b'{"predictions": [%s]}' % b", ".join(texts_of_rows)


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
        return _nested(texts, array.shape).encode("ascii")
    if kind in "iu":
        return _nested(list(map(str, array.ravel().tolist())), array.shape).encode("ascii")
    if kind == "b":
        return _nested(["true" if item else "false" for item in array.ravel()], array.shape).encode("ascii")
    if kind in "OS":
        texts = [_string(bytes(item), as_bytes=as_bytes) for item in array.ravel().tolist()]
        return _nested(texts, array.shape).encode("utf-8", "surrogateescape")
    raise invalid(f"Failed to write JSON value for tensor type: {array.dtype.name}")


def _nested(texts: list[str], shape: tuple[int, ...]) -> str:
    for size in reversed(shape):
        if size == 0:
            count = int(np.prod(shape[: shape.index(0)]))
            return _nested(["[]"] * count, shape[: shape.index(0)])
        texts = [f"[{', '.join(texts[start : start + size])}]" for start in range(0, len(texts), size)]
    return texts[0]


def _string(value: bytes, *, as_bytes: bool) -> str:
    if as_bytes:
        return f'{{"b64": "{base64.b64encode(value).decode("ascii")}"}}'
    return json.dumps(value.decode("utf-8", "surrogateescape"), ensure_ascii=False)


def _members(texts: Mapping[str, bytes]) -> bytes:
    return b"{%s}" % b", ".join(b"%s: %s" % (json.dumps(name).encode(), text) for name, text in texts.items())


def _is_bytes(name: str, value: np.ndarray) -> bool:
    return name.endswith("_bytes") and np.asarray(value).dtype.kind in "OS"


def _batch_size(outputs: Mapping[str, np.ndarray]) -> int:
    size = -1
    for name in sorted(outputs):
        value = np.asarray(outputs[name])
        if value.ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if size >= 0 and len(value) != size:
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {len(value)} expecting: {size}")
        size = len(value)
    return size
