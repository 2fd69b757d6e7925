"""The adversarial training of StyleGAN2 (arXiv:1912.04958), all of its step: losses, R1, path lengths, ADA, EMA.

A step is one forward pass of both networks over the same generated batch, from which both are updated: the usual
alternation draws and classifies a second batch for the same information. Every `path_every` steps the generator is
regularised by its path lengths, every `r1_every` the discriminator by its gradients, each as a step of the same
optimiser. The averaged generator, which draws, follows.

All of it is `keras.ops`; gradients, random numbers and replicas are the engine's (`engine.Engine`).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import ops

from synthmed.models.generators import SliceGenerator, draw_items
from synthmed.training.augmentation import augment, noise_shape, numbers_shape
from synthmed.training.engine import Engine, Key, Method, Phase, Report
from synthmed.training.networks import (
    Networks,
    generated_channels,
    hide_masks,
    make_networks,
    one_hot_mask,
    real_channels,
    split_channels,
)
from synthmed.training.options import ResolvedOptions

Grad = Callable[[Callable[[Any], Any], Any], Any]

# The phases, each with random numbers of its own, and the streams of a phase: latent codes, noise maps, what path
# lengths are measured along, augmentations.
MAIN, PATH, PENALTY = 0, 1, 2
Z, MIXES, CUT, Z_MIXED, NOISE, DIRECTIONS, AUGMENTATION = 0, 1, 2, 3, 4, 255, 256

# The sign of D(real) is averaged over about ten batches: that of one batch is mostly chance.
SIGN_DECAY = 0.9
MOST_AUGMENTED = 0.8
"""The practical limit of arXiv:2006.06676: with more, augmentation may leak into generated images."""


# Losses.


def generator_loss(fake_logits):
    """Non-saturating logistic loss of the generator (Goodfellow et al. 2014): mean of softplus(-D(G(z)))."""
    return ops.mean(ops.softplus(-fake_logits))


def discriminator_loss(real_logits, fake_logits):
    """Logistic loss of the discriminator: mean of softplus(-D(x)) plus mean of softplus(D(G(z)))."""
    return ops.mean(ops.softplus(-real_logits)) + ops.mean(ops.softplus(fake_logits))


def relativistic_generator_loss(real_logits, fake_logits):
    """Relativistic pairing loss of the generator (arXiv:2501.05441, equation 2): mean of softplus(D(x) - D(G(z))).

    Each generated slice is compared with a real one, so that no mode of the data can be dropped for free.
    """
    return ops.mean(ops.softplus(real_logits - fake_logits))


def relativistic_discriminator_loss(real_logits, fake_logits):
    """Relativistic pairing loss of the discriminator: mean of softplus(D(G(z)) - D(x))."""
    return ops.mean(ops.softplus(fake_logits - real_logits))


def mismatch_loss(logits, differs):
    """Return the mean of softplus(D) over real images with another slice's mask.

    Args:
        logits: `(batch,)`.
        differs: `(batch,)`, 1 where the masks differ at all; a slice with an equal mask is not a mismatch.
    """
    return ops.sum(ops.softplus(logits) * differs) / ops.maximum(ops.sum(differs), 1.0)


# Regularisers.


def gradient_penalty(grad: Grad, discriminator: Callable[[Any], Any], slices, gamma: float):
    """Return gamma / 2 times the mean squared gradient norm of the discriminator at slices.

    R1 (Mescheder et al. 2018, arXiv:1801.04406) at real ones; at generated ones R2.

    Args:
        grad: Takes a scalar function and its input, and returns the gradient.
        discriminator: From slices to logits `(batch,)`.
        slices: `(batch, height, width, channels)`; no gradient flows into them.
        gamma: Weight of the penalty.
    """
    return squared_norm(grad(lambda at: ops.sum(discriminator(at)), slices), gamma)


def squared_norm(gradients, gamma: float):
    """Return gamma / 2 times the mean squared norm of `(batch, height, width, channels)` gradients."""
    return 0.5 * gamma * ops.mean(ops.sum(ops.square(gradients), axis=(1, 2, 3)))


def path_lengths(grad: Grad, synthesis: Callable[[Any], Any], styles, directions):
    """Return `(batch,)` path lengths |J^T y| (arXiv:1912.04958, section 3.2).

    Args:
        grad: Takes a scalar function and its input, and returns the gradient.
        synthesis: From styles to slices.
        styles: `(batch, num_ws, w_dim)`.
        directions: y, see `path_directions`.
    """
    return lengths_of(grad(lambda at: ops.sum(synthesis(at) * directions), styles))


def lengths_of(gradients):
    """Return `(batch,)` lengths of gradients `(batch, num_ws, w_dim)` with respect to the styles."""
    return ops.sqrt(ops.mean(ops.sum(ops.square(gradients), axis=2), axis=1) + 1e-12)


def path_directions(noise):
    """Scale standard normal `(batch, height, width, channels)` so that lengths do not depend on the image size."""
    return noise / math.sqrt(noise.shape[1] * noise.shape[2])


def path_penalty(lengths, mean):
    """Return the mean squared distance of path lengths to their running mean."""
    return ops.mean(ops.square(lengths - mean))


def lazy_adam(learning_rate: float, every: int) -> dict[str, float]:
    """Return Adam's settings where a regulariser adds a step every `every` steps (arXiv:1912.04958, appendix B).

    Learning rate and betas are rescaled so that `every` + 1 steps do what `every` steps did without it; 0 for none.
    """
    ratio = (every or 10**9) / ((every or 10**9) + 1)
    return {"learning_rate": learning_rate * ratio, "beta_1": 0.0**ratio, "beta_2": 0.99**ratio, "epsilon": 1e-8}


# Adaptive augmentation and the average.


def sign_mean(logits):
    """Return r_t, the mean sign of the discriminator's logits of (augmented) real samples: -1 to 1, a scalar."""
    return ops.mean(ops.sign(logits))


def adjust(probability, mean, *, target: float, images, kimg: float, maximum: float = MOST_AUGMENTED):
    """Return the next probability of augmentation (ADA, arXiv:2006.06676, section 3.1), a scalar in [0, `maximum`].

    It moves by one step towards the target's side, by as much as takes it from 0 to 1 in `kimg` thousand images.

    Args:
        probability: The present one, a scalar tensor (the value of a `keras.Variable`) or a float; its number format
            is that of the result.
        mean: r_t, averaged over the batches since the last call; one batch alone swings too far.
        target: Mean sign to aim at; more means that the discriminator knows real slices too well. The paper's is 0.6.
        images: Real images seen since the last call.
        kimg: Thousand images from 0 to 1; 500 in the paper, for runs of 25,000. Short runs need less.
        maximum: Where to stop.
    """
    probability = ops.convert_to_tensor(probability)
    step = ops.cast(images, probability.dtype) / (kimg * 1000.0)
    direction = ops.cast(ops.sign(ops.convert_to_tensor(mean) - target), probability.dtype)
    return ops.clip(probability + direction * step, 0.0, maximum)


def ema_decay(*, batch: int, images_seen: int, ema_kimg: float, rampup: float) -> float:
    """Return the decay of the averaged generator: its half-life is `ema_kimg`, less at the start.

    Args:
        batch: Images a step.
        images_seen: Real images so far.
        ema_kimg: Half-life in thousand images.
        rampup: The half-life is at most this share of the images seen.
    """
    half_life = min(ema_kimg * 1000.0, images_seen * rampup)
    return 0.5 ** (batch / max(half_life, 1e-8))


# The step.


class Latents(NamedTuple):
    """The random numbers of one generated batch.

    Attributes:
        z: `(batch, z_dim)` standard normal.
        z_mixed: `(batch, z_dim)` standard normal, for style mixing.
        cut: `(batch,)` int32, the layer from which on the mixed style is used; `num_ws` where there is no mixing.
        noise: List of `(batch, height, width, 1)` standard normal.
    """

    z: Any
    z_mixed: Any
    cut: Any
    noise: list[Any]


class AugmentNoise(NamedTuple):
    """The random numbers with which one batch is augmented: uniform ones, and normal ones where noise is added."""

    uniform: Any
    normal: Any = None


class Slices(NamedTuple):
    """A replica's share of a batch of real slices.

    Attributes:
        image: `(batch, height, width, channels)` in [-1, 1].
        mask: One-hot channels `(batch, height, width, classes)` in [-1, 1].
        attributes: `(batch, attribute_dim)` conditioning; None without any.
        labelled: `(batch,)`, 1 where the label map is known and 0 where not; None where all are.
    """

    image: Any
    mask: Any
    attributes: Any = None
    labelled: Any = None


def mixed_styles(generator: SliceGenerator, latents: Latents, attributes=None):
    """Return `(batch, num_ws, w_dim)` styles with style mixing (arXiv:1812.04948, section 3.1), and the mean w.

    Args:
        generator: Any of the three variants.
        latents: The random numbers.
        attributes: `(batch, attribute_dim)` conditioning, where the generator takes any.
    """
    twice = None if attributes is None else ops.concatenate([attributes, attributes], axis=0)
    w = generator.mapping(ops.concatenate([latents.z, latents.z_mixed], axis=0), twice)
    first, second = ops.split(w, 2, axis=0)
    before = ops.arange(generator.num_ws, dtype="int32")[None, :, None] < latents.cut[:, None, None]
    styles = ops.where(before, generator.broadcast(first), generator.broadcast(second))
    return styles, ops.mean(ops.stop_gradient(w), axis=0)


class Adversarial(Method):
    """The step of a generator and a discriminator.

    Args:
        networks: Generator, its average, and discriminator.
        options: Options of the run.
    """

    def __init__(self, networks: Networks, options: ResolvedOptions):
        self.options = options
        self.generator, self.discriminator = networks.generator, networks.discriminator
        self.networks = {"generator": self.generator, "average": networks.average, "discriminator": self.discriminator}
        path_every = options.path_every if options.path_weight else 0
        penalty_every = options.r1_every if options.r1_gamma else 0
        self.adam = {
            "generator": lazy_adam(options.learning_rate, path_every),
            "discriminator": lazy_adam(options.learning_rate, penalty_every),
        }
        self.path_mean = _scalar("path_mean")
        self.probability = _scalar("augment_probability", 1.0 if options.augment == "diff" else 0.0)
        self.sign_mean = _scalar("sign_mean")
        self.scalars = (self.path_mean, self.probability, self.sign_mean)
        self.phases = {
            "main": Phase(1, self.main, self.settle_main),
            "path": Phase(path_every, self.path, self.settle_path),
            "penalty": Phase(penalty_every, self.penalty),
        }

    @classmethod
    def build(cls, options: ResolvedOptions, *, size: tuple[int, int], channels: int, classes: int) -> "Adversarial":
        """Make the networks anew, and the step that trains them."""
        return cls(make_networks(options, size=size, channels=channels, classes=classes), options)

    def main(self, engine: Engine, batch: dict[str, Any], number: Any) -> Report:
        """Update both networks from one forward pass."""
        options = self.options
        slices = self._slices(engine, batch)
        latents = self._latents(engine, number, MAIN, options.batch)
        noises = [self._augment_noise(engine, number, MAIN, place) for place in range(3)]

        def losses() -> tuple[dict[str, Any], tuple[Any, Report]]:
            fake, mean_w = self._fake(latents, slices)
            real = self._real(slices)
            fake_logits = self.discriminator(self._augmented(fake, slices, noises[0]), slices.attributes)
            real_logits = self.discriminator(self._augmented(real, slices, noises[1]), slices.attributes)
            if options.loss == "relativistic":
                # Only differences of logits mean anything here.
                ahead = real_logits - fake_logits
                loss = relativistic_generator_loss(real_logits, fake_logits)
                loss_discriminator = relativistic_discriminator_loss(real_logits, fake_logits)
            else:
                ahead = real_logits
                loss = generator_loss(fake_logits)
                loss_discriminator = discriminator_loss(real_logits, fake_logits)
            report = {
                "loss_generator": loss,
                "loss_discriminator": loss_discriminator,
                "logit_real": ops.mean(real_logits),
                "logit_fake": ops.mean(fake_logits),
                "sign_real": sign_mean(ahead),
            }
            if options.mismatched and self.generator.variant == "cond":
                report["loss_mismatched"] = self._mismatch(slices, noises[2])
                loss_discriminator = loss_discriminator + options.mismatched * report["loss_mismatched"]
            return {"generator": loss, "discriminator": loss_discriminator}, (mean_w, report)

        # Both gradients before either update: they belong to the same weights.
        gradients, (mean_w, report) = engine.gradients(losses)
        for name in ("generator", "discriminator"):
            engine.update(name, gradients[name])
        return report | {"mean_w": mean_w}

    def settle_main(self, report: Report) -> Report:
        """Track the mean w, and move the probability of augmentation by ADA."""
        options, report = self.options, dict(report)
        self.generator.mapping.track_average(report.pop("mean_w"))
        if options.augment == "ada":
            self.sign_mean.assign(SIGN_DECAY * self.sign_mean + (1.0 - SIGN_DECAY) * report["sign_real"])
            moved = adjust(
                self.probability.value,
                self.sign_mean.value,
                target=options.augment_target,
                images=options.batch,
                kimg=options.augment_kimg,
            )
            self.probability.assign(moved)
            # Values, not variables: those move on before the report is read.
            report["augment_probability"] = ops.copy(self.probability.value)
            report["augment_sign"] = ops.copy(self.sign_mean.value)
        return report

    def path(self, engine: Engine, batch: dict[str, Any], number: Any) -> Report:
        """Regularise the generator's path lengths."""
        generator, options = self.generator, self.options
        slices = self._slices(engine, {name: value[: options.path_batch] for name, value in batch.items()})
        condition = self._condition(slices)
        latents = self._latents(engine, number, PATH, options.path_batch)
        shape = (options.path_batch, *generator.size, generator.image_channels + generator.mask_classes)
        directions = path_directions(engine.share(engine.normal(shape, Key(number, PATH, DIRECTIONS))))

        def losses() -> tuple[dict[str, Any], Report]:
            styles, _ = mixed_styles(generator, latents, slices.attributes)
            lengths = path_lengths(
                engine.gradient,
                lambda at: generator.synthesis(at, latents.noise, condition),
                styles,
                directions,
            )
            mean = self.path_mean + options.path_decay * (engine.mean(lengths) - self.path_mean)
            # The mean is a target: no gradient flows through it.
            penalty = path_penalty(lengths, ops.stop_gradient(mean))
            report = {"path_length": ops.mean(lengths), "path_penalty": penalty, "path_mean": mean}
            return {"generator": penalty * (options.path_weight * options.path_every)}, report

        gradients, report = engine.gradients(losses)
        engine.update("generator", gradients["generator"])
        return report

    def settle_path(self, report: Report) -> Report:
        """Remember the mean path length."""
        self.path_mean.assign(report["path_mean"])
        return {name: value for name, value in report.items() if name != "path_mean"}

    def penalty(self, engine: Engine, batch: dict[str, Any], number: Any) -> Report:
        """Penalise the discriminator's gradients: R1 at real slices, for the relativistic loss R2 at generated ones."""
        options = self.options
        slices = self._slices(engine, batch)
        inputs = {"r1_penalty": self._real(slices)}
        if options.loss == "relativistic":
            inputs["r2_penalty"], _ = self._fake(self._latents(engine, number, PENALTY, options.batch), slices)
        for place, (name, channels) in enumerate(inputs.items()):
            noise = self._augment_noise(engine, number, PENALTY, place)
            inputs[name] = ops.stop_gradient(self._augmented(channels, slices, noise))

        def losses() -> tuple[dict[str, Any], Report]:
            penalties = {
                name: gradient_penalty(
                    engine.gradient, lambda at: self.discriminator(at, slices.attributes), channels, options.r1_gamma
                )
                for name, channels in inputs.items()
            }
            return {"discriminator": sum(penalties.values()) * float(options.r1_every)}, penalties

        gradients, report = engine.gradients(losses)
        engine.update("discriminator", gradients["discriminator"])
        return report

    def decay(self, number: int) -> float:
        """Return the decay of the averaged generator at a step."""
        options = self.options
        return ema_decay(
            batch=options.batch,
            images_seen=(number + 1) * options.batch,
            ema_kimg=options.ema_kimg,
            rampup=options.ema_rampup,
        )

    def draw(self, seeds: Any, psi: Any, batch: dict[str, Any]) -> dict[str, Any]:
        """Draw from the averaged generator; see `Method.draw`."""
        network = self.networks["average"]
        mask = one_hot_mask(batch["label"], network.classes) if network.variant == "cond" else None
        attributes = network.attributes(batch.get("position"), batch.get("class_presence"))
        channels = draw_items(network, seeds, psi, mask, attributes)
        return split_channels(channels, image_channels=network.image_channels, mask_classes=network.mask_classes)

    def _slices(self, engine: Engine, batch: dict[str, Any]) -> Slices:
        """Return this replica's share of a batch as channels and attributes."""
        batch = {name: engine.share(value) for name, value in batch.items()}
        mask = one_hot_mask(batch["label"], self.generator.classes)
        attributes = self.generator.attributes(batch.get("position"), batch.get("class_presence"))
        return Slices(batch["image"], mask, attributes, batch.get("labelled"))

    def _condition(self, slices: Slices):
        """Return the mask that the generator is given; None but for `cond`."""
        return slices.mask if self.generator.variant == "cond" else None

    def _real(self, slices: Slices):
        """Return real slices as the discriminator takes them, `(batch, height, width, channels)`."""
        variant, representation = self.generator.variant, self.options.mask_channels
        return real_channels(slices.image, slices.mask, variant=variant, representation=representation)

    def _fake(self, latents: Latents, slices: Slices):
        """Return generated slices as the discriminator takes them, and the mean w."""
        styles, mean_w = mixed_styles(self.generator, latents, slices.attributes)
        generated = self.generator.synthesis(styles, latents.noise, self._condition(slices))
        return generated_channels(generated, slices.mask, variant=self.generator.variant), mean_w

    def _augmented(self, channels, slices: Slices, noise: AugmentNoise | None):
        """Return real or generated slices with unknown masks hidden, and augmented where there is `noise` for it.

        An unlabelled slice hides the mask of the real and of the generated one beside it alike.
        """
        image_channels = self.generator.image_channels
        if slices.labelled is not None:
            channels = hide_masks(channels, slices.labelled, image_channels=image_channels)
        if noise is None:
            return channels
        return augment(
            channels,
            image_channels=image_channels,
            operations=self.options.augment_operations,
            probability=self.probability.value,
            numbers=noise.uniform,
            noise=noise.normal,
        )

    def _mismatch(self, slices: Slices, noise: AugmentNoise | None):
        """Charge the discriminator for real images that it takes for those of the next slice's mask."""
        other = slices._replace(mask=ops.roll(slices.mask, 1, axis=0))
        differs = ops.cast(ops.any(ops.not_equal(other.mask, slices.mask), axis=(1, 2, 3)), "float32")
        channels = self._augmented(self._real(other), slices, noise)
        return mismatch_loss(self.discriminator(channels, slices.attributes), differs)

    def _latents(self, engine: Engine, number: Any, phase: int, batch: int) -> Latents:
        """Return this replica's random numbers of a generated batch of `batch` slices of all replicas."""
        generator = self.generator

        def normal(shape: tuple[int, ...], stream: int) -> Any:
            return engine.share(engine.normal((batch, *shape), Key(number, phase, stream)))

        z, z_mixed = (normal((generator.z_dim,), stream) for stream in (Z, Z_MIXED))
        mixes = engine.uniform((batch,), Key(number, phase, MIXES)) < self.options.style_mixing
        cut = engine.integers((batch,), Key(number, phase, CUT), low=1, high=generator.num_ws)
        noise = [normal((*size, 1), NOISE + layer) for layer, size in enumerate(generator.noise_sizes)]
        return Latents(z, z_mixed, engine.share(ops.where(mixes, cut, generator.num_ws)), noise)

    def _augment_noise(self, engine: Engine, number: Any, phase: int, place: int) -> AugmentNoise | None:
        """Return the random numbers that augment a phase's batch number `place`; None where nothing is augmented."""
        batch, operations = self.options.batch, self.options.augment_operations
        if not operations:
            return None
        key = Key(number, phase, AUGMENTATION + 2 * place)
        uniform = engine.share(engine.uniform(numbers_shape(batch), key))
        if "noise" not in operations:
            return AugmentNoise(uniform)
        shape = noise_shape(batch, *self.generator.size, self.generator.image_channels)
        return AugmentNoise(uniform, engine.share(engine.normal(shape, key._replace(stream=key.stream + 1))))


def _scalar(name: str, value: float = 0.0) -> keras.Variable:
    return keras.Variable(value, trainable=False, name=name, dtype="float32")
