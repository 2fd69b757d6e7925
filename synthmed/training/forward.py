"""The forward half of a training step: what is drawn, what the discriminator is shown, and what both are charged.

All of it is `keras.ops`. A backend adds random numbers, gradients and compilation; see `tensorflow_engine`.
"""

from typing import Any, NamedTuple

from keras import ops

from synthmed.training import losses
from synthmed.training.augmentation import augment, sign_mean
from synthmed.training.drawing import Draw, mixed_styles
from synthmed.training.networks import Networks, hide_masks, judged_planes, one_hot_mask, real_planes
from synthmed.training.options import TrainOptions


class Slices(NamedTuple):
    """A batch of real slices.

    Attributes:
        image: `(batch, height, width, channels)` in [-1, 1].
        mask: One-hot planes `(batch, height, width, classes)` in [-1, 1].
        attributes: `(batch, attribute_dim)`, or None where the networks are told none.
        labelled: `(batch,)`, 1 where the label map is known and 0 where not; None where all are.
    """

    image: Any
    mask: Any
    attributes: Any = None
    labelled: Any = None


class Chance(NamedTuple):
    """The random numbers with which one batch is augmented: uniform ones, and normal ones where noise is added."""

    uniform: Any
    normal: Any = None


class Verdicts(NamedTuple):
    """What one forward pass of both networks comes to; the losses and the mean w are for the backend to use."""

    generator_loss: Any
    discriminator_loss: Any
    mean_w: Any
    report: dict[str, Any]


class ForwardPass:
    """The forward passes of a run's networks.

    Args:
        networks: Generator and discriminator.
        options: Resolved options.
    """

    def __init__(self, networks: Networks, options: TrainOptions):
        self.generator = networks.generator
        self.discriminator = networks.discriminator
        self.options = options

    def slices(self, batch: dict[str, Any]) -> Slices:
        """Return a batch of the data pipeline as planes and attributes."""
        mask = one_hot_mask(batch["label"], self.generator.classes)
        attributes = self.generator.attributes(batch.get("position"), batch.get("shown"))
        return Slices(batch["image"], mask, attributes, batch.get("labelled"))

    def condition(self, slices: Slices):
        """Return the mask that the generator is given; None but for `cond`."""
        return slices.mask if self.generator.variant == "cond" else None

    def real(self, slices: Slices):
        """Return the planes of real slices, `(batch, height, width, planes)`."""
        return real_planes(
            slices.image, slices.mask, variant=self.generator.variant, representation=self.options.mask_planes
        )

    def fake(self, draw: Draw, slices: Slices):
        """Return the planes of generated slices, as the discriminator takes them, and the mean w."""
        styles, mean_w = mixed_styles(self.generator, draw, slices.attributes)
        generated = self.generator.synthesis(styles, draw.noise, self.condition(slices))
        return judged_planes(generated, slices.mask, variant=self.generator.variant), mean_w

    def shown(self, planes, slices: Slices, probability, chance: Chance | None):
        """Return planes as the discriminator is shown them: unknown masks hidden, and augmented.

        Args:
            planes: Real or generated ones, `(batch, height, width, planes)`.
            slices: The real slices beside them: an unlabelled one hides the mask of both alike.
            probability: Of each augmentation.
            chance: The random numbers of the augmentations; None where there are none.
        """
        channels = self.generator.image_channels
        if slices.labelled is not None:
            planes = hide_masks(planes, slices.labelled, image_channels=channels)
        if chance is None:
            return planes
        return augment(
            planes,
            image_planes=channels,
            operations=self.options.augment_operations or (),
            probability=probability,
            numbers=chance.uniform,
            noise=chance.normal,
        )

    def verdicts(self, draw: Draw, slices: Slices, probability, chances: list[Chance | None]) -> Verdicts:
        """Draw a batch, show it and the real one to the discriminator, and return what both networks are charged.

        Args:
            draw: Random numbers of the generated batch.
            slices: The real batch.
            probability: Of each augmentation.
            chances: Of the generated, the real and the mismatched planes.
        """
        options = self.options
        fake, mean_w = self.fake(draw, slices)
        real = self.real(slices)
        fake_logits = self.discriminator(self.shown(fake, slices, probability, chances[0]), slices.attributes)
        real_logits = self.discriminator(self.shown(real, slices, probability, chances[1]), slices.attributes)
        if options.loss == "relativistic":
            # Only differences of logits mean anything here.
            ahead = real_logits - fake_logits
            generator_loss = losses.relativistic_generator_loss(real_logits, fake_logits)
            discriminator_loss = losses.relativistic_discriminator_loss(real_logits, fake_logits)
        else:
            ahead = real_logits
            generator_loss = losses.generator_loss(fake_logits)
            discriminator_loss = losses.discriminator_loss(real_logits, fake_logits)
        report = {
            "loss_generator": generator_loss,
            "loss_discriminator": discriminator_loss,
            "logit_real": ops.mean(real_logits),
            "logit_fake": ops.mean(fake_logits),
            "sign_real": sign_mean(ahead),
        }
        if options.mismatched and self.generator.variant == "cond":
            mismatch = self._mismatch(slices, probability, chances[2])
            report["loss_mismatched"] = mismatch
            discriminator_loss = discriminator_loss + options.mismatched * mismatch
        return Verdicts(generator_loss, discriminator_loss, mean_w, report)

    def _mismatch(self, slices: Slices, probability, chance: Chance | None):
        """Charge the discriminator for real images that it takes for those of the next slice's mask."""
        other = slices._replace(mask=ops.roll(slices.mask, 1, axis=0))
        differs = ops.cast(ops.any(ops.not_equal(other.mask, slices.mask), axis=(1, 2, 3)), "float32")
        planes = self.shown(self.real(other), slices, probability, chance)
        return losses.mismatch_loss(self.discriminator(planes, slices.attributes), differs)
