"""Generators wherever they live, a run, an exported SavedModel or one that ships: found, loaded and sampled alike."""

from collections.abc import Callable, Container
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from pydantic import ValidationError

from synthmed.backend import backend_name, check_backend, need_tensorflow
from synthmed.errors import UserError
from synthmed.files import read_json

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

    from synthmed.layers.counter_random import words
    from synthmed.training.jax_devices import keep_compiled

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

    return lambda seed, **inputs: stateless(values, words(seed), inputs)


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


def read_info(version: Path) -> "BundleInfo":
    """Return what an exported generator says about itself.

    Raises:
        UserError: If it says nothing (a SavedModel that is not ours) or something unreadable.
    """
    from synthmed.generation.info import BundleInfo

    path = version / INFO_FILE
    if not path.is_file():
        raise UserError(f"{version} is a SavedModel but no generator of synthmed: it has no {INFO_FILE}")
    try:
        return BundleInfo.model_validate(read_json(path))
    except ValidationError as error:
        raise UserError(f"{path} is damaged ({error.errors()[0]['msg']}): export the run again") from error


class SavedModelSampler:
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

    def sample(
        self, seeds: np.ndarray, psi: float, masks: np.ndarray | None = None, told: Told | None = None
    ) -> Samples:
        """Draw one item for each seed; see `Sampler.sample`."""
        return sample_in_batches(self._draw, seeds, psi, masks, told, batch=self.batch)

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


def open_sampler(model: Path | None, *, folder: Path = Path(), batch: int = BATCH) -> tuple[Sampler, str]:
    """Return a sampler and one line that says where its generator comes from.

    Args:
        model: A run, an exported generator or one version of it; None takes the newest run below `folder`, else the
            generator that comes with synthmed.
        folder: Where runs are looked for.
        batch: Items drawn at once.

    Raises:
        UserError: If there is no such generator or it cannot be loaded.
    """
    if model is None:
        return _default(folder, batch)
    if not model.is_dir():
        raise UserError(f"{model} does not exist: --model takes a run or an exported generator")
    version = newest_version(model)
    if version is not None:
        return SavedModelSampler(version, batch=batch), f"generator: exported model {version}"
    check_backend()
    from synthmed.generation.bundle import load_bundle

    return KerasSampler(load_bundle(model), batch=batch), f"generator: run {model}"


def _default(folder: Path, batch: int) -> tuple[Sampler, str]:
    from synthmed.training.run import find_latest_run

    run = find_latest_run(folder)
    if run is not None:
        check_backend()
        from synthmed.generation.bundle import load_bundle

        return KerasSampler(load_bundle(run), batch=batch), f"generator: newest run of this folder, {run}"
    shipped = shipped_models()
    names = sorted(shipped.iterdir()) if shipped.is_dir() else []
    found = [version for version in map(newest_version, names) if version is not None]
    if not found:
        raise UserError("there is no run in this folder and no generator came with synthmed: train one or give --model")
    info = f"generator: {found[0].parent.name} {found[0].name}, which comes with synthmed (no run in this folder)"
    return SavedModelSampler(found[0], batch=batch), info
