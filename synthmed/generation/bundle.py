"""A trained generator with everything that drawing from it takes, free of the store it was trained on."""

import hashlib
from pathlib import Path

import keras
import numpy as np
from keras import ops

from synthmed.errors import UserError
from synthmed.generation.info import BundleInfo
from synthmed.models.generators import SliceGenerator
from synthmed.models.items import TEMPLATE_STREAM, draw_items, item_latents, item_noise, item_number
from synthmed.training.networks import make_generator
from synthmed.training.planes import one_hot_mask, split_planes
from synthmed.training.run import Run


class GeneratorBundle:
    """A generator, its mask generator where it is a `cond`, and what describes them.

    All methods are `keras.ops` and can be traced.

    Args:
        info: Description.
        generator: The averaged generator.
        mask_generator: Averaged `mask` generator of a `cond` bundle.
    """

    def __init__(self, info: BundleInfo, generator: SliceGenerator, mask_generator: SliceGenerator | None = None):
        self.info = info
        self.generator = generator
        self.mask_generator = mask_generator

    @property
    def models(self) -> list[keras.Model]:
        """The Keras models whose weights an export has to carry."""
        return [self.generator] + ([self.mask_generator] if self.mask_generator is not None else [])

    def latents(self, seed):
        """Return the latent codes `(batch, z_dim)` of int64 seeds `(batch,)`."""
        return item_latents(self.generator, seed)

    def mapping(self, z):
        """Return styles `(batch, num_ws, w_dim)` for latent codes `(batch, z_dim)`."""
        return self.generator.broadcast(self.generator.mapping(z))

    def synthesis(self, w, seed, mask=None) -> dict:
        """Draw from styles.

        Args:
            w: `(batch, num_ws, w_dim)`.
            seed: int64 `(batch,)`, of the noise.
            mask: int32 `(batch, height, width)` class indices; `cond` only, and required there.

        Returns:
            "image" float32 `(batch, height, width, channels)` but for `mask`, "mask" uint8 `(batch, height, width)`.
        """
        planes = self.generator.synthesis(w, item_noise(self.generator, seed), self._condition(mask))
        return self._parts(planes, mask)

    def sample(self, seed, psi, mask=None) -> dict:
        """Draw items; a `cond` bundle without `mask` draws its own.

        Args:
            seed: int64 `(batch,)`.
            psi: float32 `(batch,)`, truncation; 1 is none.
            mask: int32 `(batch, height, width)` class indices, `cond` only.

        Returns:
            As `synthesis`.
        """
        if self.mask_generator is not None and mask is None:
            mask = self.masks(seed, psi)
        return self._parts(draw_items(self.generator, seed, psi, self._condition(mask)), mask)

    def masks(self, seed, psi):
        """Return the label maps, uint8 `(batch, height, width)`, that a `cond` bundle draws for `sample`."""
        if self.mask_generator is None:
            raise ValueError(f"a {self.info.variant} bundle has no mask generator")
        planes = draw_items(self.mask_generator, seed, psi)
        return split_planes(planes, image_channels=0, mask_classes=self.mask_generator.classes)["mask"]

    def template_index(self, seed):
        """Return int32 `(batch,)`: which of `info.templates` brings an item to source units."""
        return item_number(seed, stream=TEMPLATE_STREAM, below=len(self.info.templates))

    def _condition(self, mask):
        if self.generator.variant != "cond":
            return None
        if mask is None:
            raise ValueError("a cond generator without a mask generator needs a mask")
        return one_hot_mask(mask, self.generator.classes)

    def _parts(self, planes, mask) -> dict:
        parts = split_planes(
            planes, image_channels=self.generator.image_channels, mask_classes=self.generator.mask_classes
        )
        return parts if "mask" in parts else parts | {"mask": ops.cast(mask, "uint8")}


def load_bundle(path: Path | str) -> GeneratorBundle:
    """Load the averaged generator of a run: the one nearest to held-out patients, else that of the last checkpoint.

    Args:
        path: A run folder.

    Raises:
        UserError: If the folder is no run, or has no checkpoint yet.
    """
    run = Run.open(path)
    generator, kimg = _load_generator(run)
    mask_generator = None
    if run.options.variant == "cond":
        mask_generator, _ = _load_generator(Run.open(run.mask_generator))
    data = run.data
    info = BundleInfo(
        name=run.path.resolve().name,
        variant=run.options.variant,
        size=data.size,
        channels=() if run.options.variant == "mask" else data.channels,
        classes=data.classes,
        z_dim=generator.z_dim,
        templates=data.templates,
        training_patients=_training_patients(run),
        kimg=kimg,
        model_hash=_weights_hash([generator] + ([mask_generator] if mask_generator else [])),
        version=run.content.synthmed,
        dataset=data.dataset,
        licence=data.licence,
        options=run.options.model_dump(mode="json"),
    )
    return GeneratorBundle(info, generator, mask_generator)


def _load_generator(run: Run) -> tuple[SliceGenerator, float]:
    checkpoint, arrays = run.chosen_arrays()
    data = run.data
    # Trained in whatever format was fast; drawn in float32, so that an item is the same to 1e-4 on every machine.
    options = run.options.model_copy(update={"precision": "float32"})
    generator = make_generator(options, size=data.size, channels=len(data.channels), classes=len(data.classes))
    for variable in generator.variables:
        name = f"average/{variable.path}"
        if name not in arrays:
            raise UserError(f"{checkpoint.path} does not hold the generator that {run.path / 'run.json'} describes")
        variable.assign(arrays[name])
    return generator, float(checkpoint.state["kimg"])


def _training_patients(run: Run) -> list[str]:
    """A `cond` bundle was taught by the patients of its mask generator, too."""
    hashes = set(run.data.training_patients)
    if run.options.variant == "cond":
        hashes |= set(Run.open(run.mask_generator).data.training_patients)
    return sorted(hashes)


def _weights_hash(models: list[SliceGenerator]) -> str:
    digest = hashlib.sha256()
    for model in models:
        for variable in model.variables:
            digest.update(variable.path.encode())
            digest.update(np.ascontiguousarray(np.asarray(variable)).tobytes())
    return digest.hexdigest()
