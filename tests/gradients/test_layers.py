"""Every layer and network against finite differences; one without a case fails."""

import inspect
from dataclasses import dataclass, field

import keras
import pytest

PACKAGES = ("synthmed.layers", "synthmed.models")

IMAGE = (2, 6, 4, 3)
TINY = {"w_dim": 4, "channel_base": 32, "channel_max": 16}
GENERATOR = {"size": (32, 32), "channels": 1, "classes": 2, "z_dim": 4, "mapping_layers": 2, **TINY}


@dataclass(frozen=True)
class Case:
    """One layer and its inputs.

    Attributes:
        name: "module.Class" below synthmed.
        arguments: Of the constructor.
        shapes: Of the inputs; a list in the list is an input that is a list of tensors.
        order: 2 where R1 or path length passes through it, else 1.
        precision: Name of the constructor's argument that takes the number format.
        note: What sets it apart from other cases of the same class.
        keywords: Of the call.
    """

    name: str
    arguments: dict
    shapes: list
    order: int = 2
    precision: str = "dtype"
    note: str = ""
    keywords: dict = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name.split(".")[-1] + (f"-{self.note}" if self.note else "")


NOISE = [(2, side, side, 1) for side in (4, 8, 8, 16, 16, 32, 32)]
CASES = [
    Case("layers.equalized.EqualizedDense", {"units": 3, "learning_rate_multiplier": 0.5}, [(2, 5)], note="linear"),
    Case("layers.equalized.EqualizedDense", {"units": 3, "activate": True}, [(2, 5)], note="activated"),
    Case("layers.discriminator_block.DiscriminatorBlock", {"filters": 4}, [IMAGE]),
    Case("layers.equalized.EqualizedConv2D", {"filters": 4, "gain": 0.7}, [IMAGE], note="linear"),
    Case("layers.equalized.EqualizedConv2D", {"filters": 4, "activate": True}, [IMAGE], note="activated"),
    Case(
        "layers.equalized.EqualizedConv2D",
        {"filters": 4, "activate": True, "downsample": True},
        [IMAGE],
        note="downsampling",
    ),
    Case(
        "layers.equalized.EqualizedConv2D",
        {"filters": 4, "kernel_size": 1, "use_bias": False},
        [IMAGE],
        note="1x1",
    ),
    Case("layers.fir.FIRBlur", {"padding": (2, 1)}, [IMAGE]),
    Case("layers.fir.FIRDownsample", {}, [IMAGE]),
    Case("layers.fir.FIRUpsample", {}, [IMAGE]),
    Case("layers.styled_conv.MaskInjection", {"gain": 2.0}, [IMAGE, (2, 6, 4, 2)], note="adding"),
    Case(
        "layers.styled_conv.MaskInjection",
        {"modulate": True, "gain": 2.0},
        [IMAGE, (2, 6, 4, 2)],
        note="modulating",
    ),
    Case("layers.discriminator_block.MinibatchStddev", {"group_size": 2}, [(4, 3, 2, 3)]),
    Case("layers.modulated_conv.ModulatedConv2D", {"filters": 4, "gain": 1.4}, [IMAGE, (2, 3)], note="demodulated"),
    Case("layers.modulated_conv.ModulatedConv2D", {"filters": 4, "upsample": True}, [IMAGE, (2, 3)], note="upsampling"),
    Case(
        "layers.modulated_conv.ModulatedConv2D",
        {"filters": 4, "kernel_size": 1, "demodulate": False},
        [IMAGE, (2, 3)],
        note="1x1",
    ),
    Case("layers.styled_conv.NoiseInjection", {"gain": 2.0}, [IMAGE, (2, 6, 4, 1)]),
    Case("layers.styled_conv.StyledConv2D", {"filters": 4}, [IMAGE, (2, 5), (2, 6, 4, 1)], note="plain"),
    Case(
        "layers.styled_conv.StyledConv2D",
        {"filters": 4, "upsample": True, "injection": "concatenate"},
        [IMAGE, (2, 5), (2, 12, 8, 1), (2, 12, 8, 2)],
        note="upsampling-mask",
    ),
    Case(
        "layers.styled_conv.StyledConv2D",
        {"filters": 4, "injection": "modulate"},
        [IMAGE, (2, 5), (2, 6, 4, 1), (2, 6, 4, 2)],
        note="modulating-mask",
    ),
    Case("models.mapping.MappingNetwork", {"w_dim": 4, "layers": 2}, [(3, 5)]),
    Case(
        "models.mapping.MappingNetwork",
        {"w_dim": 4, "layers": 1, "attributes": 3},
        [(3, 5), (3, 3)],
        note="conditioned",
    ),
    Case("models.synthesis.ToChannels", {"channels": 2}, [IMAGE, (2, 5)]),
    Case(
        "models.synthesis.SynthesisNetwork",
        {"size": (32, 32), "image_channels": 1, "mask_classes": 2, "condition_classes": 0} | TINY,
        [(2, 8, 4), NOISE],
    ),
    # It passes a given mask through a synthesis network, too.
    Case(
        "models.generators.SliceGenerator",
        GENERATOR | {"variant": "cond"},
        [(2, 4), NOISE, (2, 32, 32, 2)],
        precision="precision",
    ),
    Case(
        "models.discriminator.SliceDiscriminator",
        {"size": (32, 32), "channels": 2, "channel_base": 32, "channel_max": 16, "group_size": 2},
        [(2, 32, 32, 2)],
        precision="precision",
    ),
    Case(
        "models.discriminator.SliceDiscriminator",
        {"size": (32, 32), "channels": 1, "channel_base": 32, "channel_max": 16, "group_size": 2, "attributes": 3},
        [(2, 32, 32, 1), (2, 3)],
        precision="precision",
        note="conditioned",
    ),
    # No regulariser passes through the U-Net.
    Case(
        "models.unet.DeepSupervision",
        {"classes": 2, "count": 2},
        [[(2, 4, 6, 3), (2, 2, 3, 4)]],
        order=1,
        # Rows and columns of slices whose lower levels have these inputs, one row and column of padding included.
        keywords={"size": (7, 11)},
    ),
    Case("models.unet.InstanceNormalization", {}, [IMAGE], order=1),
    Case("models.unet.ConvolutionBlock", {"filters": 3}, [IMAGE], order=1),
    Case("models.unet.UNet", {"classes": 2, "width": 3, "levels": 3}, [(2, 10, 12, 1)], order=1),
]


def test_every_layer_has_a_case(public_objects):
    """A user would train through a layer whose gradient nobody has checked."""
    found = {
        name
        for name, value in public_objects(*PACKAGES).items()
        if inspect.isclass(value) and issubclass(value, keras.layers.Layer)
    }
    assert len(found) >= 15, "the search for layers finds too few"
    missing = sorted(found - {case.name for case in CASES})
    assert missing == [], f"add a Case for each of these to CASES in {__file__}: {', '.join(missing)}"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_equal_finite_differences(case, differences, public_objects):
    """A user would train with wrong gradients and see only that the samples are bad."""
    layer = public_objects(*PACKAGES)[case.name](**case.arguments, **{case.precision: "float64"})
    inputs = [differences.normal(shape) for shape in case.shapes]
    layer(*inputs, **case.keywords)
    differences.scramble(layer)
    groups = {f"input {number}": one if isinstance(one, list) else [one] for number, one in enumerate(inputs)}
    penalised = [variable for group in groups.values() for variable in group]
    if layer.trainable_weights:
        groups["weights"] = [weight.value for weight in layer.trainable_weights]

    def outputs():
        return layer(*inputs, **case.keywords)

    differences.first_order(outputs, groups)
    if case.order == 2:
        differences.second_order(outputs, groups, penalised)
