"""The three generators of the paper: `base`, `mask` and `cond`."""

import keras
from keras import ops

from synthmed.layers.precision import at_least_float32
from synthmed.models.attributes import attribute_size, attribute_vector
from synthmed.models.mapping import MappingNetwork
from synthmed.models.synthesis import SynthesisNetwork

VARIANTS = ("base", "mask", "cond")


@keras.saving.register_keras_serializable(package="synthmed")
class SliceGenerator(keras.Model):
    """A StyleGAN2 generator of slices: mapping network and synthesis network (arXiv:1912.04958).

    Which of the paper's three generators it is follows from the variant (arXiv:2503.00962): `base` draws image and
    mask together as planes of one image, `mask` draws the mask alone, `cond` draws the image of a mask that is given.

    Args:
        variant: "base", "mask" or "cond".
        size: (height, width) of a slice.
        channels: Number of image channels of the data set.
        classes: Number of classes of its masks, background included.
        z_dim: Length of the latent code z.
        w_dim: Length of the style code w.
        mapping_layers: Dense layers of the mapping network.
        channel_base: Feature channels at a level, times its longer side.
        channel_max: Most feature channels at any level.
        precision: Keras dtype policy of the synthesis network; outputs are float32 at least.
        injection: How the mask enters `cond`: "concatenate" or "modulate".
        position: Whether it is told where a slice lies along its case.
        shown: Whether it is told which classes a slice shows.

    Call arguments:
        z: `(batch, z_dim)`, standard normal.
        noise: List of `(batch, height, width, 1)`, see `noise_sizes`.
        condition: `(batch, height, width, classes)` one-hot mask in [-1, 1]; `cond` only.
        attributes: `(batch, attribute_dim)` as `attributes` returns them, where the generator is told any.

    Output shape: `(batch, height, width, planes)`: image planes, then mask planes in [-1, 1].
    """

    def __init__(
        self,
        *,
        variant: str,
        size: tuple[int, int],
        channels: int,
        classes: int,
        z_dim: int,
        w_dim: int,
        mapping_layers: int,
        channel_base: int,
        channel_max: int,
        precision: str = "float32",
        injection: str = "concatenate",
        position: bool = False,
        shown: bool = False,
        **kwargs,
    ):
        exact = at_least_float32(precision)
        super().__init__(dtype=exact, **kwargs)
        if variant not in VARIANTS:
            raise ValueError(f"variant must be one of {', '.join(VARIANTS)}, got {variant!r}")
        self.variant = variant
        self.size: tuple[int, int] = (size[0], size[1])
        self.channels = channels
        self.classes = classes
        self.z_dim = z_dim
        self.w_dim = w_dim
        self.mapping_layers = mapping_layers
        self.channel_base = channel_base
        self.channel_max = channel_max
        self.precision = precision
        self.injection = injection
        self.position = position
        self.shown = shown
        self.attribute_dim = attribute_size(position=position, shown=shown, classes=classes)
        self.image_channels = 0 if variant == "mask" else channels
        self.mask_classes = 0 if variant == "cond" else classes
        self.mapping = MappingNetwork(
            w_dim, layers=mapping_layers, attributes=self.attribute_dim, dtype=exact, name="mapping"
        )
        self.synthesis = SynthesisNetwork(
            self.size,
            image_channels=self.image_channels,
            mask_classes=self.mask_classes,
            condition_classes=classes if variant == "cond" else 0,
            injection=injection,
            w_dim=w_dim,
            channel_base=channel_base,
            channel_max=channel_max,
            dtype=precision,
            name="synthesis",
        )
        # Every shape is known from the arguments, so weights exist as soon as the model does.
        self.mapping.build((None, z_dim))
        self.synthesis.build((None, self.num_ws, w_dim))
        self.built = True

    @property
    def num_ws(self) -> int:
        """How many style codes one slice takes."""
        return self.synthesis.num_ws

    @property
    def noise_sizes(self) -> list[tuple[int, int]]:
        """(height, width) of each noise map."""
        return self.synthesis.noise_sizes

    def broadcast(self, w):
        """Give every layer the same style: `(batch, w_dim)` to `(batch, num_ws, w_dim)`."""
        return ops.repeat(w[:, None, :], self.num_ws, axis=1)

    def attributes(self, position, shown):
        """Return the attribute vector that this generator is told, or None where it is told nothing.

        Args:
            position: `(batch,)` in [0, 1].
            shown: `(batch, classes - 1)` in [0, 1].
        """
        if not self.attribute_dim:
            return None
        return attribute_vector(position if self.position else None, shown if self.shown else None)

    def call(self, z, noise, condition=None, attributes=None):
        return self.synthesis(self.broadcast(self.mapping(z, attributes)), noise, condition)

    def get_config(self):
        return {
            "name": self.name,
            "variant": self.variant,
            "size": list(self.size),
            "channels": self.channels,
            "classes": self.classes,
            "z_dim": self.z_dim,
            "w_dim": self.w_dim,
            "mapping_layers": self.mapping_layers,
            "channel_base": self.channel_base,
            "channel_max": self.channel_max,
            "precision": self.precision,
            "injection": self.injection,
            "position": self.position,
            "shown": self.shown,
        }
