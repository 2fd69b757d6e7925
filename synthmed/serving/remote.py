"""Generators that live behind a server."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from pydantic import ValidationError

from synthmed.errors import UserError
from synthmed.generation.generator import (
    BATCH,
    Generator,
    drawing_signature,
    shipped_models,
    versions,
)
from synthmed.progress import Progress, silent
from synthmed.serving.modelclient import TIMEOUT_SECONDS, Access, Address, ModelClient

if TYPE_CHECKING:
    from synthmed.generation.info import GeneratorInfo

NEEDED = {"sample", "geometry", "describe"}
"""Signatures without which a model is no generator of synthmed."""
BYTES = "sample_bytes"
"""The signature that answers with the bytes of arrays: what JSON says in 13 characters a number is then 5."""


class Client(Protocol):
    """What a generator asks of a client, whatever the protocol."""

    url: str
    model: str

    def predict(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, Any]:
        """Return the outputs of a signature by name, as arrays or nested lists."""
        ...

    def check(self) -> None:
        """Raise UserError unless the model is there."""
        ...

    def signatures(self) -> frozenset[str]:
        """Return the names of the model's signatures."""
        ...


class RemoteGenerator(Generator):
    """Draws from a generator behind a server; the same seeds give the same items as drawing from it directly.

    Args:
        client: Knows the server and the model.
        batch: Items asked for at once.

    Raises:
        UserError: If the server is not there, has no such model, or the model is no generator of synthmed.
    """

    def __init__(self, client: Client, *, batch: int = BATCH):
        self.client = client
        self.batch = batch
        client.check()
        self.signatures = client.signatures()
        missing = sorted(NEEDED - self.signatures)
        if missing:
            raise UserError(
                f"{client.model} at {client.url} is something else than a generator of synthmed (no signature "
                f"{', '.join(missing)}): check --model"
            )
        self.info = self._described()

    def _described(self) -> "GeneratorInfo":
        from synthmed.generation.info import GeneratorInfo

        answer = self.client.predict("describe", {"seed": np.zeros(1, np.int64)})
        try:
            content = json.loads(next(iter(answer.values()))[0])
            return GeneratorInfo.model_validate(content)
        except ValidationError:
            if isinstance(content, dict) and {"variant", "model_hash"} <= set(content):
                raise UserError(
                    f"{self.client.model} at {self.client.url} is of synthmed {content.get('version')}, which "
                    "describes generators in another way: use the same version here"
                ) from None
            raise self._wrong("describe") from None
        except (ValueError, TypeError, LookupError, RecursionError):
            raise self._wrong("describe") from None

    def _draw(self, **inputs: np.ndarray) -> dict[str, Any]:
        signature = drawing_signature(inputs)
        if signature == "sample" and BYTES in self.signatures:
            return self._drawn_as_bytes(inputs)
        drawn = self.client.predict(signature, inputs)
        if self.info.variant == "mask":
            drawn = {"mask": drawn.get("mask", drawn.get(""))}
        geometry = self.client.predict("geometry", {"seed": inputs["seed"]})
        outputs = {
            name: self._array(signature, drawn.get(name), *form)
            for name, form in self._forms(len(inputs["seed"])).items()
        }
        return outputs | self._templates("geometry", geometry, len(inputs["seed"]))

    def _drawn_as_bytes(self, inputs: dict[str, np.ndarray]) -> dict[str, Any]:
        drawn = self.client.predict(BYTES, inputs)
        outputs = {}
        for name, (dtype, shape) in self._forms(len(inputs["seed"])).items():
            try:
                values = np.frombuffer(b"".join(drawn[f"{name}_bytes"]), np.dtype(dtype).newbyteorder("<"))
            except (LookupError, TypeError, ValueError):
                raise self._wrong(BYTES) from None
            if values.size != np.prod(shape):
                raise self._wrong(BYTES)
            outputs[name] = values.reshape(shape)
        return outputs | self._templates(BYTES, drawn, len(inputs["seed"]))

    def _forms(self, count: int) -> dict[str, tuple[type, tuple[int, ...]]]:
        """Return type and shape of what a signature draws, by name."""
        size, channels = tuple(self.info.size), len(self.info.channels)
        forms: dict[str, tuple[type, tuple[int, ...]]] = {"mask": (np.uint8, (count, *size))}
        return forms if self.info.variant == "mask" else forms | {"image": (np.float32, (count, *size, channels))}

    def _templates(self, signature: str, answer: dict[str, Any], count: int) -> dict[str, np.ndarray]:
        templates = self._array(signature, answer.get("template"), np.int64, (count,))
        if templates.min() < 0 or templates.max() >= len(self.info.templates):
            raise self._wrong(signature)
        return {"template": templates}

    def _array(self, signature: str, value: Any, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
        try:
            array: np.ndarray = np.asarray(value, dtype)
        except (ValueError, TypeError, OverflowError):
            raise self._wrong(signature) from None
        if array.shape != shape:
            raise self._wrong(signature)
        return array

    def _wrong(self, signature: str) -> UserError:
        where = f"{self.client.model} at {self.client.url}"
        return UserError(
            f"{where} answers {signature!r} with something else than a generator of synthmed: check --model"
        )


class GeneratorClient(RemoteGenerator):
    """A generator behind TensorFlow Serving or `synthmed serve`, over REST or gRPC. TensorFlow is not needed.

    A server that is busy is asked again, with longer and longer pauses, about half a minute in all.

        with GeneratorClient("grpc://127.0.0.1:8500", model="hippocampus") as client:
            samples = client.sample_seeds(np.arange(100), psi=0.9)
            client.write(Path("from-server"), count=100)

    Args:
        url: `http://HOST:PORT` or `grpc://HOST:PORT`; `https` and `grpcs` with TLS.
        model: Name of the model.
        batch: Items in one request; results repeat exactly at one value, and to 1e-4 at others.
        timeout: Seconds that one answer may take.
        token: Sent as `authorization: Bearer TOKEN`, where the server asks for one.
        ca_file: PEM file of the authority that signed the server's certificate; by default those of this machine.

    Attributes:
        info: What the generator says of itself.

    Raises:
        UserError: If the server is not there, has no such model, or the model is no generator of synthmed. The methods
            raise it for what goes wrong later.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8501",
        *,
        model: str,
        batch: int = BATCH,
        timeout: float = TIMEOUT_SECONDS,
        token: str | None = None,
        ca_file: Path | None = None,
    ):
        self._connection = connect(url, model=model, timeout=timeout, access=Access(token, ca_file))
        super().__init__(self._connection, batch=batch)

    def write(
        self,
        out: Path,
        *,
        count: int,
        fmt: str = "nnunet",
        unit: str = "slice",
        psi: float = 1.0,
        seed: int = 0,
        progress: Progress = silent,
    ) -> Path:
        """Write a set of cases exactly as `synthmed.generation.generate.generate` does; see there."""
        from synthmed.generation.generate import generate

        return generate(
            self, out, n=count, unit=unit, format=fmt, psi=psi, seed=seed, batch=self.batch, progress=progress
        )

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def __enter__(self) -> "GeneratorClient":
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()


def connect(url: str, *, model: str, timeout: float = TIMEOUT_SECONDS, access: Access | None = None) -> ModelClient:
    """Return the client of the protocol that the URL names; nothing is asked yet.

    Raises:
        UserError: If the URL is none, or gRPC is not installed.
    """
    if Address.parse(url).scheme in ("http", "https"):
        from synthmed.serving.client import RestClient

        return RestClient(url, model=model, timeout=timeout, access=access)
    from synthmed.extras import install_hint

    try:
        from synthmed.serving.grpc_client import GrpcClient
    except ModuleNotFoundError as error:
        raise UserError(f"gRPC needs {error.name}: {install_hint(error.name or 'grpc')}, or use http://") from None
    return GrpcClient(url, model=model, timeout=timeout, access=access)


def default_model(folder: Path = Path("saved_models")) -> str:
    """Return the name of the one model that a server with default settings would have.

    Raises:
        UserError: If there are several, or none.
    """
    place = folder if folder.is_dir() else shipped_models()
    names = [child.name for child in sorted(place.iterdir()) if versions(child)] if place.is_dir() else []
    if len(names) != 1:
        found = f"{place} holds {', '.join(names)}" if names else "no generator is here"
        raise UserError(f"{found}: say which model to ask for with --model")
    return names[0]
