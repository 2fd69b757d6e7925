"""A sampler whose generator lives behind a server."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from pydantic import ValidationError

from synthmed.errors import UserError
from synthmed.generation.sampler import BATCH, Samples, Told, drawing_signature, sample_in_batches
from synthmed.generation.savedmodel import shipped_models, versions

if TYPE_CHECKING:
    from synthmed.generation.info import BundleInfo


class Client(Protocol):
    """What a sampler asks of a client, whatever the protocol."""

    url: str
    model: str

    def predict(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, Any]:
        """Return the outputs of a signature by name, as arrays or nested lists."""
        ...

    def check(self) -> None:
        """Raise UserError unless the model is there."""
        ...


class RemoteSampler:
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
        self.info = self._described()

    def sample(
        self, seeds: np.ndarray, psi: float, masks: np.ndarray | None = None, told: Told | None = None
    ) -> Samples:
        """Draw one item for each seed; see `Sampler.sample`."""
        return sample_in_batches(self._draw, seeds, psi, masks, told, batch=self.batch)

    def _described(self) -> "BundleInfo":
        from synthmed.generation.info import BundleInfo

        answer = self.client.predict("describe", {"seed": np.zeros(1, np.int64)})
        try:
            text = next(iter(answer.values()))[0]
            return BundleInfo.model_validate(json.loads(text))
        except (ValueError, TypeError, LookupError, ValidationError):
            raise self._wrong("describe") from None

    def _draw(self, **inputs: np.ndarray) -> dict[str, Any]:
        signature = drawing_signature(inputs)
        drawn = self.client.predict(signature, inputs)
        if self.info.variant == "mask":
            drawn = {"mask": drawn.get("mask", drawn.get(""))}
        geometry = self.client.predict("geometry", {"seed": inputs["seed"]})
        count, size, channels = len(inputs["seed"]), tuple(self.info.size), len(self.info.channels)
        wanted: dict[str, tuple[type, tuple[int, ...]]] = {"mask": (np.uint8, (count, *size))}
        if self.info.variant != "mask":
            wanted["image"] = (np.float32, (count, *size, channels))
        outputs = {name: self._array(signature, drawn.get(name), *form) for name, form in wanted.items()}
        outputs["template"] = self._array("geometry", geometry.get("template"), np.int64, (count,))
        if outputs["template"].min() < 0 or outputs["template"].max() >= len(self.info.templates):
            raise self._wrong("geometry")
        return outputs

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
