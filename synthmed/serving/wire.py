"""TensorFlow Serving's gRPC messages without TensorFlow: the fields that a client of generators reads and writes.

The official stubs import TensorFlow, for which `synthmed query` would wait many seconds. Here the messages are declared
to protobuf at run time, in a pool of their own, so that both may live in one process. Names and numbers of fields are
those of tensorflow/core/framework/tensor.proto and tensorflow_serving/apis/*.proto; fields that are not declared are
skipped, as protobuf does with fields that it does not know.

Numbers that TensorFlow packs are declared as bytes: a packed field and a field of bytes look the same on the wire, and
`synthmed.serving.tensors` decodes them as arrays, a hundred times faster than one by one.
"""

from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "synthmed.wire"

_KINDS = {
    "bytes": _Field.TYPE_BYTES,
    "string": _Field.TYPE_STRING,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "bool": _Field.TYPE_BOOL,
}

# message: {field: (number, kind)}. "*" marks a repeated field, "map:" a map from strings; another kind is a message.
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "Dim": {"size": (1, "int64"), "name": (2, "string")},
    "TensorShape": {"dim": (2, "*Dim"), "unknown_rank": (3, "bool")},
    "Tensor": {
        "dtype": (1, "int32"),
        "tensor_shape": (2, "TensorShape"),
        "tensor_content": (4, "bytes"),
        "half_val": (13, "*bytes"),
        "float_val": (5, "*bytes"),
        "double_val": (6, "*bytes"),
        "int_val": (7, "*bytes"),
        "string_val": (8, "*bytes"),
        "int64_val": (10, "*bytes"),
        "bool_val": (11, "*bytes"),
        "uint32_val": (16, "*bytes"),
        "uint64_val": (17, "*bytes"),
    },
    "Int64Value": {"value": (1, "int64")},
    "ModelSpec": {
        "name": (1, "string"),
        "version": (2, "Int64Value"),
        "signature_name": (3, "string"),
        "version_label": (4, "string"),
    },
    "PredictRequest": {"model_spec": (1, "ModelSpec"), "inputs": (2, "map:Tensor"), "output_filter": (3, "*string")},
    "PredictResponse": {"outputs": (1, "map:Tensor"), "model_spec": (2, "ModelSpec")},
    "GetModelMetadataRequest": {"model_spec": (1, "ModelSpec"), "metadata_field": (2, "*string")},
    "GetModelMetadataResponse": {"model_spec": (1, "ModelSpec"), "metadata": (2, "map:Any")},
    "Any": {"type_url": (1, "string"), "value": (2, "bytes")},
    "SignatureDefMap": {"signature_def": (1, "map:SignatureDef")},
    "SignatureDef": {},
    "GetModelStatusRequest": {"model_spec": (1, "ModelSpec")},
    "GetModelStatusResponse": {"model_version_status": (1, "*ModelVersionStatus")},
    "ModelVersionStatus": {"version": (1, "int64"), "state": (2, "int32"), "status": (3, "Status")},
    "Status": {"error_code": (1, "int32"), "error_message": (2, "string")},
    "PredictLog": {"request": (1, "PredictRequest"), "response": (2, "PredictResponse")},
    "PredictionLog": {"predict_log": (6, "PredictLog")},
}


@cache
def message(name: str) -> Any:
    """Return the class of a message, by its short name."""
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{_PACKAGE}.{name}"))


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto(name="synthmed/wire.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        declared = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            _declare(declared, field, number, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


def _declare(declared: Any, name: str, number: int, kind: str) -> None:
    repeated = kind.startswith(("*", "map:"))
    label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
    field = declared.field.add(name=name, number=number, label=label)
    if kind.startswith("map:"):
        # On the wire a map is a repeated message of key and value.
        entry = declared.nested_type.add(name="".join(part.title() for part in name.split("_")) + "Entry")
        entry.options.map_entry = True
        _declare(entry, "key", 1, "string")
        _declare(entry, "value", 2, kind.removeprefix("map:"))
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{declared.name}.{entry.name}"
        return
    kind = kind.removeprefix("*")
    if kind in _KINDS:
        field.type = _KINDS[kind]
    else:
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
