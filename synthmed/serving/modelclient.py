"""Asking one model of a TensorFlow Serving endpoint, ours or the original; what REST and gRPC have in common."""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np

from synthmed.errors import UserError
from synthmed.serving.refusals import Kind, Refusal

RETRIES = 8
FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 8.0
TIMEOUT_SECONDS = 300.0
DEFAULT_PORTS = {"http": 80, "https": 443, "grpc": 8500, "grpcs": 8500}

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Access:
    """What a server asks of its clients.

    Attributes:
        token: Sent as `authorization: Bearer TOKEN`; None sends none.
        ca_file: PEM file of the authorities that sign the server's certificate; None trusts those of this machine.
    """

    token: str | None = None
    ca_file: Path | None = None


@dataclass(frozen=True)
class Address:
    """Where a server listens.

    Attributes:
        scheme: `http`, `https`, `grpc` or `grpcs`.
        host: Its name or number.
        port: Its port.
        path: What comes before `/v1` of REST behind a proxy, without a slash at its end.
    """

    scheme: str
    host: str
    port: int
    path: str

    @property
    def secure(self) -> bool:
        """Whether it speaks TLS."""
        return self.scheme in ("https", "grpcs")

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Return the address that a URL names.

        Raises:
            UserError: If it names none.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
            raise UserError(
                f"{url!r} is no address of a server: write http://HOST:PORT or grpc://HOST:PORT (https and grpcs with "
                "TLS), such as http://127.0.0.1:8501"
            )
        return cls(parts.scheme, parts.hostname, port or DEFAULT_PORTS[parts.scheme], parts.path.rstrip("/"))


class ModelClient(ABC):
    """One model of one server. A question that finds the server busy is asked again, after longer and longer pauses.

    Args:
        url: `http://HOST:PORT` or `grpc://HOST:PORT`; `https` and `grpcs` with TLS. Proxies are not used.
        model: The model's name.
        timeout: Seconds that one answer may take.
        access: Token and certificates, where the server asks for them.

    Raises:
        UserError: If the URL is none.
    """

    def __init__(self, url: str, *, model: str, timeout: float = TIMEOUT_SECONDS, access: Access | None = None):
        self.address = Address.parse(url)
        self.url = url.rstrip("/")
        self.model = model
        self.timeout = timeout
        self.access = access or Access()
        self._answered = False

    def predict(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Return the outputs of a signature by name, as arrays or nested lists; strings as bytes objects where their
        names end with `_bytes`. Over REST the only output of a signature has the name "".

        Raises:
            UserError: If there is no such server, model or signature, or the server fails.
        """
        return self._asked(lambda: self._predict(signature, inputs))

    def check(self) -> None:
        """Make sure that the server is there and has an available version of the model.

        Raises:
            UserError: If not, with what is wrong.
        """
        if not self._asked(self._available):
            raise UserError(f"{self.url} has no available version of {self.model}: wait for it or check --model")

    def signatures(self) -> frozenset[str]:
        """Return the names of the model's signatures.

        Raises:
            UserError: If the server does not tell them.
        """
        return self._asked(self._signatures)

    @abstractmethod
    def close(self) -> None:
        """End the connection; a later question makes a new one."""

    @abstractmethod
    def _predict(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, Any]: ...

    @abstractmethod
    def _available(self) -> bool: ...

    @abstractmethod
    def _signatures(self) -> frozenset[str]: ...

    def _asked(self, question: Callable[[], _Answer]) -> _Answer:
        pause = FIRST_PAUSE_SECONDS
        for attempt in range(RETRIES + 1):
            try:
                answer = question()
                self._answered = True
                return answer
            except Refusal as refusal:
                # A server that answered before and is gone now may be starting again; one that never did is not there.
                lost = refusal.kind in (Kind.LOST, Kind.ABSENT) and self._answered
                if attempt == RETRIES or not (refusal.kind is Kind.BUSY or lost):
                    raise UserError(refusal.line(url=self.url, model=self.model)) from None
                # Not all clients that were sent away at once may come back at once.
                wanted = max(pause * random.uniform(0.5, 1.0), min(refusal.pause, LONGEST_PAUSE_SECONDS))  # noqa: S311
            sleep(wanted)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        raise AssertionError("unreachable")
