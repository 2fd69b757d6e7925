"""TensorFlow Serving's REST interface on the models of a server, its metrics and its health, and a page for people."""

import asyncio
import re
import time
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from synthmed.serving import metrics
from synthmed.serving.backend import Backend
from synthmed.serving.index_page import index_page
from synthmed.serving.limits import Ticket, late
from synthmed.serving.manager import State
from synthmed.serving.metadata import metadata_json
from synthmed.serving.models_config import LARGEST_VERSION
from synthmed.serving.predict import run_within
from synthmed.serving.rest_json import parse, reply, request_arrays
from synthmed.serving.servable import DEFAULT_SIGNATURE, Servable
from synthmed.serving.status import Code, ServingError, invalid

HEALTH_PATH = "/healthz"
BODY_SECONDS = 10.0
"""How long each next `BODY_BYTES` of a body may take to arrive, the last, smaller part included."""
BODY_BYTES = 80 * 1024
LONGEST_ERROR = 2000
_MODEL = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_POST = re.compile(rf"(?ai){_MODEL}:(?P<verb>classify|regress|predict)")
_GET = re.compile(rf"(?ai){_MODEL}(?P<metadata>/metadata)?")
_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"


@dataclass
class _Call:
    """One request, and what is counted of it: under V only, if it has a `method`."""

    method: str = ""
    model: str = ""
    version: int | None = None
    code: Code = Code.OK
    ticket: Ticket | None = None
    work: Future[bytes] | None = None
    slow: bool = False
    status: int = 0
    sent: int = 0


class RestApp:
    """One ASGI application for every path and verb: the protocol's own rules say what is malformed.

    Args:
        backend: What is served, and by which rules.
    """

    def __init__(self, backend: Backend):
        self.backend = backend
        self._pool = ThreadPoolExecutor(backend.limits.workers, thread_name_prefix="synthmed-rest")

    def close(self) -> None:
        """End the threads; what still waits for one is given up."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        path = scope.get("raw_path", scope["path"].encode()).decode("latin-1")
        started, call = time.monotonic(), _Call()

        async def counting(message: Any) -> None:
            call.status = message.get("status", call.status)
            call.sent += len(message.get("body", b"")) if request.method != "HEAD" else 0
            await send(message)

        try:
            response = await self._answer(request, path, call)
            if self.backend.stopping or call.slow:
                # The client would reuse the connection and find it closed, or send on what nobody reads.
                response.headers["connection"] = "close"
            if call.method:
                self.backend.metrics.answered(
                    protocol="REST",
                    method=call.method,
                    model=call.model,
                    version=call.version,
                    code=call.code,
                    seconds=time.monotonic() - started,
                )
            await response(scope, receive, counting)
        finally:
            self._leave(call)
            if self.backend.access_log is not None:
                self.backend.access_log.write(
                    protocol="REST",
                    client=request.client.host if request.client else "",
                    method=request.method,
                    path=path,
                    status=str(call.status),
                    size=call.sent,
                    seconds=time.monotonic() - started,
                )

    async def _answer(self, request: Request, path: str, call: _Call) -> Response:
        if request.method == "GET" and path == HEALTH_PATH:
            healthy = self.backend.healthy
            return JSONResponse({"status": "ok" if healthy else "not ready"}, status_code=200 if healthy else 503)
        try:
            if not self.backend.access.allows(request.headers.get("authorization", "")):
                raise ServingError(Code.UNAUTHENTICATED, "the request bears no valid token")
            if request.method == "GET" and path == metrics.PATH:
                return Response(self.backend.metrics.text(), headers={"content-type": metrics.CONTENT_TYPE})
            if request.method in ("GET", "HEAD") and path == "/":
                page = index_page(self.backend.manager, url=_address(request))
                return HTMLResponse(page, headers={"content-security-policy": _PAGE_POLICY})
            if not path.lower().startswith("/v1/"):
                return HTMLResponse("<html><body><h1>Not Found</h1></body></html>", status_code=404)
            call.method = "Other"
            return await self._under_v(request, path, call)
        except ServingError as error:
            call.code = error.code
            headers = {"www-authenticate": "Bearer"} if error.code is Code.UNAUTHENTICATED else None
            return _failure(error.code, error.message, headers)
        except ClientDisconnect:
            call.code = Code.CANCELLED
            return Response(status_code=400)
        except Exception as error:  # A request must never end the server; the client learns what happened.
            call.code = Code.INTERNAL
            return _failure(call.code, f"{type(error).__name__}: {error}")

    async def _under_v(self, request: Request, path: str, call: _Call) -> Response:
        decoded = _decoded(path)
        if request.method == "POST" and (match := _POST.fullmatch(decoded)):
            call.method, call.model = match["verb"].capitalize(), match["name"]
            return Response(await self._worked(request, match, path, call), media_type="application/json")
        if request.method == "GET" and decoded.lower() == "/v1/models":
            raise invalid("Missing model name in request.")
        if request.method == "GET" and (match := _GET.fullmatch(decoded)):
            call.method, call.model = "GetModelMetadata" if match["metadata"] else "GetModelStatus", match["name"]
            return JSONResponse(self._get(match, call))
        raise _malformed(request.method, path)

    async def _worked(self, request: Request, match: re.Match[str], path: str, call: _Call) -> bytes:
        # A place is taken when the body is there: who sends slowly takes none away from others.
        ticket = call.ticket = self.backend.gate.ticket("REST", arriving=True)
        try:
            async with asyncio.timeout(ticket.left()):
                body = await _body(request, call, ticket)
                ticket.admit()
                zipped = request.headers.get("content-encoding", "").lower() == "gzip"

                def work() -> bytes:
                    plain = _gunzip(body, ticket) if zipped else body
                    answer = self._post(match, plain, path, call)
                    ticket.hold_answer(len(answer))
                    return answer

                call.work = self._pool.submit(ticket.run, work)
                return await asyncio.wrap_future(call.work)
        except TimeoutError:
            raise late() from None

    def _leave(self, call: _Call) -> None:
        ticket, work = call.ticket, call.work
        if ticket is None:
            return
        if work is None:
            ticket.close()
        else:
            # A model that runs cannot be stopped: its place is free when it is done, even if nobody waits any longer.
            work.add_done_callback(lambda _: ticket.close())

    def _post(self, match: re.Match[str], body: bytes, path: str, call: _Call) -> bytes:
        verb = match["verb"]
        if verb not in ("predict", "classify", "regress"):
            # The paths are matched without regard to case, the verbs are not.
            raise _malformed("POST", path)
        document = parse(body)
        if not isinstance(document, dict):
            raise invalid("the body is no JSON object")
        signature = document.get("signature_name", "")
        if not isinstance(signature, str):
            raise invalid("'signature_name' is no string")
        if verb != "predict":
            _check_examples(document)
            raise _no_examples(verb, self._find(match, call), signature)
        servable = self._find(match, call)
        form, arrays = request_arrays(document, servable.dtypes(signature))
        return reply(form, run_within(servable, signature, arrays, call.ticket))

    def _get(self, match: re.Match[str], call: _Call) -> dict[str, Any]:
        if match["metadata"]:
            return metadata_json(self._find(match, call))
        # A label is accepted here and means nothing: all versions are listed.
        return {
            "model_version_status": [
                {
                    "version": str(one.version),
                    "state": one.state.name,
                    "status": {
                        "error_code": "OK" if one.state is not State.END or not one.error else "UNKNOWN",
                        "error_message": one.error,
                    },
                }
                for one in self.backend.manager.statuses(match["name"], version=_version(match))
            ]
        }

    def _find(self, match: re.Match[str], call: _Call) -> Servable:
        found = self.backend.manager.find(match["name"], version=_version(match), label=match["label"])
        call.version = found.version
        return found


def _decoded(path: str) -> str:
    """Return a path with its escapes decoded, but for those of slashes: a name has none, and gets none."""
    return "%2F".join(unquote(piece) for piece in re.split("%2[fF]", path))


def _version(match: re.Match[str]) -> int | None:
    if match["version"] is None:
        return None
    # Compared as text first: Python takes its time with numbers of many thousand digits.
    digits = match["version"].lstrip("0") or "0"
    if len(digits) > len(str(LARGEST_VERSION)) or int(digits) > LARGEST_VERSION:
        raise invalid(f"the version {match['version'][:40]} is larger than {LARGEST_VERSION}")
    return int(digits)


def _check_examples(document: dict[str, Any]) -> None:
    examples = document.get("examples")
    if not isinstance(examples, list) or not examples or not isinstance(examples[0], dict):
        raise invalid("'examples' is no list of objects, or an empty one")


def _no_examples(verb: str, servable: Servable, signature: str) -> ServingError:
    """Return why a classify or regress request, which brings tf.Examples, has no answer: generators take none."""
    name = signature or DEFAULT_SIGNATURE
    if name not in servable.signatures:
        return invalid(f"there is no signature {name[:100]!r}")
    if set(servable.signatures[name].inputs) != {"inputs"}:
        return invalid(f"the signature {name!r} takes no examples to {verb}: use predict")
    return ServingError(Code.UNIMPLEMENTED, f"{verb} is not offered by this server: use predict")


def _failure(code: Code, message: str, headers: dict[str, str] | None = None) -> Response:
    # The message may repeat bytes of the request that are no UTF-8; the answer must be.
    readable = message[:LONGEST_ERROR].encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return JSONResponse({"error": readable}, status_code=code.http, headers=headers)


def _malformed(method: str, path: str) -> ServingError:
    return invalid(f"Malformed request: {method} {path}")


def _address(request: Request) -> str:
    host, port = request.scope.get("server") or ("127.0.0.1", 8501)
    return f"{request.scope['scheme']}://{f'[{host}]' if ':' in host else host}:{port}"


async def _body(request: Request, call: _Call, ticket: Ticket) -> bytes:
    """Return the body of a request, which must arrive at a least rate.

    Raises:
        ServingError: DEADLINE_EXCEEDED where it does not; as `Ticket.hold` where it is too large.
    """
    chunks: list[bytes] = []
    stream = request.stream()
    while True:
        arrived = 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while arrived < BODY_BYTES:
                    chunk = await anext(stream, None)
                    if chunk is None:
                        return b"".join(chunks)
                    ticket.hold(len(chunk))
                    chunks.append(chunk)
                    arrived += len(chunk)
        except TimeoutError:
            call.slow = True
            rate = f"{BODY_BYTES // 1024} KiB in {BODY_SECONDS:g} s"
            raise ServingError(Code.DEADLINE_EXCEEDED, f"the request's body arrives at less than {rate}") from None


def _gunzip(body: bytes, ticket: Ticket) -> bytes:
    # By a stream with a limit: a few kilobytes of gzip can stand for gigabytes.
    stream = zlib.decompressobj(wbits=31)
    try:
        plain = stream.decompress(body, ticket.limits.request_bytes + 1)
    except zlib.error as error:
        raise invalid(f"Failed to decompress the request: {error}") from None
    ticket.hold(len(plain))
    if not stream.eof:
        raise invalid("Failed to decompress the request: it ends too early")
    return plain
