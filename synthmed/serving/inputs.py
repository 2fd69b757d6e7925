"""What a signature takes: shape, type and values of a request's inputs, checked before any operation runs.

TensorFlow ends the whole process where some of its operations meet a shape that they do not expect: what arrives from a
stranger must not get that far.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from synthmed.generation.generator import INFO_FILE
from synthmed.serving.status import invalid

_OURS = {"sample", "geometry", "describe"}
_ELEMENTWISE = """
    Placeholder PlaceholderWithDefault Const Identity IdentityN NoOp VarHandleOp ReadVariableOp PartitionedCall
    StatefulPartitionedCall Cast Neg Abs Sign Add AddV2 Sub Mul RealDiv Maximum Minimum Exp Log Sqrt Rsqrt Square Pow
    Tanh Sigmoid Relu Elu Selu Softplus StringLength StringLower StringUpper StringStrip
"""
"""Operations that take any shape: a model of these alone answers whatever it is asked, as under TensorFlow Serving."""


def check_tensors(definition: Any, inputs: Mapping[str, np.ndarray]) -> None:
    """Compare inputs with a signature: rank, fixed dimensions and type; no dimension may be empty.

    A rank or dimension that the signature leaves open stays open.

    Args:
        definition: The `SignatureDef`.
        inputs: Arrays by name, complete.

    Raises:
        ServingError: INVALID_ARGUMENT, naming the input.
    """
    import tensorflow as tf

    for name, value in inputs.items():
        info, shape = definition.inputs[name], np.shape(value)
        dtype = tf.as_dtype(info.dtype)
        if dtype == tf.string:
            fits = np.asarray(value).dtype.kind in "OS"
        else:
            fits = np.asarray(value).dtype == dtype.as_numpy_dtype
        if not fits:
            raise invalid(f"input {name} has another type than {dtype.name}")
        wanted = None if info.tensor_shape.unknown_rank else [dim.size for dim in info.tensor_shape.dim]
        if wanted is not None and not _fits(shape, wanted):
            listed = ", ".join("any" if size < 0 else str(size) for size in wanted)
            raise invalid(f"input {name} has the shape {list(shape)}, but is to have [{listed}]")
        if 0 in shape and 0 not in (wanted or ()):
            raise invalid(f"input {name} is empty: its shape is {list(shape)}")


def _fits(shape: tuple[int, ...], wanted: list[int]) -> bool:
    return len(shape) == len(wanted) and all(size in (-1, own) for own, size in zip(shape, wanted, strict=True))


def takes_any_shape(graph: Any, definition: Any) -> bool:
    """Return whether a signature consists of operations that work element by element, whatever the shape.

    Args:
        graph: The `GraphDef` with the functions that it calls.
        definition: The `SignatureDef`.
    """
    known = set(_ELEMENTWISE.split())
    return all(node.op in known for node in _nodes(graph, definition))


def _nodes(graph: Any, definition: Any) -> Iterator[Any]:
    """Yield the nodes that the outputs of a signature need, those of the functions that they call included."""
    nodes = {node.name: node for node in graph.node}
    functions = {one.signature.name: one.node_def for one in graph.library.function}
    names = [info.name for info in definition.outputs.values()]
    seen: set[str] = set()
    called: set[str] = set()
    while names:
        name = names.pop().lstrip("^").partition(":")[0]
        if name in nodes and name not in seen:
            seen.add(name)
            names.extend(nodes[name].input)
    waiting = [nodes[name] for name in seen]
    while waiting:
        node = waiting.pop()
        yield node
        for value in node.attr.values():
            for one in [value.func, *value.list.func]:
                if one.name in functions and one.name not in called:
                    called.add(one.name)
                    waiting.extend(functions[one.name])


@dataclass(frozen=True)
class Items:
    """What an exported generator of synthmed takes: a batch of items that do not depend on each other.

    Args:
        classes: Number of classes of its label maps, background included.
    """

    classes: int

    @classmethod
    def read(cls, version: Path, signatures: Mapping[str, Any]) -> "Items | None":
        """Return what the generator in a folder takes; None for a model that synthmed did not export.

        Nothing but what is needed here is read, so that generators of other releases are recognised, too.
        """
        try:
            content = json.loads((version / INFO_FILE).read_text(encoding="utf-8"))
            classes = content["classes"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        if not set(signatures) >= _OURS or not isinstance(classes, list) or not classes:
            return None
        return cls(len(classes))

    def check(self, inputs: Mapping[str, np.ndarray]) -> int:
        """Return the number of items.

        Args:
            inputs: Arrays that fit the signature.

        Raises:
            ServingError: INVALID_ARGUMENT if inputs are of different numbers of items, or a value is none that the
                generator takes.
        """
        counts = {name: len(value) for name, value in inputs.items()}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
            raise invalid(f"inputs are of different numbers of items: {listed}")
        for name, value in inputs.items():
            self._check_values(name, value)
        return next(iter(counts.values()))

    def _check_values(self, name: str, value: np.ndarray) -> None:
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise invalid(f"input {name} has values that are not finite")
        # Latent codes and styles may be anything that is finite.
        lowest, highest = {
            "seed": (0, np.inf),
            "psi": (0, 1),
            "mask": (0, self.classes - 1),
            "position": (0, 1),
            "shown": (0, 1),
        }.get(name, (-np.inf, np.inf))
        if value.min() < lowest or value.max() > highest:
            allowed = f"{lowest} or more" if highest == np.inf else f"from {lowest} to {highest}"
            raise invalid(f"input {name} has values from {value.min()} to {value.max()}; allowed is {allowed}")
