"""One loaded version of a SavedModel: its signatures as they are described, and calling them."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from synthmed.errors import UserError
from synthmed.generation.generator import BATCH
from synthmed.serving.inputs import Items, check_tensors, takes_any_shape
from synthmed.serving.status import Code, ServingError, invalid

DEFAULT_SIGNATURE = "serving_default"
CHUNK_BYTES = 512 * 2**20
"""Memory that the activations of one call of a generator may take."""
ACTIVATIONS = 256
"""Bytes of activations for each byte of an item, at most: generators of 64 x 64 take 190, larger ones less."""
STRING_BYTES = 64
"""What a string weighs beside its characters."""


class Servable:
    """A version of a model, ready to run. Safe to call from several threads.

    It lives in a session of its own, as in TensorFlow Serving, and its memory goes with it. `tf.saved_model.load` would
    register every function with the process, where gradients of some stay for ever: some 300 MB a version.

    Args:
        name: The model's name.
        path: Folder of the version, named by its number.

    Attributes:
        signatures: `SignatureDef` messages by name.
        items: What the model takes where it is a generator of synthmed, else None.

    Raises:
        UserError: If it cannot be loaded.
    """

    def __init__(self, name: str, path: Path):
        self.name = name
        self.path = path
        self.version = int(path.name)
        self._session, meta_graph = _loaded(path)
        # Copies: a part of a message keeps the whole in memory.
        self.signatures = {key: _copy(one) for key, one in meta_graph.signature_def.items()}
        self.items = Items.read(path, self.signatures)
        ours = self.items is not None
        self._of_any_shape = {
            key for key, one in self.signatures.items() if not ours and takes_any_shape(meta_graph.graph_def, one)
        }
        self._calls: dict[str, Callable[..., list[Any]]] = {}

    def __del__(self) -> None:
        session = getattr(self, "_session", None)
        if session is not None:
            session.close()

    @property
    def chunk(self) -> int:
        """How many items a generator draws at once: as many as `generate`, or fewer where slices are large."""
        item = ACTIVATIONS * max(1, self._item_bytes("sample", 1))
        return max(1, min(BATCH, CHUNK_BYTES // item))

    def dtypes(self, signature: str) -> dict[str, str]:
        """Return TensorFlow's name of each input's type, by the input's name.

        Raises:
            ServingError: INVALID_ARGUMENT if there is no such signature, or it has no input.
        """
        name = signature or DEFAULT_SIGNATURE
        if name not in self.signatures:
            raise invalid(f'Serving signature name: "{name}" not found in signature def')
        inputs = self.signatures[name].inputs
        if not inputs:
            raise invalid(f"Failed to get input map for signature: {signature or 'DEFAULT'}")
        import tensorflow as tf

        return {
            key: tf.as_dtype(info.dtype).name.replace("float32", "float").replace("float64", "double")
            for key, info in inputs.items()
        }

    def check(self, signature: str, inputs: Mapping[str, np.ndarray]) -> int | None:
        """Make sure that inputs are what a signature takes.

        Args:
            signature: Its name; "" is the default one.
            inputs: Arrays by name, complete.

        Returns:
            The number of items where the model is a generator of synthmed, else None.

        Raises:
            ServingError: INVALID_ARGUMENT if they are not.
        """
        name = signature or DEFAULT_SIGNATURE
        if name not in self._of_any_shape:
            check_tensors(self.signatures[name], inputs)
        return None if self.items is None or not inputs else self.items.check(inputs)

    def answer_bytes(self, signature: str, inputs: Mapping[str, np.ndarray]) -> int:
        """Return how many bytes the outputs of `run` will have, as far as the signature tells; 0 where it does not.

        Told are outputs whose first dimension alone is open and follows that of the inputs, as a batch does. Of strings
        only the number is known, not how long they are.
        """
        batch = max((len(value) for value in inputs.values() if np.ndim(value)), default=1)
        return self._item_bytes(signature or DEFAULT_SIGNATURE, batch)

    def run(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the outputs of a signature by name.

        Args:
            signature: Its name; "" is the default one.
            inputs: Arrays by name that `check` lets pass; strings as arrays of bytes objects.

        Raises:
            ServingError: With TensorFlow's code and message, if the model refuses.
        """
        import tensorflow as tf

        name = signature or DEFAULT_SIGNATURE
        definition = self.signatures[name]
        try:
            call = self._calls.get(name) or self._callable(name)
            values = call(*(np.asarray(inputs[key]) for key in sorted(definition.inputs)))
        except tf.errors.OpError as error:
            raise ServingError(Code.of(error.error_code), _message(error)) from error
        except (TypeError, ValueError) as error:
            raise invalid(str(error)) from error
        return {key: np.asarray(value) for key, value in zip(sorted(definition.outputs), values, strict=True)}

    def _callable(self, name: str) -> Callable[..., list[Any]]:
        from tensorflow.core.protobuf import config_pb2

        definition = self.signatures[name]
        options = config_pb2.CallableOptions(
            feed=[definition.inputs[key].name for key in sorted(definition.inputs)],
            fetch=[definition.outputs[key].name for key in sorted(definition.outputs)],
        )
        # `Session.run` and `make_callable` compare shapes with placeholders; here, as in TensorFlow Serving, the graph
        # has the last word where `check` lets an input pass.
        self._calls[name] = call = self._session._make_callable_from_options(options)
        return call

    def _item_bytes(self, name: str, batch: int) -> int:
        import tensorflow as tf

        total = 0
        for info in self.signatures[name].outputs.values():
            sizes = [dim.size for dim in info.tensor_shape.dim]
            if info.tensor_shape.unknown_rank or any(size < 0 for size in sizes[1:]):
                continue
            first = [batch if size < 0 else size for size in sizes[:1]]
            dtype = tf.as_dtype(info.dtype)
            total += math.prod(first + sizes[1:]) * (STRING_BYTES if dtype == tf.string else dtype.size)
        return total


def _loaded(path: Path) -> tuple[Any, Any]:
    """Return a session that holds a SavedModel, and its `MetaGraphDef`."""
    import tensorflow as tf
    from tensorflow.python.util import deprecation

    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph)
    try:
        # It says on the terminal that this way of loading is an old one.
        with graph.as_default(), deprecation.silence():
            return session, tf.compat.v1.saved_model.load(session, ["serve"], str(path))
    except Exception as error:
        session.close()
        # A damaged protobuf, a missing shard and a too new format arrive as OSError, ValueError, KeyError and more.
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{path} cannot be loaded ({reason}): export the run again") from None


def _copy(message: Any) -> Any:
    return type(message).FromString(message.SerializeToString())


def _message(error: Any) -> str:
    # TensorFlow adds where Python defined the operation; a server has only what the operation said.
    text = error.message or type(error).__name__
    return text.partition("\n\nErrors may")[0].partition("\n\nOriginal stack trace")[0]
