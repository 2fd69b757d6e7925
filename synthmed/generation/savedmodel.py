"""Generators as SavedModels: finding versions in folders, and drawing from one without the code that trained it."""

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from synthmed.backend import need_tensorflow
from synthmed.errors import UserError
from synthmed.files import read_json
from synthmed.generation.sampler import BATCH, Samples, Told, drawing_signature, sample_in_batches

if TYPE_CHECKING:
    from synthmed.generation.info import BundleInfo

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
