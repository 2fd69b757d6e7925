"""The REST client. It needs nothing but the standard library and NumPy."""

import base64
import binascii
import http.client
import json
import ssl
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import numpy as np

from synthmed.errors import UserError
from synthmed.serving.modelclient import ModelClient
from synthmed.serving.refusals import Kind, Refusal

_STATUSES = {
    400: Kind.REQUEST,
    401: Kind.TOKEN,
    403: Kind.TOKEN,
    404: Kind.MODEL,
    408: Kind.SLOW,
    413: Kind.TOO_LARGE,
    429: Kind.BUSY,
    502: Kind.BUSY,
    503: Kind.BUSY,
    504: Kind.SLOW,
}
# Statuses that what stands in front of a server also gives, in its own words instead of JSON.
_OF_PROXIES = (401, 403, 408, 413, 429, 502, 503, 504)


class RestClient(ModelClient):
    """One model of one server, over REST; see `ModelClient`. Each thread has a connection of its own, and keeps it."""

    def __init__(self, url: str, **arguments: Any):
        super().__init__(url, **arguments)
        if self.address.scheme not in ("http", "https"):
            raise UserError(f"{url!r} is no address of REST: write http://HOST:PORT")
        self._path = f"{self.address.path}/v1/models/{quote(self.model, safe='')}"
        self._context = _tls(self.access.ca_file) if self.address.secure else None
        self._headers = {"Content-Type": "application/json"}
        if self.access.token is not None:
            self._headers["Authorization"] = f"Bearer {self.access.token}"
        self._kept = threading.local()

    def close(self) -> None:
        """End this thread's connection."""
        connection = getattr(self._kept, "connection", None)
        self._kept.connection = None
        if connection is not None:
            connection.close()

    def _predict(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
        columns = {name: value.tolist() for name, value in inputs.items()}
        answer = self._json("POST", f"{self._path}:predict", {"signature_name": signature, "inputs": columns})
        if not isinstance(answer, dict) or "outputs" not in answer:
            raise Refusal(Kind.FOREIGN, "no outputs in its answer")
        outputs = answer["outputs"] if isinstance(answer["outputs"], dict) else {"": answer["outputs"]}
        return {name: _decoded(value) if name.endswith("_bytes") else value for name, value in outputs.items()}

    def _available(self) -> bool:
        answer = self._json("GET", self._path)
        states = answer.get("model_version_status", []) if isinstance(answer, dict) else []
        return any(isinstance(one, dict) and one.get("state") == "AVAILABLE" for one in states)

    def _signatures(self) -> frozenset[str]:
        answer = self._json("GET", f"{self._path}/metadata")
        try:
            return frozenset(answer["metadata"]["signature_def"]["signature_def"])
        except (TypeError, LookupError):
            raise Refusal(Kind.FOREIGN, "no signatures in its metadata") from None

    def _json(self, method: str, path: str, content: dict[str, Any] | None = None) -> Any:
        body = None if content is None else json.dumps(content)
        status, text, pause = self._exchange(method, path, body)
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError):
            if status in _OF_PROXIES:
                raise Refusal(_STATUSES[status], f"HTTP {status}", pause) from None
            raise Refusal(Kind.FOREIGN, f"HTTP {status} and no JSON") from None
        if status == 200:
            return answer
        reason = str(answer.get("error", "")) if isinstance(answer, dict) else ""
        kind = _STATUSES.get(status, Kind.BROKEN)
        if kind is Kind.REQUEST and "signature" in reason.lower():
            kind = Kind.SIGNATURE
        raise Refusal(kind, f"{status}: {reason.strip() or 'no reason given'}", pause)

    def _exchange(self, method: str, path: str, body: str | None) -> tuple[int, bytes, float]:
        """Return status, content and the pause that the server asks for."""
        connection = getattr(self._kept, "connection", None)
        if connection is not None:
            try:
                return self._over(connection, method, path, body)
            except Refusal as refusal:
                # The server may end a connection that was idle at any time; that says nothing about the question.
                if refusal.kind is not Kind.LOST:
                    raise
        return self._over(self._connected(), method, path, body)

    def _connected(self) -> http.client.HTTPConnection:
        where, timeout = (self.address.host, self.address.port), self.timeout
        if self._context is not None:
            return http.client.HTTPSConnection(*where, timeout=timeout, context=self._context)
        return http.client.HTTPConnection(*where, timeout=timeout)

    def _over(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: str | None
    ) -> tuple[int, bytes, float]:
        self._kept.connection = None
        try:
            connection.request(method, path, body, self._headers)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise _refusal(error, connected=connection.sock is not None) from None
        if response.will_close:
            connection.close()
        else:
            self._kept.connection = connection
        after = response.headers.get("Retry-After", "")
        return response.status, content, float(after) if after.isdecimal() else 0.0


def _tls(ca_file: Any) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise UserError(f"{ca_file} holds no certificates ({error.strerror or error}): check --ca-file") from None


def _refusal(error: OSError | http.client.HTTPException, *, connected: bool) -> Refusal:
    """Return what a failure of the connection means."""
    if isinstance(error, ssl.SSLError):
        return Refusal(Kind.TLS, getattr(error, "verify_message", "") or error.reason or str(error))
    if isinstance(error, TimeoutError):
        return Refusal(Kind.SLOW, "timed out") if connected else Refusal(Kind.ABSENT, "timed out")
    reason = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    if isinstance(error, (ConnectionResetError, BrokenPipeError, http.client.IncompleteRead)):
        return Refusal(Kind.LOST, reason)
    if isinstance(error, http.client.HTTPException):
        # What gRPC and TLS say to an HTTP request is no line of HTTP.
        return Refusal(Kind.FOREIGN, "no HTTP: is it the port of gRPC (grpc://), or does it speak TLS (https://)?")
    return Refusal(Kind.ABSENT, reason)


def _decoded(value: Any) -> Any:
    """Return nested lists with `{"b64": ...}` replaced by bytes."""
    if isinstance(value, list):
        return [_decoded(one) for one in value]
    try:
        return base64.b64decode(value["b64"])
    except (TypeError, LookupError, binascii.Error):
        raise Refusal(Kind.FOREIGN, "an output of bytes is no base64") from None
