"""TensorFlow Serving's gRPC interface: Predict, GetModelMetadata and GetModelStatus."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from synthmed.errors import UserError
from synthmed.serving.accesslog import peer_address
from synthmed.serving.backend import Backend
from synthmed.serving.limits import Ticket
from synthmed.serving.predict import fill_spec, predict
from synthmed.serving.servable import Servable
from synthmed.serving.status import Code, ServingError, invalid

_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}
_SPARE_THREADS = 4
"""Threads beside those that predictions can take, so that a full server still tells its state."""
_ENVELOPE_BYTES = 2**20
"""What a message may have beside its tensors."""


def start_grpc(backend: Backend, *, port: int) -> tuple[Any, int]:
    """Return a server with its port taken, not yet started, and that port.

    Raises:
        UserError: If the port cannot be used.
    """
    limits, access = backend.limits, backend.access
    threads = limits.workers + limits.queue + _SPARE_THREADS
    options = [
        ("grpc.max_receive_message_length", limits.request_bytes + _ENVELOPE_BYTES),
        ("grpc.max_send_message_length", -1),
        # Otherwise a second server shares the port and each gets some of the requests.
        ("grpc.so_reuseport", 0),
    ]
    # Most of the threads only wait at the gate; they are made as they are needed.
    server = grpc.server(
        ThreadPoolExecutor(threads, thread_name_prefix="synthmed-grpc"),
        options=options,
        maximum_concurrent_rpcs=threads,
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_PredictionService(backend), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(_ModelService(backend), server)
    address = f"[{access.address}]:{port}" if ":" in access.address else f"{access.address}:{port}"
    try:
        if access.certificate is not None and access.key is not None:
            pair = access.key.read_bytes(), access.certificate.read_bytes()
            bound = server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
        else:
            bound = server.add_insecure_port(address)
    except RuntimeError:
        bound = 0
    if not bound:
        raise UserError(f"port {port} cannot be used: choose another --grpc-port")
    return server, bound


@dataclass
class _Call:
    """One call, and what is counted of it."""

    backend: Backend
    context: Any
    method: str
    model: str
    version: int | None = None

    def answered(self, answer: Callable[["_Call"], Any]) -> Any:
        """Return what `answer` returns, or end the call with its error."""
        started, code, message, size = time.monotonic(), Code.OK, "", 0
        try:
            if not self.backend.access.allows(self._authorization()):
                raise ServingError(Code.UNAUTHENTICATED, "the request bears no valid token")
            response = answer(self)
            size = response.ByteSize() if self.backend.access_log is not None else 0
            return response
        except ServingError as error:
            code, message = error.code, error.message
        except Exception as error:  # A request must never end the server; the client learns what happened.
            code, message = Code.INTERNAL, f"{type(error).__name__}: {error}"
        finally:
            seconds = time.monotonic() - started
            self.backend.metrics.answered(
                protocol="GRPC", method=self.method, model=self.model, version=self.version, code=code, seconds=seconds
            )
            if self.backend.access_log is not None:
                self.backend.access_log.write(
                    protocol="GRPC",
                    client=peer_address(self.context.peer()),
                    method=self.method,
                    path=self.model,
                    status=code.name,
                    size=size,
                    seconds=seconds,
                )
        self.context.abort(_STATUS_CODES[code.number], message)

    def find(self, spec: Any) -> Servable:
        """Return what a ModelSpec means."""
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        manager, choice = self.backend.manager, spec.WhichOneof("version_choice")
        if choice == "version_label":
            found = manager.find(spec.name, label=spec.version_label)
        else:
            found = manager.find(spec.name, version=spec.version.value if choice == "version" else None)
        self.version = found.version
        return found

    def work(self, ticket: Ticket, call: Callable[[], Any]) -> Any:
        """Return `call()`, made when a worker's place is free and while somebody waits for it."""

        def unless_gone() -> Any:
            if not self.context.is_active():
                raise ServingError(Code.CANCELLED, "the client has gone")
            return call()

        remaining = self.context.time_remaining()
        return ticket.run(unless_gone, seconds=remaining)

    def _authorization(self) -> str:
        values = [value for key, value in self.context.invocation_metadata() if key == "authorization"]
        return values[0] if values else ""


class _PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, backend: Backend):
        self.backend = backend

    def Predict(self, request: Any, context: Any) -> Any:
        """Run a signature; tensors come back as `tensor_content`."""
        call = _Call(self.backend, context, "Predict", request.model_spec.name)
        return call.answered(lambda call: self._predict(call, request))

    def GetModelMetadata(self, request: Any, context: Any) -> Any:
        """Describe the signatures of a model."""
        call = _Call(self.backend, context, "GetModelMetadata", request.model_spec.name)
        return call.answered(lambda call: self._metadata(call, request))

    def _predict(self, call: _Call, request: Any) -> Any:
        with self.backend.gate.ticket("GRPC") as ticket:
            ticket.hold(request.ByteSize())
            servable = call.find(request.model_spec)
            return call.work(ticket, lambda: predict(servable, request, self.backend.limits))

    def _metadata(self, call: _Call, request: Any) -> Any:
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for one in request.metadata_field:
            if one != "signature_def":
                raise invalid(f"Metadata field {one} is not supported")
        servable = call.find(request.model_spec)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, definition in servable.signatures.items():
            signatures.signature_def[name].CopyFrom(definition)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        fill_spec(response.model_spec, servable, "")
        response.metadata["signature_def"].Pack(signatures)
        return response


class _ModelService(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, backend: Backend):
        self.backend = backend

    def GetModelStatus(self, request: Any, context: Any) -> Any:
        """Tell the state of one version or of all."""
        call = _Call(self.backend, context, "GetModelStatus", request.model_spec.name)
        return call.answered(lambda call: self._status(request))

    def _status(self, request: Any) -> Any:
        spec = request.model_spec
        version = spec.version.value if spec.WhichOneof("version_choice") == "version" else None
        response = get_model_status_pb2.GetModelStatusResponse()
        for one in self.backend.manager.statuses(spec.name, version=version):
            added = response.model_version_status.add(version=one.version, state=one.state.value)
            added.status.error_code = Code.UNKNOWN.number if one.error else Code.OK.number
            added.status.error_message = one.error
        return response
