"""Generators wherever they live, a run, an exported SavedModel or one that ships: found, loaded and sampled alike."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Container
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from synthmed.backend import backend_name, check_backend, need_tensorflow
from synthmed.errors import UserError
from synthmed.files import read_json

if TYPE_CHECKING:
    from synthmed.generation.bundle import GeneratorBundle
    from synthmed.generation.info import GeneratorInfo

BATCH = 8
"""Items a generator draws at once. The same network on another batch size differs by about 1e-5 an image, so the size
is fixed and a short batch is padded: an image then depends on its seed alone, not on how many were asked for."""


Conditioning = dict[str, np.ndarray]
"""What `b` slices are conditioned on: "position" [b] in 0..1 and "shown" [b, classes - 1] of 0 and 1."""


ITEMS_PER_SEED = 10**9
"""How many items one base seed names; a power of ten, so that a case name shows the seed and the item's number."""

MAX_SEED = 2**32 - 1
"""Largest base seed: every item seed then fits in a signed 64-bit integer, the widest that a server takes."""


def item_seeds(seed: int, start: int, stop: int) -> np.ndarray:
    """Return the int64 seeds of items `start` to `stop - 1` of base seed `seed`; no two (seed, item) pairs share one.

    Raises:
        UserError: If the seed or the number of items is out of range.
    """
    if not 0 <= seed <= MAX_SEED:
        raise UserError(f"--seed must be between 0 and {MAX_SEED}, got {seed}")
    if not 0 <= start <= stop <= ITEMS_PER_SEED:
        raise UserError(f"one seed names {ITEMS_PER_SEED} items: draw the rest with another --seed")
    return seed * ITEMS_PER_SEED + np.arange(start, stop, dtype=np.int64)


@dataclass(frozen=True)
class Samples:
    """What a generator draws: `b` items in the order of their seeds."""

    images: np.ndarray | None
    """float32 [b, H, W, C], about -1 to 1; None for a generator of masks alone."""
    labels: np.ndarray
    """uint8 [b, H, W] of class indices."""
    templates: np.ndarray
    """int64 [b]: which of the generator's templates returns each item to source units."""


class Generator(ABC):
    """A generator, wherever it lives. Each item follows from its seed alone, not from how many one call asks for.

    Attributes:
        info: What the generator says of itself.
        origin: Where it comes from, in one line.
        run: The run folder that it was loaded from; None for an exported or remote one.
        batch: Items drawn at once.
    """

    info: "GeneratorInfo"
    origin: str = ""
    run: Path | None = None
    batch: int = BATCH

    def sample(self, n: int = 1, *, seed: int = 0, psi: float = 1.0) -> Samples:
        """Draw the first `n` items of a base seed: those that `generate` writes with it.

        Args:
            n: How many, at least 1.
            seed: Base seed, 0 to 2^32 - 1.
            psi: Truncation, 0 to 1: lower is more typical, less diverse.

        Raises:
            UserError: If an argument is out of range.

        Example:
            >>> generator = sm.load_generator("hippocampus")
            >>> generator.sample(n=2, seed=1).labels.shape
            (2, 64, 64)
        """
        if n < 1:
            raise UserError(f"n must be at least 1, got {n}")
        if not 0.0 <= psi <= 1.0:
            raise UserError(f"psi must be between 0 and 1, got {psi:g}")
        return self.sample_seeds(item_seeds(seed, 0, n), psi)

    def sample_seeds(
        self, seeds: np.ndarray, psi: float, masks: np.ndarray | None = None, conditioning: Conditioning | None = None
    ) -> Samples:
        """Draw one item for each seed.

        Args:
            seeds: int64 `[b]`, each 0 or more.
            psi: Truncation, 0 to 1.
            masks: uint8 `[b, H, W]` of class indices to condition on (`cond` only); None lets the generator draw them.
            conditioning: Position and class presence instead of what each seed draws; only where the generator is
                conditioned on them.
        """
        return sample_in_batches(self._draw, seeds, psi, masks, conditioning, batch=self.batch)

    @abstractmethod
    def _draw(self, **inputs: np.ndarray) -> dict[str, Any]:
        """Return what one batch of inputs draws; see `sample_in_batches`."""


class RunGenerator(Generator):
    """A generator in this process, loaded from its run.

    Args:
        bundle: The generator, as `load_bundle` returns it.
        batch: Items drawn at once.
    """

    def __init__(self, bundle: "GeneratorBundle", *, batch: int = BATCH):
        self.bundle = bundle
        self.batch = batch
        self.info = bundle.info
        self.run = bundle.run
        self._compiled = _compiled(bundle)

    def _draw(self, **inputs: np.ndarray) -> dict[str, Any]:
        return self._compiled(**inputs)


def sample_in_batches(
    draw: Callable[..., dict[str, Any]],
    seeds: np.ndarray,
    psi: float,
    masks: np.ndarray | None,
    conditioning: Conditioning | None = None,
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
        conditioning: Positions and shown classes, or None.
        batch: The fixed size.
    """
    parts: list[dict[str, np.ndarray]] = []
    for start in range(0, len(seeds), batch):
        chosen = np.arange(start, min(start + batch, len(seeds)))
        padded = np.pad(chosen, (0, batch - len(chosen)), mode="edge")
        inputs = {"seed": seeds[padded].astype(np.int64), "psi": np.full(batch, psi, np.float32)}
        if masks is not None:
            inputs["mask"] = masks[padded].astype(np.int32)
        if conditioning is not None:
            inputs |= {name: values[padded].astype(np.float32) for name, values in conditioning.items()}
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
    def draw(seed, psi, mask=None, **conditioning):
        return {**bundle.sample(seed, psi, mask, conditioning or None), "template": bundle.template_index(seed)}

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


SHIPPED = ("hippocampus",)
"""Names of the generators that ship; setup.cfg lists their files."""
INFO_FILE = Path("assets.extra") / "bundle.json"


def is_saved_model(path: Path) -> bool:
    """Return whether `path` is one version of a SavedModel."""
    return (path / "saved_model.pb").is_file()


def versions(folder: Path) -> list[Path]:
    """Return the SavedModel versions in `folder` (folders named by a number), oldest first."""
    if not folder.is_dir():
        return []
    numbered = [child for child in folder.iterdir() if child.name.isdecimal() and is_saved_model(child)]
    return sorted(numbered, key=lambda child: int(child.name))


def newest_version(path: Path) -> Path | None:
    """Return `path` if it is a SavedModel itself, else its newest version, else None."""
    if is_saved_model(path):
        return path
    found = versions(path)
    return found[-1] if found else None


def shipped_models() -> Path:
    """Return the folder of the generators that come with synthmed."""
    # Asked by the package's name: in a checkout the folder lies beside the package, in a wheel inside it.
    return Path(str(resources.files("synthmed.saved_models")))


def read_info(version: Path) -> "GeneratorInfo":
    """Return what an exported generator says about itself.

    Raises:
        UserError: If it says nothing (a SavedModel that is not ours) or something unreadable.
    """
    from synthmed.generation.info import GeneratorInfo

    path = version / INFO_FILE
    if not path.is_file():
        raise UserError(f"{version} is a SavedModel but no generator of synthmed: it has no {INFO_FILE}")
    try:
        return GeneratorInfo.model_validate(read_json(path))
    except ValidationError as error:
        raise UserError(f"{path} is damaged ({error.errors()[0]['msg']}): export the run again") from error


class SavedModelGenerator(Generator):
    """Draws from an exported generator.

    Args:
        version: Folder of one version.
        batch: Items drawn at once.

    Raises:
        UserError: If the folder is no exported generator or cannot be loaded, or TensorFlow is missing.
    """

    def __init__(self, version: Path, *, batch: int = BATCH):
        self.info = read_info(version)
        self.batch = batch
        need_tensorflow(
            f"drawing from the exported generator {version}", "name the run that it was exported from", keras=False
        )
        # Kept whole: the loaded object owns the variables, which its signatures alone would not keep alive.
        self._loaded = load_saved_model(version)
        missing = {"sample", "geometry"} - set(self._loaded.signatures)
        if missing:
            raise UserError(f"{version} has no signature {', '.join(sorted(missing))}: export the run again")

    def _draw(self, **inputs: np.ndarray) -> dict[str, Any]:
        geometry = self._call("geometry", seed=inputs["seed"])
        drawn = self._call(drawing_signature(inputs), **inputs)
        return {**drawn, "template": geometry["template"]}

    def _call(self, signature: str, **inputs: np.ndarray) -> dict[str, Any]:
        import tensorflow as tf

        return self._loaded.signatures[signature](**{name: tf.constant(value) for name, value in inputs.items()})


def load_saved_model(version: Path) -> Any:
    """Return what `tf.saved_model.load` makes of one version; its `signatures` are called by name.

    Raises:
        UserError: If it cannot be loaded.
    """
    import tensorflow as tf

    try:
        return tf.saved_model.load(str(version))
    except Exception as error:
        # A damaged protobuf, a missing shard and a too new format arrive as OSError, ValueError, KeyError and more.
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{version} cannot be loaded ({reason}): export the run again") from error


def load_generator(model: Path | str | None = None, *, folder: Path | str = Path(), batch: int = BATCH) -> Generator:
    """Load a generator; its `origin` says in one line where it comes from.

    Args:
        model: A run, an exported generator or one version of it, or the name of one that ships; None takes the newest
            run below `folder`, else the first generator that ships.
        folder: Where runs are looked for.
        batch: Items drawn at once.

    Raises:
        UserError: If there is no such generator or it cannot be loaded.

    Example:
        >>> sm.load_generator("hippocampus").info.classes
        ('background', 'anterior', 'posterior')
    """
    if model is None:
        return _default(Path(folder), batch)
    path = Path(model)
    if not path.is_dir():
        if path.name == str(model) and str(model) in SHIPPED:
            return _shipped(str(model), batch)
        raise UserError(
            f"{model} does not exist: name a run, an exported generator, or one that ships ({', '.join(SHIPPED)})"
        )
    version = newest_version(path)
    if version is not None:
        return _with_origin(SavedModelGenerator(version, batch=batch), f"exported model {version}")
    return _of_run(path, f"run {path}", batch)


def _default(folder: Path, batch: int) -> Generator:
    from synthmed.training.run import find_latest_run

    run = find_latest_run(folder)
    if run is not None:
        return _of_run(run, f"newest run of this folder, {run}", batch)
    return _shipped(SHIPPED[0], batch)


def _of_run(path: Path, origin: str, batch: int) -> Generator:
    check_backend()
    from synthmed.generation.bundle import load_bundle

    return _with_origin(RunGenerator(load_bundle(path), batch=batch), origin)


def _shipped(name: str, batch: int) -> Generator:
    # By name: in a checkout, private exports may lie in the same folder.
    version = newest_version(shipped_models() / name)
    if version is None:
        raise UserError(f"the generator {name} is missing here: install synthmed again, or name a run")
    return _with_origin(SavedModelGenerator(version, batch=batch), f"{name} {version.name}, which ships with synthmed")


def _with_origin(generator: Generator, origin: str) -> Generator:
    generator.origin = f"generator: {origin}"
    return generator
