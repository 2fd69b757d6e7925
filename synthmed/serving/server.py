"""The embedded server: TensorFlow Serving's interfaces on a laptop, without a container engine."""

import signal
import threading
from collections.abc import Callable
from typing import Any

from synthmed.errors import UserError
from synthmed.serving.access import Access
from synthmed.serving.accesslog import AccessLog
from synthmed.serving.backend import Backend
from synthmed.serving.limits import Limits
from synthmed.serving.listener import GRACE_SECONDS, bound_socket, make_listener
from synthmed.serving.manager import ModelManager
from synthmed.serving.rest import RestApp
from synthmed.stopping import ending_signals

POLL_SECONDS = 2.0


class EmbeddedServer:
    """Serves a manager's models over REST, and over gRPC where a port is given; on this machine alone by default.

    The ports are taken at once, so that one in use is refused before any model is loaded.

    Args:
        manager: The models; `run` loads them.
        rest_port: TCP port of REST; 0 takes a free one.
        grpc_port: TCP port of gRPC; 0 takes a free one, None leaves gRPC out.
        access: Where to listen and who may ask.
        limits: What to take on at once.
        poll_seconds: How often to look for new versions; 0 never.
        access_log: Where each request gets a line; None for nowhere. It is closed with the server.

    Raises:
        UserError: If a port is in use or not allowed.
    """

    def __init__(
        self,
        manager: ModelManager,
        *,
        rest_port: int = 8501,
        grpc_port: int | None = None,
        access: Access | None = None,
        limits: Limits | None = None,
        poll_seconds: float = POLL_SECONDS,
        access_log: AccessLog | None = None,
    ):
        self.manager = manager
        self.access = access or Access()
        self.backend = Backend(manager, limits or Limits(), self.access, access_log)
        self.poll_seconds = poll_seconds
        self._socket = bound_socket(self.access, rest_port, "--rest-port")
        self.rest_port: int = self._socket.getsockname()[1]
        self.grpc_port: int | None = None
        self._grpc: Any = None
        if grpc_port is not None:
            from synthmed.serving.rpc import start_grpc

            try:
                self._grpc, self.grpc_port = start_grpc(self.backend, port=grpc_port)
            except UserError:
                self._socket.close()
                raise
        self._app = RestApp(self.backend)
        self._listener = make_listener(self._app, self.access)

    @property
    def rest_url(self) -> str:
        """Where REST listens."""
        return self.access.url(self.rest_port)

    @property
    def grpc_url(self) -> str | None:
        """Where gRPC listens, or None."""
        return None if self.grpc_port is None else self.access.url(self.grpc_port, scheme="grpc")

    def run(self, *, ready: Callable[[], None] | None = None) -> None:
        """Load the models, answer until `stop` or SIGTERM or SIGINT, and finish what was accepted.

        A second signal ends at once.

        Args:
            ready: Called once when all models are loaded and requests are answered.

        Raises:
            UserError: If no model can be loaded.
        """
        grpc_ended: list[Any] = []
        try:
            self.manager.load()
            if threading.current_thread() is threading.main_thread():
                for number in ending_signals():
                    signal.signal(number, _Stop(self))
            if self.poll_seconds:
                self.manager.watch(self.poll_seconds)
            if self._grpc is not None:
                self._grpc.start()
                self._listener.when_stopping = lambda: grpc_ended.append(self._grpc.stop(GRACE_SECONDS))
            self._listener.when_started = ready
            self._listener.run(sockets=[self._socket])
        finally:
            self.manager.close()
            if self._grpc is not None:
                (grpc_ended[0] if grpc_ended else self._grpc.stop(0)).wait()
            self._app.close()
            self._socket.close()
            if self.backend.access_log is not None:
                self.backend.access_log.close()

    def stop(self) -> None:
        """Stop accepting requests; `run` returns when the accepted ones are answered. A second call drops those."""
        if self.backend.stopping:
            self._listener.force_exit = True
        self.backend.stopping = True
        self._listener.should_exit = True


class _Stop:
    """A signal's handler: the first signal stops the server in order, a second one drops what it still does."""

    answer = "answers what was accepted, then ends; once more ends it at once"

    def __init__(self, server: EmbeddedServer):
        self.server = server

    def __call__(self, *_: object) -> None:
        self.server.stop()
