"""The embedded server: TensorFlow Serving's interfaces on a laptop, without a container engine."""

import signal
import socket
import threading
from collections.abc import Callable
from typing import Any

import uvicorn

from synthmed.errors import UserError
from synthmed.serving.manager import ModelManager
from synthmed.serving.rest import rest_app

LOOPBACK = "127.0.0.1"
GRACE_SECONDS = 30
"""How long requests that were accepted may take after the server was told to stop."""


class EmbeddedServer:
    """Serves a manager's models over REST, and over gRPC where a port is given, on this machine alone.

    The ports are taken at once, so that one that is in use is told before any model is loaded.

    Args:
        manager: The models; `run` loads them.
        rest_port: TCP port of REST; 0 takes a free one.
        grpc_port: TCP port of gRPC; 0 takes a free one, None leaves gRPC out.

    Raises:
        UserError: If a port is in use or not allowed.
    """

    def __init__(self, manager: ModelManager, *, rest_port: int = 8501, grpc_port: int | None = None):
        self.manager = manager
        self._socket = _bound_socket(rest_port, "--rest-port")
        self.rest_port: int = self._socket.getsockname()[1]
        self.grpc_port: int | None = None
        self._grpc: Any = None
        if grpc_port is not None:
            from synthmed.serving.rpc import start_grpc

            try:
                self._grpc, self.grpc_port = start_grpc(manager, host=LOOPBACK, port=grpc_port)
            except UserError:
                self._socket.close()
                raise
        config = uvicorn.Config(
            rest_app(manager),
            log_level="warning",
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        self._uvicorn = _Quiet(config)

    @property
    def rest_url(self) -> str:
        """Where REST listens."""
        return f"http://{LOOPBACK}:{self.rest_port}"

    def run(self, *, ready: Callable[[], None] | None = None) -> None:
        """Load the models, answer until `stop` or SIGTERM or SIGINT, and finish what was accepted.

        Args:
            ready: Called once when all models are loaded and requests are answered.

        Raises:
            UserError: If no model can be loaded.
        """
        try:
            self.manager.load()
            if threading.current_thread() is threading.main_thread():
                for number in (signal.SIGTERM, signal.SIGINT):
                    signal.signal(number, lambda *_: self.stop())
            if self._grpc is not None:
                self._grpc.start()
            if ready is not None:
                self._uvicorn.when_started = ready
            self._uvicorn.run(sockets=[self._socket])
        finally:
            if self._grpc is not None:
                self._grpc.stop(GRACE_SECONDS).wait()
            self._socket.close()

    def stop(self) -> None:
        """Stop accepting requests; `run` returns when the accepted ones are answered."""
        self._uvicorn.should_exit = True


class _Quiet(uvicorn.Server):
    when_started: Callable[[], None] | None = None

    def install_signal_handlers(self) -> None:
        """Leave signals to EmbeddedServer."""

    def capture_signals(self):
        # uvicorn would raise the signal again after a graceful stop, which then ends the process as if it had failed.
        from contextlib import nullcontext

        return nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.when_started is not None:
            self.when_started()


def _bound_socket(port: int, option: str) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((LOOPBACK, port))
    except OSError as error:
        bound.close()
        raise UserError(f"port {port} cannot be used ({error.strerror}): choose another {option}") from None
    return bound
