"""Connections: who sends slowly, says all and closes its side, or connects at the last moment."""

import contextlib
import socket
import threading
import time

import pytest

pytest.importorskip("uvicorn")

from synthmed.serving import listener as listening
from synthmed.serving.access import Access
from synthmed.serving.listener import bound_socket, make_listener

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"


async def echo(scope, receive, send):
    """Answer with the body of the request, after a moment."""
    import asyncio

    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more = body + message["body"], message.get("more_body", False)
    await asyncio.sleep(0.05)
    length = str(len(body)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    await send({"type": "http.response.body", "body": body})


@contextlib.contextmanager
def listen(app=echo):
    """Serve an application; yields the port and the listener."""
    with bound_socket(Access(), 0, "--rest-port") as bound:
        server = make_listener(app, Access())
        ready = threading.Event()
        server.when_started = ready.set
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        assert ready.wait(60)
        try:
            yield bound.getsockname()[1], server
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive()


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def rest(connection):
    """Return what still comes until the server closes."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while chunk := connection.recv(65536):
            received += chunk
    return received


@pytest.mark.parametrize("sent", [b"", b"GET /x HTT", GET + b"GET /"])
def test_headers_have_a_time(monkeypatch, sent):
    """A thousand clients that never finish a request would lock everybody out."""
    monkeypatch.setattr(listening, "HEADER_SECONDS", 0.5)
    # What has come of a second request before the first is answered has the time of a pause between two.
    monkeypatch.setattr(listening, "KEEP_ALIVE_SECONDS", 1)
    with listen() as (port, server), connect(port) as slow:
        start = time.monotonic()
        for byte in sent:
            slow.sendall(bytes([byte]))
        rest(slow)
        assert time.monotonic() - start < 10
        assert not server.connections


def test_a_slow_body_and_a_pause_between_requests_are_no_late_headers(monkeypatch):
    """Uploads, and clients that draw now and then, would lose their connection."""
    monkeypatch.setattr(listening, "HEADER_SECONDS", 0.3)
    with listen() as (port, _), connect(port) as client:
        for _ in range(2):
            client.sendall(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n")
            for byte in b"slow":
                time.sleep(0.2)
                client.sendall(bytes([byte]))
            received = b""
            while not received.endswith(b"slow"):
                received += client.recv(65536)
            time.sleep(0.6)


def test_who_closes_its_side_is_answered_and_then_closed():
    """Scripts with `nc -N` would get nothing."""
    with listen() as (port, _):
        for head, body in ((GET, b""), (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab", b"ab")):
            with connect(port) as client:
                client.sendall(head)
                client.shutdown(socket.SHUT_WR)
                answer = rest(client)
            assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"\r\n\r\n" + body)
        with connect(port) as client:
            client.sendall(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab")
            client.shutdown(socket.SHUT_WR)
            assert rest(client) == b"", "half a request has no answer"


def test_who_has_connected_is_served_at_the_end():
    """A request that reached the machine before the end would be reset."""
    for _ in range(5):
        with listen() as (port, server):
            clients = [connect(port) for _ in range(20)]
            for client in clients:
                client.sendall(GET)
            server.should_exit = True
            assert all(rest(client).startswith(b"HTTP/1.1 200") for client in clients)
            with pytest.raises(OSError):
                connect(port)
            for client in clients:
                client.close()


def test_the_address_that_asks_cannot_be_made_up():
    """The access log would blame others."""

    async def address(scope, receive, send):
        body = scope["client"][0].encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    with listen(address) as (port, _), connect(port) as client:
        client.sendall(GET.replace(b"Host", b"X-Forwarded-For: 10.0.0.1\r\nConnection: close\r\nHost"))
        assert b"127.0.0.1" in rest(client)
