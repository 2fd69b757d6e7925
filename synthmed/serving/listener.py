"""uvicorn, which ends here without losing a request that was accepted, and does not wait for ever for a slow one.

Of uvicorn only what it shows is used: a configuration, a server, and its connections as protocols of asyncio.
"""

import asyncio
import contextlib
import functools
import logging
import select
import socket
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, cast

import uvicorn

from synthmed.errors import UserError
from synthmed.serving.access import Access

GRACE_SECONDS = 30
"""How long requests that were accepted may take after the server was asked to stop."""
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
        functools.partial(_run, app),
        interface="asgi3",
        http="h11",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        # Otherwise anybody on this machine chooses the address that the access log shows.
        proxy_headers=False,
        lifespan="off",
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        ssl_certfile=access.certificate,
        ssl_keyfile=access.key,
    )
    config.load()
    listener = Listener(config)
    config.http_protocol_class = functools.partial(  # type: ignore[assignment]
        _Connection, config.http_protocol_class, listener.connections
    )
    return listener


class Listener(uvicorn.Server):
    """A server whose sockets, signals and moments belong to somebody else.

    Attributes:
        when_started: Called once when requests are answered.
        when_stopping: Called once when no more connections are accepted.
        connections: Those that are open.
    """

    when_started: Callable[[], None] | None = None
    when_stopping: Callable[[], None] | None = None

    def __init__(self, config: uvicorn.Config):
        super().__init__(config)
        self.connections: set[_Connection] = set()

    def capture_signals(self):
        # uvicorn would raise the signal again after a graceful stop, which then ends the process as if it had failed.
        return contextlib.nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.when_started is not None:
            self.when_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Clients whose connection waits in the kernel have sent their request already: closing the socket would reset
        # them, so they are taken in first.
        await _until_none_waits(sockets or [])
        for server in self.servers:
            server.close()
        if self.when_stopping is not None:
            self.when_stopping()
        for _ in range(round(FAREWELL_SECONDS / 0.05)):
            await asyncio.sleep(0.05)
            if not self.connections or self.force_exit:
                break
        await super().shutdown(sockets=[])


async def _until_none_waits(sockets: list[socket.socket]) -> None:
    """Return when every client that has connected to one of the sockets is served by the loop."""
    waiting = select.poll()
    for one in sockets:
        waiting.register(one, select.POLLIN)
    # asyncio takes a connection in at one turn of its loop, and makes it one that it serves at the next.
    quiet, turns = 0, 0
    while quiet < 3 and turns < 1000:
        await asyncio.sleep(0)
        quiet, turns = 0 if waiting.poll(0) else quiet + 1, turns + 1


_CONNECTION: ContextVar["_Connection"] = ContextVar("_CONNECTION")
"""The connection from whose data a request was read: the tasks that answer it inherit it."""


async def _run(app: Any, scope: Any, receive: Any, send: Any) -> None:
    """Answer one request by an application, while its connection knows of it."""
    connection = _CONNECTION.get()

    async def receive_here() -> Any:
        connection.reading = True
        try:
            return await receive()
        finally:
            connection.reading = False

    connection.answering(True)
    try:
        await app(scope, receive_here, send)
    finally:
        connection.answering(False)


class _Connection(asyncio.Protocol):
    """A connection of uvicorn that is closed if the headers of a request do not arrive in time.

    Args:
        inner: The class of uvicorn's connections.
        connections: Where this one is listed while it is open.
        context: What uvicorn gives its own.
    """

    def __init__(self, inner: Callable[..., asyncio.Protocol], connections: "set[_Connection]", **context: Any):
        self.reading = False
        self._inner = inner(**context)
        self._connections = connections
        self._deadline: asyncio.TimerHandle | None = None
        self._busy = False
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)
        self._inner.connection_made(transport)
        self._await_headers()

    def data_received(self, data: bytes) -> None:
        _CONNECTION.set(self)
        self._inner.data_received(data)
        self._await_headers()

    def eof_received(self) -> bool:
        """Answer a client that has said all and closed its side, as `nc -N` does."""
        self._inner.eof_received()
        # TLS cannot be half closed; and who is still being read from has not said all.
        self._ended = self._busy and not self.reading and self._transport.get_extra_info("ssl_object") is None
        return self._ended

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._stop_waiting()
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def answering(self, busy: bool) -> None:
        """Take note that a request has arrived with all its headers, or is answered."""
        self._busy = busy
        self._stop_waiting()
        if self._ended and not busy:
            self._transport.close()

    def _await_headers(self) -> None:
        # Rests of a body whose answer was given without it arrive here, too; they may take no longer.
        if not self._busy and self._deadline is None and not self._transport.is_closing():
            self._deadline = asyncio.get_running_loop().call_later(HEADER_SECONDS, self._transport.abort)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


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
