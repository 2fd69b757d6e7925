"""Asking a TensorFlow Serving endpoint, ours or the original, over REST. Needs nothing but the standard library."""

import http.client
import json
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np

from synthmed.errors import UserError

RETRIED = (429, 503)
RETRIES = 5
FIRST_PAUSE_SECONDS = 0.25


class RestClient:
    """One model of one server.

    Args:
        url: `http://HOST:PORT` (or https).
        model: The model's name.
        timeout: Seconds that one answer may take.

    Raises:
        UserError: If the URL is none.
    """

    def __init__(self, url: str, *, model: str, timeout: float = 300.0):
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(f"{url!r} is no address of a server: write http://HOST:PORT, such as http://127.0.0.1:8501")
        self.url = url.rstrip("/")
        self.model = model
        self.timeout = timeout
        self._kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._host, self._port = parts.hostname, port
        self._path = f"{parts.path.rstrip('/')}/v1/models/{quote(model, safe='')}"

    def predict(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Return the outputs of a signature, as nested lists by name.

        Raises:
            UserError: If there is no such server, model or signature, or the server fails.
        """
        body = json.dumps(
            {"signature_name": signature, "inputs": {name: value.tolist() for name, value in inputs.items()}}
        )
        answer = self._asked("POST", f"{self._path}:predict", body)
        if not isinstance(answer, dict) or "outputs" not in answer:
            raise UserError(f"{self.url} answers, but not as TensorFlow Serving does: check --url")
        outputs = answer["outputs"]
        return outputs if isinstance(outputs, dict) else {"": outputs}

    def check(self) -> None:
        """Make sure that the server is there and has an available version of the model.

        Raises:
            UserError: If not, with what is wrong.
        """
        answer = self._asked("GET", self._path, None)
        states = answer.get("model_version_status", []) if isinstance(answer, dict) else []
        if not any(isinstance(one, dict) and one.get("state") == "AVAILABLE" for one in states):
            raise UserError(f"{self.url} has no available version of {self.model}: wait for it or check --model")

    def _asked(self, method: str, path: str, body: str | None) -> Any:
        pause = FIRST_PAUSE_SECONDS
        for attempt in range(RETRIES + 1):
            status, text = self._exchange(method, path, body)
            if status not in RETRIED or attempt == RETRIES:
                break
            # The server said that it is busy: each further question waits twice as long.
            time.sleep(pause)
            pause *= 2
        try:
            answer = json.loads(text)
        except ValueError:
            raise UserError(f"{self.url} answers {status}, but not as TensorFlow Serving does: check --url") from None
        if status != 200:
            reason = str(answer.get("error", "")) if isinstance(answer, dict) else ""
            line = reason.strip().splitlines()[0][:300] if reason.strip() else "no reason given"
            mend = (
                "check --model" if status == 404 else "is it a generator of synthmed?" if status == 400 else "try later"
            )
            raise UserError(f"{self.url} refuses {self.model} with {status}: {line}: {mend}")
        return answer

    def _exchange(self, method: str, path: str, body: str | None) -> tuple[int, bytes]:
        connection = self._kind(self._host, self._port, timeout=self.timeout)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise UserError(f"no answer from {self.url} ({reason}): is the server running? (synthmed serve)") from None
        finally:
            connection.close()
