"""uvicorn, taught to end without losing a request that was accepted, and not to wait for ever for one that dawdles."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from synthmed.errors import UserError
from synthmed.serving.access import Access

GRACE_SECONDS = 30
"""How long requests that were accepted may take after the server was told to stop."""
FAREWELL_SECONDS = 1.0
"""How long idle connections may bring one more request after that: it may be on its way."""
KEEP_ALIVE_SECONDS = 75
HEADER_SECONDS = 20
"""How long the headers of a request may take."""
MOST_CONNECTIONS = 1000


def make_listener(app: Any, access: Access) -> "Listener":
    """Return a server of an ASGI application, by limits of its own for connections."""
    # What uvicorn says of malformed requests would let strangers fill the terminal.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    config = uvicorn.Config(
        app,
        http=_Connection,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        ssl_certfile=access.certificate,
        ssl_keyfile=access.key,
    )
    return Listener(config)


class Listener(uvicorn.Server):
    """A server whose sockets, signals and moments belong to somebody else.

    Attributes:
        when_started: Called once when requests are answered.
        when_stopping: Called once when no more connections are accepted.
    """

    when_started: Callable[[], None] | None = None
    when_stopping: Callable[[], None] | None = None

    def capture_signals(self):
        # uvicorn would raise the signal again after a graceful stop, which then ends the process as if it had failed.
        return contextlib.nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.when_started is not None:
            self.when_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._close_doors(sockets or [])
        if self.when_stopping is not None:
            self.when_stopping()
        for _ in range(round(FAREWELL_SECONDS / 0.05)):
            await asyncio.sleep(0.05)
            if not self.server_state.connections or self.force_exit:
                break
        await super().shutdown(sockets=[])

    async def _close_doors(self, sockets: list[socket.socket]) -> None:
        # Clients whose connection waits in the kernel have sent their request already: closing the socket would reset
        # them, so they are taken in first. Nothing is awaited between the last one and the closing.
        taken = []
        for listening in sockets:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(listening.accept()[0])
        for server in self.servers:
            server.close()
        loop = asyncio.get_running_loop()
        for connection in taken:
            connection.setblocking(False)
            with contextlib.suppress(OSError):
                await loop.connect_accepted_socket(self._protocol, connection, ssl=self.config.ssl)

    def _protocol(self) -> asyncio.Protocol:
        return _Connection(self.config, self.server_state, self.lifespan.state)


class _Connection(H11Protocol):
    """A connection that is closed if the headers of a request do not arrive in time."""

    _deadline: asyncio.TimerHandle | None = None
    _seen: Any = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_headers()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._await_headers()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Answer a client that has said all and closed its side, as `nc -N` does."""
        answering = self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body
        if answering:
            self.cycle.keep_alive = False
        # TLS cannot be half closed.
        return answering and self.scheme == "http"

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def _await_headers(self) -> None:
        if self._deadline is None:
            self._seen = self.cycle
            self._deadline = self.loop.call_later(HEADER_SECONDS, self._overdue)

    def _overdue(self) -> None:
        self._deadline = None
        between = self.cycle is None or self.cycle.response_complete
        # A client that rests between two requests has sent nothing of the next one: that is another, longer limit.
        if between and self.cycle is self._seen and (self.cycle is None or self.conn.trailing_data[0]):
            self.transport.abort()


def bound_socket(access: Access, port: int, option: str) -> socket.socket:
    """Return a socket that has its port, not yet listening.

    Raises:
        UserError: If the port is in use or not allowed.
    """
    family = socket.AF_INET6 if ":" in access.address else socket.AF_INET
    # asyncio sends small answers at once only on sockets whose protocol is named; else each waits 40 ms for the client.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # Connections inherit it: one whose client takes nothing any more ends, and with it the answer in memory.
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000)
    try:
        bound.bind((access.address, port))
    except OSError as error:
        bound.close()
        raise UserError(f"port {port} cannot be used ({error.strerror}): choose another {option}") from None
    return bound
