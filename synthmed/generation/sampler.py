"""Drawing pairs of image and label map from a generator, wherever it lives: a run, an exported folder, a server."""

from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from synthmed.backend import backend_name

if TYPE_CHECKING:
    from synthmed.generation.bundle import GeneratorBundle
    from synthmed.generation.info import BundleInfo

BATCH = 8
"""Items a generator draws at once. The same network on another batch size differs by about 1e-5 an image, so the size
is fixed and a short batch is padded: an image then depends on its seed alone, not on how many were asked for."""


Told = dict[str, np.ndarray]
"""What a generator is told of `b` slices: "position" [b] in 0..1 and "shown" [b, classes - 1] of 0 and 1."""


@dataclass(frozen=True)
class Samples:
    """What a sampler draws: `b` items in the order of their seeds."""

    images: np.ndarray | None
    """float32 [b, H, W, C], about -1 to 1; None for a generator of masks alone."""
    labels: np.ndarray
    """uint8 [b, H, W] of class indices."""
    templates: np.ndarray
    """int64 [b]: which of the generator's templates returns each item to source units."""


class Sampler(Protocol):
    """Draws items by seed. Results do not depend on how many items one call asks for."""

    @property
    def info(self) -> "BundleInfo":
        """What the generator is and where it comes from."""
        ...

    def sample(
        self, seeds: np.ndarray, psi: float, masks: np.ndarray | None = None, told: Told | None = None
    ) -> Samples:
        """Draw one item for each seed.

        Args:
            seeds: int64 [b], each 0 or more.
            psi: Truncation, 0 to 1.
            masks: uint8 [b, H, W] of class indices to condition on (`cond` only); None lets the generator draw them.
            told: What the generator is told instead of what each seed draws; only where it is told anything.
        """
        ...


class KerasSampler:
    """Draws from a generator that lives in this process.

    Args:
        bundle: The generator, as `load_bundle` returns it.
        batch: Items drawn at once.
    """

    def __init__(self, bundle: "GeneratorBundle", *, batch: int = BATCH):
        self.bundle = bundle
        self.batch = batch
        self.info = bundle.info
        self._draw = _compiled(bundle)

    def sample(
        self, seeds: np.ndarray, psi: float, masks: np.ndarray | None = None, told: Told | None = None
    ) -> Samples:
        """Draw one item for each seed; see `Sampler.sample`."""
        return sample_in_batches(self._draw, seeds, psi, masks, told, batch=self.batch)


def sample_in_batches(
    draw: Callable[..., dict[str, Any]],
    seeds: np.ndarray,
    psi: float,
    masks: np.ndarray | None,
    told: Told | None = None,
    *,
    batch: int,
) -> Samples:
    """Call `draw` on batches of one fixed size, the last one padded, and join what it returns.

    Args:
        draw: Takes `seed` int64 [batch], `psi` float32 [batch] and, where they were given, `mask` int32
            [batch, H, W] and `position` and `shown`; returns `mask`, `template` and, unless the generator draws masks
            alone, `image`.
        seeds: int64 [b].
        psi: Truncation of every item.
        masks: uint8 [b, H, W] or None.
        told: Positions and shown classes, or None.
        batch: The fixed size.
    """
    parts: list[dict[str, np.ndarray]] = []
    for start in range(0, len(seeds), batch):
        chosen = np.arange(start, min(start + batch, len(seeds)))
        padded = np.pad(chosen, (0, batch - len(chosen)), mode="edge")
        inputs = {"seed": seeds[padded].astype(np.int64), "psi": np.full(batch, psi, np.float32)}
        if masks is not None:
            inputs["mask"] = masks[padded].astype(np.int32)
        if told is not None:
            inputs |= {name: values[padded].astype(np.float32) for name, values in told.items()}
        outputs = draw(**inputs)
        parts.append({name: np.asarray(value)[: len(chosen)] for name, value in outputs.items()})
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Samples(
        images=joined["image"].astype(np.float32, copy=False) if "image" in joined else None,
        labels=joined["mask"].astype(np.uint8, copy=False),
        templates=joined["template"].astype(np.int64, copy=False),
    )


def drawing_signature(inputs: Container[str]) -> str:
    """Return the name of the signature of an exported generator that takes these inputs."""
    if "position" in inputs:
        return "sample_told"
    return "sample_given_mask" if "mask" in inputs else "sample"


def _compiled(bundle: "GeneratorBundle") -> Callable[..., dict[str, Any]]:
    def draw(seed, psi, mask=None, **told):
        return {**bundle.sample(seed, psi, mask, told or None), "template": bundle.template_index(seed)}

    backend = backend_name()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(draw)
    return _compiled_by_jax(bundle, draw) if backend == "jax" else draw


def _compiled_by_jax(bundle: "GeneratorBundle", draw: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    import jax
    import keras

    from synthmed.layers.counter_random import split_uint64
    from synthmed.training.jax_backend import keep_compiled

    keep_compiled()
    variables = [variable for model in bundle.models for variable in model.variables]
    values = [variable.value for variable in variables]

    # Weights are arguments: as constants they would be compiled in, which takes long and their memory twice.
    @jax.jit
    def stateless(values, seed, inputs):
        # GPUs and TPUs would round the factors of float32 products to fewer bits, and draw other items.
        exact = jax.default_matmul_precision("highest")
        with exact, keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return draw(seed, **inputs)

    return lambda seed, **inputs: stateless(values, split_uint64(seed), inputs)
