"""Thousands of malformed requests: each gets an answer that blames the request, and the server goes on."""

import gzip
import http.client
import json
import os
import random
import socket
from urllib.parse import urlsplit

import pytest

COUNT = int(os.environ.get("SYNTHMED_FUZZ", "3000"))
"""Requests of `test_no_request_is_a_fault_of_the_server`."""
GOOD = b'{"inputs": [1, 2]}'
PREDICT = "/v1/models/half:predict"
INPUTS = {"": ("x",), "serving_default": ("x",), "two": ("x", "k"), "raw": ("img_bytes",)}


@pytest.fixture
def port(served):
    """The REST port of a server on this machine: nobody else's is asked thousands of times."""
    parts = urlsplit(served.url or "")
    if parts.hostname not in ("127.0.0.1", "localhost"):
        pytest.skip("the server is not on this machine")
    return parts.port


class Fuzzer:
    """Makes requests that are wrong in many ways, the same for the same seed."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def request(self):
        """Return (method, path, body, headers)."""
        method = self.random.choice(["POST"] * 8 + ["GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "BREW"])
        path = PREDICT if self.random.random() < 0.8 else self.path()
        body, headers = self.body(), {}
        if self.random.random() < 0.1:
            headers["Content-Encoding"] = self.random.choice(["gzip", "GZIP", "deflate", "br", "gzip, gzip"])
            body = self.mutated(gzip.compress(body)) if self.random.random() < 0.7 else gzip.compress(body)
        if self.random.random() < 0.1:
            headers["Content-Type"] = self.random.choice(
                ["text/plain", "multipart/form-data", "\x7f", "application/json"]
            )
        return method, path, body, headers

    def path(self):
        parts = [
            "v1",
            "models",
            "half",
            "versions",
            "1",
            "labels",
            "x",
            "metadata",
            "..",
            "%00",
            "%2f",
            "a" * 300,
            "",
        ]
        parts += [
            "half:predict",
            "1:predict",
            "9" * 40,
            "-1",
            "1e3",
            "%C3%A9",
            ":",
            "half:regress",
            "?",
            "#",
            ";",
        ]
        return "/" + "/".join(self.random.choices(parts, k=self.random.randint(0, 6)))

    def body(self):
        kind = self.random.random()
        if kind < 0.15:
            return self.random.randbytes(self.random.randint(0, 60))
        if kind < 0.2:
            depth = self.random.choice([10, 70, 200, 299, 300, 301, 990, 1100, 5000])
            opened, closed = self.random.choice([(b"[", b"]"), (b'{"a":', b"}"), (b'{"inputs":', b"}")])
            return b'{"inputs":' + opened * depth + b"1" + closed * self.random.choice([depth, 0, depth - 1]) + b"}"
        text = self.document()
        return self.mutated(text) if kind < 0.55 else text

    def document(self):
        signature = self.random.choice([*INPUTS, "none", None, 5])
        names = [*INPUTS.get(signature, ("x",)), *(["extra"] if self.random.random() < 0.1 else [])]
        rows = self.random.randint(0, 3)
        document = {} if self.random.random() < 0.1 else {"signature_name": signature}
        if self.random.random() < 0.5:
            document["inputs"] = {name: self.value() for name in names} if self.random.random() < 0.8 else self.value()
        if self.random.random() < 0.6:
            document["instances"] = [
                {name: self.value() for name in names} if self.random.random() < 0.8 else self.value()
                for _ in range(rows)
            ]
        if self.random.random() < 0.05:
            document["examples"] = [self.value()]
        return json.dumps(document).encode()

    def value(self, depth=0):
        leaves = [0, 1, -1, 2**31, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**30, 0.5, 1e39, 1e308, float("nan")]
        leaves += [
            float("inf"),
            True,
            None,
            "",
            "text",
            "\ud800",
            "\x00",
            {"b64": "AA=="},
            {"b64": "!"},
            {"b64": 1},
            {},
        ]
        if depth < 5 and self.random.random() < 0.5:
            return [self.value(depth + 1) for _ in range(self.random.choice([0, 1, 2, 2, 3, 16]))]
        return self.random.choice(leaves)

    def mutated(self, data):
        octets = bytearray(data)
        for _ in range(self.random.randint(1, 4)):
            if not octets:
                break
            at = self.random.randrange(len(octets))
            action = self.random.random()
            if action < 0.4:
                octets[at] = self.random.randrange(256)
            elif action < 0.6:
                del octets[at : at + self.random.randint(1, 8)]
            elif action < 0.8:
                octets[at:at] = self.random.choice(
                    [b"[", b"]", b"{", b"}", b",", b'"', b"\\u", b"1e999", b"-", b"\xff"]
                )
            else:
                del octets[at:]
        return bytes(octets)


def test_no_request_is_a_fault_of_the_server(port):
    """Anybody who sends nonsense could fill the log with tracebacks, or end the server."""
    fuzzer, faults = Fuzzer(0), []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    for number in range(COUNT):
        method, path, body, headers = fuzzer.request()
        try:
            connection.putrequest(method, path.replace("?", "%3F"), skip_accept_encoding=True)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            text = response.read()
        except (http.client.HTTPException, OSError, ValueError) as error:
            faults.append((number, method, path, body[:300], repr(error)))
            connection.close()
            continue
        if response.status >= 500 and response.status != 501:
            faults.append((number, method, path, body[:300], response.status, text[:300]))
        elif response.status != 200 and path.startswith("/v1/") and method != "HEAD":
            kind = response.headers.get("content-type")
            if kind != "application/json" and response.status != 400:
                faults.append((number, method, path, response.status, kind))
    assert not faults, f"{len(faults)} of {COUNT}, among them {faults[:5]}"
    assert exchange(port, post(GOOD)).startswith(b"HTTP/1.1 200")


def post(body, *lines):
    head = [f"POST {PREDICT} HTTP/1.1", "Host: a", f"Content-Length: {len(body)}", "Connection: close", *lines, "", ""]
    return "\r\n".join(head).encode("latin-1") + body


def exchange(port, sent):
    with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
        return received


def test_what_is_no_http_is_refused(port):
    """A port scanner could end the server."""
    generator = random.Random(1)
    whole = post(GOOD)
    cases = [generator.randbytes(generator.randint(1, 200)) for _ in range(200)]
    cases += [whole[: generator.randrange(1, len(whole))] for _ in range(100)]
    cases += [
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n\r\n",
        b"GET  HTTP/1.1\r\n\r\n",
        post(GOOD, "Transfer-Encoding: chunked"),
    ]
    cases += [post(GOOD, "Content-Length: 7"), post(GOOD, "X: " + "y" * 100_000), post(GOOD, "Upgrade: websocket")]
    for sent in cases:
        try:
            answer = exchange(port, sent)
        except ConnectionError:
            continue
        assert not answer or answer.split()[1] in (b"200", b"400", b"404", b"505", b"431"), (sent[:200], answer[:200])
    assert exchange(port, whole).startswith(b"HTTP/1.1 200")
