"""A trained generator with everything that drawing from it takes, free of the store it was trained on."""

import hashlib
from pathlib import Path

import numpy as np
from keras import ops

from synthmed.errors import UserError
from synthmed.evaluation.result import read_evaluation_summary
from synthmed.generation.info import EVALUATION_FILE, GeneratorInfo, read_verdict
from synthmed.models.generators import (
    TEMPLATE_STREAM,
    SliceGenerator,
    draw_items,
    item_attributes,
    item_latents,
    item_noise,
    item_number,
    shown_classes,
)
from synthmed.training.networks import make_generator, one_hot_mask, split_channels
from synthmed.training.run import Run


class GeneratorBundle:
    """A generator, its mask generator where it is a `cond`, and what describes them.

    All methods are `keras.ops` and can be traced. Where a generator is conditioned on position or class presence, an
    item draws them from the table of the training slices by its seed; both generators of a `cond` bundle get the same,
    but that what an image shows is read from its mask.

    Args:
        info: Description.
        generator: The averaged generator.
        mask_generator: Averaged `mask` generator of a `cond` bundle.
        run: The run folder that it comes from.
    """

    def __init__(
        self,
        info: GeneratorInfo,
        generator: SliceGenerator,
        mask_generator: SliceGenerator | None = None,
        *,
        run: Path | None = None,
    ):
        self.info = info
        self.generator = generator
        self.mask_generator = mask_generator
        self.run = run
        if self.is_conditional and info.attributes is None:
            raise ValueError("a generator with conditioning needs the table of what the training slices have")

    @property
    def models(self) -> list[SliceGenerator]:
        """The Keras models whose weights an export has to carry."""
        return [self.generator] + ([self.mask_generator] if self.mask_generator is not None else [])

    @property
    def is_conditional(self) -> bool:
        """Whether a generator is conditioned on anything beside a mask."""
        return any(model.attribute_dim for model in self.models)

    def latents(self, seed):
        """Return the latent codes `(batch, z_dim)` of int64 seeds `(batch,)`."""
        return item_latents(self.generator, seed)

    def mapping(self, z):
        """Return styles `(batch, num_ws, w_dim)` for latent codes `(batch, z_dim)`.

        A generator with conditioning gets that of most training slices.
        """
        attributes = None
        table = self.info.attributes
        if self.generator.attribute_dim and table is not None:
            row = slice(table.typical, table.typical + 1)
            typical = self.generator.attributes(table.middles[row], table.shown_matrix(self.generator.classes)[row])
            attributes = ops.repeat(typical, ops.shape(z)[0], axis=0)
        return self.generator.broadcast(self.generator.mapping(z, attributes))

    def synthesis(self, w, seed, mask=None) -> dict:
        """Draw from styles.

        Args:
            w: `(batch, num_ws, w_dim)`.
            seed: int64 `(batch,)`, of the noise.
            mask: int32 `(batch, height, width)` class indices; `cond` only, and required there.

        Returns:
            "image" float32 `(batch, height, width, channels)` but for `mask`, "mask" uint8 `(batch, height, width)`.
        """
        channels = self.generator.synthesis(w, item_noise(self.generator, seed), self._condition(mask))
        return self._parts(channels, mask)

    def sample(self, seed, psi, mask=None, conditioning: dict | None = None) -> dict:
        """Draw items; a `cond` bundle without `mask` draws its own.

        Args:
            seed: int64 `(batch,)`.
            psi: float32 `(batch,)`, truncation; 1 is none.
            mask: int32 `(batch, height, width)` class indices, `cond` only.
            conditioning: Instead of what the seed draws: "position" `(batch,)` in [0, 1] and "shown"
                `(batch, classes - 1)`.

        Returns:
            As `synthesis`.
        """
        conditioning = self.conditioning(seed) if conditioning is None else conditioning
        if self.mask_generator is not None and mask is None:
            mask = self.masks(seed, psi, conditioning)
        attributes = self._attributes(self.generator, conditioning, mask)
        return self._parts(draw_items(self.generator, seed, psi, self._condition(mask), attributes), mask)

    def masks(self, seed, psi, conditioning: dict | None = None):
        """Return the label maps, uint8 `(batch, height, width)`, that a `cond` bundle draws for `sample`."""
        if self.mask_generator is None:
            raise ValueError(f"a {self.info.variant} bundle has no mask generator")
        conditioning = self.conditioning(seed) if conditioning is None else conditioning
        attributes = self._attributes(self.mask_generator, conditioning, None)
        channels = draw_items(self.mask_generator, seed, psi, attributes=attributes)
        return split_channels(channels, image_channels=0, mask_classes=self.mask_generator.classes)["mask"]

    def conditioning(self, seed) -> dict | None:
        """Return the conditioning of items by their seeds, as `sample` takes it; None where no generator has any."""
        table = self.info.attributes
        if not self.is_conditional or table is None:
            return None
        return item_attributes(seed, table, classes=self.generator.classes)

    def template_index(self, seed):
        """Return int32 `(batch,)`: which of `info.templates` brings an item to source units."""
        return item_number(seed, stream=TEMPLATE_STREAM, below=len(self.info.templates))

    def _attributes(self, generator: SliceGenerator, conditioning: dict | None, mask):
        if not generator.attribute_dim or conditioning is None:
            return None
        given = generator.variant == "cond"
        return generator.attributes(
            conditioning["position"], shown_classes(mask, generator.classes) if given else conditioning["shown"]
        )

    def _condition(self, mask):
        if self.generator.variant != "cond":
            return None
        if mask is None:
            raise ValueError("a cond generator without a mask generator needs a mask")
        return one_hot_mask(mask, self.generator.classes)

    def _parts(self, channels, mask) -> dict:
        parts = split_channels(
            channels, image_channels=self.generator.image_channels, mask_classes=self.generator.mask_classes
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
    models = [generator]
    if run.options.variant == "cond":
        mask_generator, _ = _load_generator(Run.open(run.mask_generator))
        models.append(mask_generator)
    data = run.data
    if data.attributes is None and any(model.attribute_dim for model in models):
        raise UserError(f"{run.path / 'run.json'} has no table of what training slices show: train the run again")
    model_hash = _weights_hash(models)
    info = GeneratorInfo(
        # The folder's name may tell of people, and the model's is in all that it draws.
        name=f"{run.options.variant}-{model_hash[:8]}",
        variant=run.options.variant,
        size=data.size,
        channels=() if run.options.variant == "mask" else data.channels,
        classes=data.classes,
        z_dim=generator.z_dim,
        templates=data.templates,
        training_patients=_training_patients(run),
        kimg=kimg,
        model_hash=model_hash,
        version=run.content.synthmed,
        dataset=data.dataset,
        licence=data.licence,
        options=run.options.model_dump(mode="json"),
        conditioning=tuple(
            name
            for name, option in (("position", "position"), ("shown", "class_presence"))
            if all(getattr(model, option) for model in models)
        ),
        attributes=data.attributes,
        audit=read_verdict(run.path, model_hash),
        evaluation=read_evaluation_summary(run.path / EVALUATION_FILE, model_hash),
    )
    return GeneratorBundle(info, generator, mask_generator, run=run.path)


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
