"""TensorFlow Serving's REST interface on the models of a server, its metrics and its health."""

import asyncio
import re
import time
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from synthmed.serving import metrics
from synthmed.serving.backend import Backend
from synthmed.serving.examples import refuse_examples
from synthmed.serving.jsonreply import reply
from synthmed.serving.jsontensor import request_arrays
from synthmed.serving.jsontext import parse, printed
from synthmed.serving.limits import Ticket, late
from synthmed.serving.manager import State
from synthmed.serving.metadata import metadata_json
from synthmed.serving.models_config import LARGEST_VERSION
from synthmed.serving.predict import run_within
from synthmed.serving.servable import Servable
from synthmed.serving.status import Code, ServingError, invalid

HEALTH_PATH = "/healthz"
_MODEL = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_POST = re.compile(rf"(?ai){_MODEL}:(?P<verb>classify|regress|predict)")
_GET = re.compile(rf"(?ai){_MODEL}(?P<metadata>/metadata)?")


def rest_app(backend: Backend) -> "RestApp":
    """Return the ASGI application."""
    return RestApp(backend)


@dataclass
class _Call:
    """One request under V, and what is counted of it."""

    method: str = ""
    model: str = ""
    version: int | None = None
    code: Code = Code.OK
    ticket: Ticket | None = None
    work: Future[bytes] | None = None


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
        try:
            response = await self._answer(request, path, call)
            if self.backend.stopping:
                # The client would reuse the connection and find it closed.
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
            await response(scope, receive, send)
        finally:
            self._leave(call)

    async def _answer(self, request: Request, path: str, call: _Call) -> Response:
        if request.method == "GET" and path == HEALTH_PATH:
            healthy = self.backend.healthy
            return JSONResponse({"status": "ok" if healthy else "not ready"}, status_code=200 if healthy else 503)
        try:
            if not self.backend.access.allows(request.headers.get("authorization", "")):
                raise ServingError(Code.UNAUTHENTICATED, "the request bears no valid token")
            if request.method == "GET" and path == metrics.PATH:
                return Response(self.backend.metrics.text(), headers={"content-type": metrics.CONTENT_TYPE})
            if not path.lower().startswith("/v1/"):
                return HTMLResponse("<html><body><h1>Not Found</h1></body></html>", status_code=404)
            call.method = "Other"
            return await self._under_v(request, path, call)
        except ServingError as error:
            call.code = error.code
            headers = {"www-authenticate": "Bearer"} if error.code is Code.UNAUTHENTICATED else None
            return _failure(error.code, error.message, headers)
        except RecursionError:
            call.code = Code.INVALID_ARGUMENT
            return _failure(call.code, "the JSON is nested too deeply")
        except ClientDisconnect:
            call.code = Code.CANCELLED
            return Response(status_code=400)
        except Exception as error:  # A request must never end the server; the client learns what happened.
            call.code = Code.INTERNAL
            return _failure(call.code, f"{type(error).__name__}: {error}")

    async def _under_v(self, request: Request, path: str, call: _Call) -> Response:
        if request.method == "POST" and (match := _POST.fullmatch(path)):
            call.method, call.model = match["verb"].capitalize(), match["name"]
            return Response(await self._worked(request, match, path, call), media_type="application/json")
        if request.method == "GET" and path.lower() == "/v1/models":
            raise invalid("Missing model name in request.")
        if request.method == "GET" and (match := _GET.fullmatch(path)):
            call.method, call.model = "GetModelMetadata" if match["metadata"] else "GetModelStatus", match["name"]
            return JSONResponse(self._get(match, call))
        raise _malformed(request.method, path)

    async def _worked(self, request: Request, match: re.Match[str], path: str, call: _Call) -> bytes:
        ticket = call.ticket = self.backend.gate.ticket()
        try:
            async with asyncio.timeout(ticket.left()):
                body = await _body(request, ticket)
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
        if match["verb"] not in ("predict", "classify", "regress"):
            # The paths are matched without regard to case, the verbs are not.
            raise _malformed("POST", path)

        def find() -> Servable:
            return self._find(match, call)

        document = parse(body)
        if not isinstance(document, dict):
            raise invalid(f"JSON Value: {printed(document)} Is not object")
        signature = document.get("signature_name", "")
        if not isinstance(signature, str):
            wrong = "not formatted correctly. 'signature_name' key must be a string value."
            raise invalid(f"JSON Value: {printed(document)} {wrong}")
        if match["verb"] != "predict":
            raise refuse_examples(match["verb"], document, find)
        servable = find()
        form, arrays = request_arrays(document, servable.dtypes(signature))
        return reply(form, run_within(servable, signature, arrays, call.ticket))

    def _get(self, match: re.Match[str], call: _Call) -> dict[str, Any]:
        if match["metadata"]:
            return metadata_json(self._find(match, call))
        # A label is accepted here and means nothing: the states of all versions are told.
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


def _version(match: re.Match[str]) -> int | None:
    if match["version"] is None:
        return None
    # Compared as text first: Python takes its time with numbers of many thousand digits.
    digits = match["version"].lstrip("0") or "0"
    if len(digits) > len(str(LARGEST_VERSION)) or int(digits) > LARGEST_VERSION:
        raise invalid(f"Failed to convert version: {match['version']} to numeric.")
    return int(digits)


def _failure(code: Code, message: str, headers: dict[str, str] | None = None) -> Response:
    # The message may repeat bytes of the request that are no UTF-8; the answer must be.
    readable = message.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return JSONResponse({"error": readable}, status_code=code.http, headers=headers)


def _malformed(method: str, path: str) -> ServingError:
    return invalid(f"Malformed request: {method} {path}")


async def _body(request: Request, ticket: Ticket) -> bytes:
    chunks: list[bytes] = []
    async for chunk in request.stream():
        ticket.hold(len(chunk))
        chunks.append(chunk)
    return b"".join(chunks)


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
