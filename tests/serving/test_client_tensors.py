"""Tensor messages are read and written without TensorFlow as TensorFlow reads and writes them."""

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("google.protobuf")

from synthmed.serving.tensors import to_array, to_tensor
from synthmed.serving.wire import message

KINDS = ("f4", "f8", "f2", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")


def parsed(tensor):
    """Return TensorFlow's message as ours, by way of the wire."""
    return message("Tensor").FromString(tensor.SerializeToString())


def extremes(kind, shape):
    """Return an array of a type with its largest and smallest values."""
    dtype = np.dtype(kind)
    rng = np.random.default_rng(0)
    if dtype.kind == "f":
        values = np.array([0.0, -1.5, np.inf, -np.inf, np.nan, np.finfo(dtype).max, np.finfo(dtype).tiny])
    elif dtype.kind == "b":
        values = np.array([True, False])
    else:
        limits = np.iinfo(dtype)
        values = np.array([limits.min, limits.max, 0, 1, 127, min(200, limits.max)], dtype)
    return rng.choice(values, shape).astype(dtype)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(), (1,), (0,), (2, 3, 5), (4, 0)])
def test_both_forms_are_read_as_tensorflow_reads_them(kind, shape):
    """TensorFlow Serving answers value by value, synthmed serve in one block: one of them would give other images."""
    import tensorflow as tf
    from tensorflow.core.framework import tensor_pb2

    array = extremes(kind, shape)
    block = tf.make_tensor_proto(array)
    single = tensor_pb2.TensorProto()
    # The form that TensorFlow Serving writes: Tensor::AsProtoField, reached here through the fields' own names.
    single.dtype, _ = block.dtype, single.tensor_shape.CopyFrom(block.tensor_shape)
    field = {"f4": "float_val", "f8": "double_val", "f2": "half_val", "i8": "int64_val", "?": "bool_val"}
    field |= {"u4": "uint32_val", "u8": "uint64_val"}
    values = array.view(np.uint16) if kind == "f2" else array
    getattr(single, field.get(kind, "int_val")).extend(values.ravel().tolist())
    for tensor in (block, single):
        assert np.array_equal(tf.make_ndarray(tensor), array, equal_nan=kind[0] == "f")
        read = to_array(parsed(tensor))
        assert read.dtype == array.dtype and read.shape == shape
        assert np.array_equal(read, array, equal_nan=kind[0] == "f")
    written = tensor_pb2.TensorProto.FromString(to_tensor(array).SerializeToString())
    assert np.array_equal(tf.make_ndarray(written), array, equal_nan=kind[0] == "f")


def test_short_lists_repeat_their_last_value():
    """A constant label map, which TensorFlow writes as one number, would not be read."""
    import tensorflow as tf
    from tensorflow.core.framework import tensor_pb2

    for values, expected in (([], [0, 0, 0, 0]), ([3], [3, 3, 3, 3]), ([1, 300], [1, 300, 300, 300])):
        tensor = tensor_pb2.TensorProto(dtype=tf.int32.as_datatype_enum, int_val=values)
        tensor.tensor_shape.dim.add(size=4)
        assert tf.make_ndarray(tensor).tolist() == to_array(parsed(tensor)).tolist() == expected


def test_strings_are_bytes():
    """What sample_bytes answers would be no array of bytes."""
    import tensorflow as tf
    from tensorflow.core.framework import tensor_pb2

    array = np.array([[b"\x00\xff", b""], [b"one", b"two"]], object)
    assert to_array(parsed(tf.make_tensor_proto(array))).tolist() == array.tolist()
    written = tensor_pb2.TensorProto.FromString(to_tensor(array).SerializeToString())
    assert tf.make_ndarray(written).tolist() == array.tolist()


@pytest.mark.parametrize(
    "fields",
    [
        {"dtype": 1, "tensor_content": b"\0" * 7},
        {"dtype": 1, "tensor_content": b"\0" * 16},
        {"dtype": 1, "float_val": [b"\0" * 16]},
        {"dtype": 3, "int_val": [b"\xff"]},
        {"dtype": 3, "int_val": [b"\xff" * 12 + b"\x01"]},
        {"dtype": 7, "string_val": [b""] * 4},
        {"dtype": 0},
        {"dtype": 99},
    ],
)
def test_damaged_messages_are_refused(fields):
    """A wrong answer would be taken for an image, or end in a traceback."""
    tensor = message("Tensor")(**fields)
    tensor.tensor_shape.dim.add(size=3)
    with pytest.raises(ValueError, match="tensor"):
        to_array(tensor)


@pytest.mark.parametrize("sizes", [(-1,), (2**40, 2**40)])
def test_shapes_that_are_none_are_refused(sizes):
    """A few bytes from a server would fill the memory."""
    tensor = message("Tensor")(dtype=1)
    for size in sizes:
        tensor.tensor_shape.dim.add(size=size)
    with pytest.raises(ValueError, match="tensor"):
        to_array(tensor)


def test_messages_are_those_of_the_official_stubs():
    """A server would not understand a question, or the client not its answer."""
    apis = pytest.importorskip("tensorflow_serving.apis")
    from importlib import import_module

    from synthmed.serving.wire import _MESSAGES

    names = {"Dim": "TensorShapeProto.Dim", "TensorShape": "TensorShapeProto", "Tensor": "TensorProto"}
    names |= {"Status": "StatusProto"}
    places = [
        "status_pb2",
        "predict_pb2",
        "model_pb2",
        "prediction_log_pb2",
        "get_model_metadata_pb2",
        "get_model_status_pb2",
    ]
    modules = [import_module(f"{apis.__name__}.{place}") for place in places]
    modules += [import_module("google.protobuf.any_pb2")]
    modules += [import_module("google.protobuf.wrappers_pb2")]
    modules += [import_module(f"tensorflow.core.framework.{name}_pb2") for name in ("tensor", "tensor_shape")]
    modules += [import_module("tensorflow.core.protobuf.meta_graph_pb2")]
    for ours, fields in _MESSAGES.items():
        first, *inner = names.get(ours, ours).split(".")
        module = next(module for module in modules if first in module.DESCRIPTOR.message_types_by_name)
        official = module.DESCRIPTOR.message_types_by_name[first]
        for part in inner:
            official = official.nested_types_by_name[part]
        for name, (number, kind) in fields.items():
            field = official.fields_by_name[name]
            assert field.number == number and field.is_repeated == kind.startswith(("*", "map:")), (ours, name)


def test_asking_needs_no_tensorflow():
    """`synthmed query` would wait many seconds before it asks anything."""
    code = (
        "import sys, synthmed.generation.generate, synthmed.serving, synthmed.serving.client, "
        "synthmed.serving.grpc_client as g; g.message('PredictRequest'); "
        "print([name for name in ('tensorflow', 'keras', 'tensorflow_serving') if name in sys.modules])"
    )
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert outcome.stdout.strip() == "[]"
