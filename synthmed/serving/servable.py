"""One loaded version of a SavedModel: its signatures as they are described, and calling them."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from synthmed.errors import UserError
from synthmed.generation.savedmodel import load_saved_model
from synthmed.serving.status import Code, ServingError, invalid

DEFAULT_SIGNATURE = "serving_default"
_OPERATION = re.compile(r"\s*\[Op:[^\]]*\]\s*$")


class Servable:
    """A version of a model, ready to run. Safe to call from several threads.

    Args:
        name: The model's name.
        path: Folder of the version, named by its number.

    Raises:
        UserError: If it cannot be loaded.
    """

    def __init__(self, name: str, path: Path):
        self.name = name
        self.path = path
        self.version = int(path.name)
        self.signatures = _signature_definitions(path)
        self._loaded = load_saved_model(path)

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

    def answer_bytes(self, signature: str, inputs: Mapping[str, np.ndarray]) -> int:
        """Return how many bytes the outputs of `run` will have, as far as the signature tells; 0 where it does not.

        Told are outputs whose first dimension alone is open and follows that of the inputs, as a batch does.
        """
        import tensorflow as tf

        batch = max((len(value) for value in inputs.values() if np.ndim(value)), default=1)
        total = 0
        for info in self.signatures[signature or DEFAULT_SIGNATURE].outputs.values():
            sizes = [dim.size for dim in info.tensor_shape.dim]
            if info.tensor_shape.unknown_rank or any(size < 0 for size in sizes[1:]):
                continue
            first = [batch if size < 0 else size for size in sizes[:1]]
            total += math.prod(first + sizes[1:]) * tf.as_dtype(info.dtype).size
        return total

    def run(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the outputs of a signature by name. Shapes are checked by the model's operations alone.

        Args:
            signature: Its name; "" is the default one.
            inputs: Arrays by name, complete and of the signature's types; strings as arrays of bytes objects.

        Raises:
            ServingError: With TensorFlow's code and message, if the model refuses.
        """
        import tensorflow as tf

        name = signature or DEFAULT_SIGNATURE
        types = {key: tf.as_dtype(info.dtype) for key, info in self.signatures[name].inputs.items()}
        try:
            tensors = {key: tf.constant(value, dtype=types[key]) for key, value in inputs.items()}
            outputs = self._loaded.signatures[name](**tensors)
        except tf.errors.OpError as error:
            raise ServingError(Code.of(error.error_code), _message(error)) from error
        except (TypeError, ValueError) as error:
            raise invalid(str(error)) from error
        return {key: value.numpy() for key, value in outputs.items()}


def _signature_definitions(path: Path) -> dict[str, Any]:
    """Return the `SignatureDef` messages of a SavedModel, which tell more than the loaded functions do."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    try:
        saved = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    except (OSError, DecodeError) as error:
        raise UserError(f"{path} is no SavedModel ({error}): export it again") from error
    for graph in saved.meta_graphs:
        if "serve" in graph.meta_info_def.tags:
            return dict(graph.signature_def)
    raise UserError(f"{path} has no graph to serve: export it again")


def _message(error: Any) -> str:
    # TensorFlow wraps what the operation said into where Python defined it; a server has only what it said.
    text = _OPERATION.sub("", error.message)
    if text.startswith("Graph execution error"):
        marker = "<stack traces unavailable>\n"
        text = text.partition(marker)[2] or text.partition("\n\n")[2] or text
    return text
