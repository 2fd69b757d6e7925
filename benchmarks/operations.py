"""The convolutions and matrix products of a compiled function, and how fast each of them is alone.

Their sum is what a step could not undercut if everything else were free: the bound that the benchmarks compare with.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

CONVOLUTIONS = ("Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter")
PRODUCTS = ("MatMul", "BatchMatMulV2", "BatchMatMulV3")
# Attributes that say what an operation computes; shapes and types come from its inputs.
ATTRIBUTES = {
    "strides": lambda op: tuple(op.get_attr("strides")),
    "padding": lambda op: op.get_attr("padding").decode(),
    "explicit_paddings": lambda op: tuple(op.get_attr("explicit_paddings")),
    "dilations": lambda op: tuple(op.get_attr("dilations")),
    "data_format": lambda op: op.get_attr("data_format").decode(),
    "transpose_a": lambda op: op.get_attr("transpose_a"),
    "transpose_b": lambda op: op.get_attr("transpose_b"),
    "adj_x": lambda op: op.get_attr("adj_x"),
    "adj_y": lambda op: op.get_attr("adj_y"),
}


@dataclass(frozen=True)
class Operation:
    """One distinct operation.

    Attributes:
        kind: TensorFlow's name of it.
        shapes: Shapes of its tensor inputs.
        dtype: Number format of its inputs.
        attributes: Pairs of name and value.
        sizes: The shape that a gradient of a convolution takes as an argument, or nothing.
    """

    kind: str
    shapes: tuple[tuple[int, ...], ...]
    dtype: str
    attributes: tuple[tuple[str, Any], ...]
    sizes: tuple[int, ...] = ()

    @property
    def gflop(self) -> float:
        """Multiplications and additions, in thousand millions, padding counted as if it were data."""
        named = dict(self.attributes)
        if self.kind in PRODUCTS:
            left, right = self.shapes
            rows = left[-1] if named.get("transpose_a") or named.get("adj_x") else left[-2]
            inner = left[-2] if named.get("transpose_a") or named.get("adj_x") else left[-1]
            columns = right[-2] if named.get("transpose_b") or named.get("adj_y") else right[-1]
            count = 1
            for length in left[:-2]:
                count *= length
            return 2e-9 * count * rows * inner * columns
        kernel = self.sizes if self.kind == "Conv2DBackpropFilter" else self.shapes[0 if self.sizes else 1]
        # The output of the convolution that this is, or is the gradient of.
        grid = self.shapes[1] if self.sizes else _strided(self.shapes[0], kernel, named)
        return 2e-9 * grid[0] * grid[1] * grid[2] * kernel[0] * kernel[1] * kernel[2] * kernel[3]


def operations(functions: Iterable[tuple[Any, float]]) -> Counter:
    """Count the distinct convolutions and matrix products of functions.

    Args:
        functions: Pairs of a concrete function and how often a step calls it.

    Returns:
        From `Operation` to how often a step does it. What nothing depends on is not counted: it is never run.
    """
    counts: Counter = Counter()
    for function, calls in functions:
        graph = function.graph
        for op in _needed(graph):
            if op.type in CONVOLUTIONS + PRODUCTS:
                counts[_describe(op)] += calls
    return counts


class Timing(NamedTuple):
    """How long something took: on the clock, and on all cores together (which other programs do not add to)."""

    wall: float
    processor: float


def timed(call: Callable[[], Any], *, repeats: int = 1) -> Timing:
    """Time a call that does something `repeats` times over: seconds for one."""
    wall, processor = time.perf_counter(), time.process_time()
    call()
    return Timing((time.perf_counter() - wall) / repeats, (time.process_time() - processor) / repeats)


def timer(operation: Operation, *, seconds: float = 0.05) -> Callable[[], Timing]:
    """Return a function that times one execution of an operation alone.

    The graph does it many times over, one after the other, so that the price of calling a function does not count.

    Args:
        operation: What to time.
        seconds: About how long one call of the returned function lasts.
    """
    inputs = [tf.cast(tf.random.normal(shape), operation.dtype) for shape in operation.shapes]
    once = _repeated(operation, 1)
    once(inputs)
    repeats = max(1, min(100, round(seconds / timed(lambda: once(inputs)).wall)))
    many = _repeated(operation, repeats) if repeats > 1 else once
    many(inputs)
    return lambda: timed(lambda: many(inputs), repeats=repeats)


def _repeated(operation: Operation, repeats: int):
    raw = getattr(tf.raw_ops, operation.kind)
    named: dict[str, Any] = {
        name: list(value) if isinstance(value, tuple) else value for name, value in operation.attributes
    }

    def run(inputs):
        total, previous = tf.constant(0.0), []
        for _ in range(repeats):
            # In a row, each with another predecessor so that none passes for a copy of another, and all of them used.
            with tf.control_dependencies(previous):
                output = raw(**_arguments(operation, inputs), **named)
            previous = [output]
            total += tf.cast(output[(0,) * len(output.shape)], tf.float32)
        return total

    return tf.function(run)


def _arguments(operation: Operation, inputs) -> dict[str, Any]:
    if operation.kind == "Conv2D":
        return {"input": inputs[0], "filter": inputs[1]}
    if operation.kind == "Conv2DBackpropInput":
        return {"input_sizes": operation.sizes, "filter": inputs[0], "out_backprop": inputs[1]}
    if operation.kind == "Conv2DBackpropFilter":
        return {"input": inputs[0], "filter_sizes": operation.sizes, "out_backprop": inputs[1]}
    return {"a": inputs[0], "b": inputs[1]} if operation.kind == "MatMul" else {"x": inputs[0], "y": inputs[1]}


def _describe(op) -> Operation:
    attributes = tuple(
        (name, read(op))
        for name, read in ATTRIBUTES.items()
        if name in op.node_def.attr and name != "explicit_paddings"
    )
    tensors = [tensor for tensor in op.inputs if tensor.dtype.is_floating]
    sizes = tuple(op.outputs[0].shape) if op.type.startswith("Conv2DBackprop") else ()
    shapes = tuple(tuple(tensor.shape) for tensor in tensors)
    if any(length is None for shape in (*shapes, sizes) for length in shape):
        raise ValueError(f"{op.name} has an unknown shape: {shapes} {sizes}")
    return Operation(op.type, shapes, tensors[0].dtype.name, attributes, sizes)


def _needed(graph) -> list:
    """Return the operations of a graph that its outputs or its side effects depend on."""
    waiting = [tensor.op for tensor in graph.outputs] + list(graph.control_outputs)
    seen = {op.name: op for op in waiting}
    while waiting:
        op = waiting.pop()
        for other in [tensor.op for tensor in op.inputs] + list(op.control_inputs):
            if other.name not in seen:
                seen[other.name] = other
                waiting.append(other)
    return list(seen.values())


def _strided(shape, kernel, named) -> tuple[int, ...]:
    steps = named["strides"][1:3]
    lengths = [
        -(-(length if named["padding"] == "SAME" else length - taps + 1) // step)
        for length, taps, step in zip(shape[1:3], kernel[:2], steps, strict=True)
    ]
    return (shape[0], *lengths)
