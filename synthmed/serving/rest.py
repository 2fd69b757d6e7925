"""TensorFlow Serving's REST interface on the models of a manager."""

import re
import zlib
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from synthmed.serving.examples import refuse_examples
from synthmed.serving.jsonreply import reply
from synthmed.serving.jsontensor import request_arrays
from synthmed.serving.jsontext import parse, printed
from synthmed.serving.manager import ModelManager, State
from synthmed.serving.metadata import metadata_json
from synthmed.serving.status import Code, ServingError, invalid

MAX_BODY_BYTES = 256 * 2**20
_LARGEST_VERSION = 2**63 - 1
_MODEL = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_POST = re.compile(rf"(?i){_MODEL}:(?P<verb>classify|regress|predict)")
_GET = re.compile(rf"(?i){_MODEL}(?P<metadata>/metadata)?")


def rest_app(manager: ModelManager) -> Starlette:
    """Return the ASGI application."""
    return Starlette(routes=[Route("/{path:path}", _RestEndpoint(manager))])


class _RestEndpoint:
    """One ASGI application for every path and verb: the protocol's own rules say what is malformed."""

    def __init__(self, manager: ModelManager):
        self.manager = manager

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        path = scope.get("raw_path", scope["path"].encode()).decode("latin-1")
        if not path.lower().startswith("/v1/"):
            response: Response = HTMLResponse("<html><body><h1>Not Found</h1></body></html>", status_code=404)
        else:
            response = await self._answer(request, path)
        await response(scope, receive, send)

    async def _answer(self, request: Request, path: str) -> Response:
        try:
            if request.method == "POST" and (match := _POST.fullmatch(path)):
                body = await _body(request)
                return Response(await run_in_threadpool(self._post, match, body, path), media_type="application/json")
            if request.method == "GET" and path.lower() == "/v1/models":
                raise invalid("Missing model name in request.")
            if request.method == "GET" and (match := _GET.fullmatch(path)):
                return JSONResponse(self._get(match))
            raise _malformed(request.method, path)
        except ServingError as error:
            return JSONResponse({"error": error.message}, status_code=error.code.http)
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception as error:  # A request must never end the server; the client learns what happened.
            return JSONResponse({"error": f"{type(error).__name__}: {error}"}, status_code=Code.INTERNAL.http)

    def _post(self, match: re.Match[str], body: bytes, path: str) -> bytes:
        if match["verb"] not in ("predict", "classify", "regress"):
            # The paths are matched without regard to case, the verbs are not.
            raise _malformed("POST", path)
        find = partial(self.manager.find, match["name"], version=_version(match), label=match["label"])
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
        return reply(form, servable.run(signature, arrays))

    def _get(self, match: re.Match[str]) -> dict[str, Any]:
        version = _version(match)
        if match["metadata"]:
            return metadata_json(self.manager.find(match["name"], version=version, label=match["label"]))
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
                for one in self.manager.statuses(match["name"], version=version)
            ]
        }


def _version(match: re.Match[str]) -> int | None:
    if match["version"] is None:
        return None
    if int(match["version"]) > _LARGEST_VERSION:
        raise invalid(f"Failed to convert version: {match['version']} to numeric.")
    return int(match["version"])


def _malformed(method: str, path: str) -> ServingError:
    return invalid(f"Malformed request: {method} {path}")


async def _body(request: Request) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        _check_size(size)
        chunks.append(chunk)
    body = b"".join(chunks)
    if request.headers.get("content-encoding", "").lower() == "gzip":
        return await run_in_threadpool(_gunzip, body)
    return body


def _gunzip(body: bytes) -> bytes:
    # By a stream with a limit: a few kilobytes of gzip can stand for gigabytes.
    stream = zlib.decompressobj(wbits=31)
    try:
        plain = stream.decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error as error:
        raise invalid(f"Failed to decompress the request: {error}") from None
    _check_size(len(plain))
    if not stream.eof:
        raise invalid("Failed to decompress the request: it ends too early")
    return plain


def _check_size(size: int) -> None:
    if size > MAX_BODY_BYTES:
        raise ServingError(Code.RESOURCE_EXHAUSTED, f"request is larger than {MAX_BODY_BYTES} bytes")
