"""TensorFlow Serving's gRPC interface: Predict, GetModelMetadata and GetModelStatus."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from synthmed.errors import UserError
from synthmed.serving.manager import ModelManager
from synthmed.serving.servable import DEFAULT_SIGNATURE, Servable
from synthmed.serving.status import Code, ServingError, invalid

MAX_MESSAGE_BYTES = 256 * 2**20
WORKERS = 8
_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}


def start_grpc(manager: ModelManager, *, host: str, port: int) -> tuple[Any, int]:
    """Return a server with its port taken, not yet started, and that port.

    Raises:
        UserError: If the port cannot be used.
    """
    options = [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", -1),
        # Otherwise a second server shares the port and each gets some of the requests.
        ("grpc.so_reuseport", 0),
    ]
    server = grpc.server(ThreadPoolExecutor(WORKERS), options=options)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_PredictionService(manager), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(_ModelService(manager), server)
    try:
        bound = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError:
        bound = 0
    if not bound:
        raise UserError(f"port {port} cannot be used: choose another --grpc-port")
    return server, bound


class _PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, manager: ModelManager):
        self.manager = manager

    def Predict(self, request: Any, context: Any) -> Any:
        """Run a signature; tensors come back as `tensor_content`."""
        return _answered(context, lambda: self._predict(request))

    def GetModelMetadata(self, request: Any, context: Any) -> Any:
        """Describe the signatures of a model."""
        return _answered(context, lambda: self._metadata(request))

    def _predict(self, request: Any) -> Any:
        servable = _find(self.manager, request.model_spec)
        name = request.model_spec.signature_name or DEFAULT_SIGNATURE
        if name not in servable.signatures:
            raise ServingError(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
        definition = servable.signatures[name]
        inputs = _inputs(request, definition)
        filtered = _filtered(list(request.output_filter), definition)
        outputs = servable.run(name, inputs)
        response = predict_pb2.PredictResponse()
        _fill_spec(response.model_spec, servable, name)
        for alias in filtered or outputs:
            response.outputs[alias].CopyFrom(_proto(outputs[alias]))
        return response

    def _metadata(self, request: Any) -> Any:
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for one in request.metadata_field:
            if one != "signature_def":
                raise invalid(f"Metadata field {one} is not supported")
        servable = _find(self.manager, request.model_spec)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, definition in servable.signatures.items():
            signatures.signature_def[name].CopyFrom(definition)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        _fill_spec(response.model_spec, servable, "")
        response.metadata["signature_def"].Pack(signatures)
        return response


class _ModelService(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, manager: ModelManager):
        self.manager = manager

    def GetModelStatus(self, request: Any, context: Any) -> Any:
        """Tell the state of one version or of all."""
        return _answered(context, lambda: self._status(request))

    def _status(self, request: Any) -> Any:
        spec = request.model_spec
        version = spec.version.value if spec.WhichOneof("version_choice") == "version" else None
        response = get_model_status_pb2.GetModelStatusResponse()
        for one in self.manager.statuses(spec.name, version=version):
            added = response.model_version_status.add(version=one.version, state=one.state.value)
            added.status.error_code = Code.UNKNOWN.number if one.error else Code.OK.number
            added.status.error_message = one.error
        return response


def _answered(context: Any, answer: Callable[[], Any]) -> Any:
    try:
        return answer()
    except ServingError as error:
        context.abort(_STATUS_CODES[error.code.number], error.message)


def _find(manager: ModelManager, spec: Any) -> Servable:
    if not spec.name:
        raise invalid("ModelSpec has no name specified.")
    choice = spec.WhichOneof("version_choice")
    if choice == "version_label":
        return manager.find(spec.name, label=spec.version_label)
    return manager.find(spec.name, version=spec.version.value if choice == "version" else None)


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
            names = tf.as_dtype(expected).name, tf.as_dtype(proto.dtype).name if proto.dtype else "none"
            raise invalid(f"input {name} expected type {names[0]}, got {names[1]}")
        try:
            arrays[name] = tf.make_ndarray(proto)
        except (TypeError, ValueError) as error:
            raise invalid(f"input {name} is no valid tensor: {error}") from None
    return arrays


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


def _fill_spec(spec: Any, servable: Servable, signature: str) -> None:
    spec.name = servable.name
    spec.version.value = servable.version
    spec.signature_name = signature


def _proto(value: np.ndarray) -> Any:
    array = np.asarray(value)
    if array.dtype.kind == "O":
        return tf.make_tensor_proto(array)
    return tf.make_tensor_proto(array, shape=array.shape)
