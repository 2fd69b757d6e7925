"""The gRPC client. It needs grpcio and protobuf, but neither TensorFlow nor its stubs."""

from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import DecodeError

from synthmed.errors import UserError
from synthmed.serving.modelclient import ModelClient
from synthmed.serving.refusals import Kind, Refusal
from synthmed.serving.tensors import to_array, to_tensor
from synthmed.serving.wire import message

MOST_BYTES = 2**30
"""Longest answer that is taken; gRPC's own limit is 4 MB, less than ten images of 256 x 256 x 2."""
AVAILABLE = 30
"""ModelVersionStatus.State."""

_SERVICES = {
    "Predict": "PredictionService",
    "GetModelMetadata": "PredictionService",
    "GetModelStatus": "ModelService",
}
_KINDS = {
    grpc.StatusCode.NOT_FOUND: Kind.MODEL,
    grpc.StatusCode.FAILED_PRECONDITION: Kind.SIGNATURE,
    grpc.StatusCode.INVALID_ARGUMENT: Kind.REQUEST,
    grpc.StatusCode.UNAUTHENTICATED: Kind.TOKEN,
    grpc.StatusCode.PERMISSION_DENIED: Kind.TOKEN,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Kind.BUSY,
    grpc.StatusCode.UNAVAILABLE: Kind.BUSY,
    grpc.StatusCode.UNIMPLEMENTED: Kind.FOREIGN,
    grpc.StatusCode.DEADLINE_EXCEEDED: Kind.SLOW,
}
# What gRPC says of a connection; these words are all by which it tells its failures from the server's.
_WORDS = (
    (Kind.TLS, ("handshak", "ssl_", "certificate", "tls")),
    (Kind.FOREIGN, ("http1", "http/1", "http2 header", "deserializ")),
    (Kind.TOO_LARGE, ("larger than max", "message too large")),
    (Kind.LOST, ("socket closed", "connection reset", "broken pipe", "stream removed", "goaway", "transport closed")),
    (Kind.ABSENT, ("failed to connect", "connection refused", "dns resolution", "name resolution")),
)
_OF_CONNECTIONS = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.CANCELLED,
)


class GrpcClient(ModelClient):
    """One model of one server, over gRPC; see `ModelClient`. Safe to use from several threads.

    Args:
        most_bytes: Longest answer that is taken.
        **arguments: As `ModelClient`.
    """

    def __init__(self, url: str, *, most_bytes: int = MOST_BYTES, **arguments: Any):
        super().__init__(url, **arguments)
        if self.address.scheme not in ("grpc", "grpcs"):
            raise UserError(f"{url!r} is no address of gRPC: write grpc://HOST:PORT")
        self._options = [
            ("grpc.max_receive_message_length", most_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.enable_http_proxy", 0),
            # Asking again is this class's.
            ("grpc.enable_retries", 0),
            ("grpc.initial_reconnect_backoff_ms", 250),
            ("grpc.max_reconnect_backoff_ms", 4000),
        ]
        self._metadata = []
        if self.access.token is not None:
            self._metadata.append(("authorization", f"Bearer {self.access.token}"))
        self._roots = _roots(self.access.ca_file)
        self._channel: grpc.Channel | None = None

    def close(self) -> None:
        """End the connection."""
        if self._channel is not None:
            self._channel.close()
        self._channel = None

    def _predict(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
        request = message("PredictRequest")(model_spec=self._spec(signature))
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(to_tensor(np.asarray(value)))
        response = self._call("Predict", request)
        try:
            return {name: to_array(tensor) for name, tensor in response.outputs.items()}
        except ValueError as error:
            raise Refusal(Kind.FOREIGN, str(error)) from None

    def _available(self) -> bool:
        response = self._call("GetModelStatus", message("GetModelStatusRequest")(model_spec=self._spec()))
        return any(one.state == AVAILABLE for one in response.model_version_status)

    def _signatures(self) -> frozenset[str]:
        request = message("GetModelMetadataRequest")(model_spec=self._spec(), metadata_field=["signature_def"])
        response = self._call("GetModelMetadata", request)
        try:
            packed = message("SignatureDefMap").FromString(response.metadata["signature_def"].value)
        except DecodeError:
            raise Refusal(Kind.FOREIGN, "no signatures in its metadata") from None
        return frozenset(packed.signature_def)

    def _spec(self, signature: str = "") -> Any:
        return message("ModelSpec")(name=self.model, signature_name=signature)

    def _call(self, method: str, request: Any) -> Any:
        call = self._connected().unary_unary(
            f"/tensorflow.serving.{_SERVICES[method]}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=message(f"{method}Response").FromString,
        )
        try:
            return call(request, timeout=self.timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise _refusal(error.code(), error.details() or "") from None

    def _connected(self) -> grpc.Channel:
        if self._channel is None:
            host = f"[{self.address.host}]" if ":" in self.address.host else self.address.host
            target = f"{host}:{self.address.port}"
            if self.address.secure:
                credentials = grpc.ssl_channel_credentials(self._roots)
                self._channel = grpc.secure_channel(target, credentials, self._options)
            else:
                self._channel = grpc.insecure_channel(target, self._options)
        return self._channel


def _roots(ca_file: Any) -> bytes | None:
    if ca_file is None:
        return None
    try:
        return ca_file.read_bytes()
    except OSError as error:
        raise UserError(f"{ca_file} holds no certificates ({error.strerror}): check --ca-file") from None


def _refusal(code: grpc.StatusCode, details: str) -> Refusal:
    """Return what a status of gRPC means."""
    reason = f"{code.name}: {details}"
    if code in _OF_CONNECTIONS:
        for kind, words in _WORDS:
            if any(word in details.lower() for word in words):
                return Refusal(kind, reason)
    return Refusal(_KINDS.get(code, Kind.BROKEN), reason)
