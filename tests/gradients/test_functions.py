"""Every function that can lie on a differentiated path against finite differences; one without a case fails."""

import importlib
import inspect
import os
import sys

import keras
import numpy as np
import pytest
from keras import ops

from synthmed.layers import fir
from synthmed.training.augmentation import (
    ADA_OPERATIONS,
    AUGMENTATIONS,
    DIFF_OPERATIONS,
    augment,
    noise_shape,
    numbers_shape,
)

PACKAGES = ("synthmed.layers", "synthmed.models", "synthmed.training")

IMAGE = (2, 6, 4, 3)

# "module.function" below synthmed: calls with tensors of the given shapes. Several calls of one function are a list.
CASES = {
    "layers.fir.blur": [(lambda fir, x: fir.blur(x, padding=(2, 1)), [IMAGE])],
    "layers.fir.downsample": [(lambda fir, x: fir.downsample(x), [IMAGE])],
    "layers.fir.upsample": [(lambda fir, x: fir.upsample(x), [IMAGE])],
    "layers.modulated_conv.kernel_of_transpose": [(lambda conv, x: conv.kernel_of_transpose(x), [(3, 3, 2, 4)])],
    "models.synthesis.leaky_clip": [(lambda synthesis, x: synthesis.leaky_clip(x), [IMAGE])],
    "training.adversarial.mixed_styles": [(lambda step, z, other: styles_of(step, z, other), [(3, 4), (3, 4)])],
    "training.adversarial.generator_loss": [(lambda step, x: step.generator_loss(x), [(5,)])],
    "training.adversarial.discriminator_loss": [(lambda step, x, y: step.discriminator_loss(x, y), [(5,), (5,)])],
    "training.adversarial.relativistic_generator_loss": [
        (lambda step, x, y: step.relativistic_generator_loss(x, y), [(5,), (5,)])
    ],
    "training.adversarial.relativistic_discriminator_loss": [
        (lambda step, x, y: step.relativistic_discriminator_loss(x, y), [(5,), (5,)])
    ],
    "training.adversarial.mismatch_loss": [
        (lambda step, x: step.mismatch_loss(x, np.array([1.0, 0, 1, 1, 0])), [(5,)])
    ],
    "training.adversarial.gradient_penalty": [
        (lambda step, x: step.gradient_penalty(grad, lambda at: ops.sum(ops.sin(at), axis=(1, 2, 3)), x, 0.7), [IMAGE])
    ],
    "training.adversarial.path_lengths": [
        (lambda step, x, y: step.path_lengths(grad, ops.sin, x, y), [(3, 4, 5), (3, 4, 5)])
    ],
    "training.adversarial.squared_norm": [(lambda step, x: step.squared_norm(x, 0.7), [IMAGE])],
    "training.adversarial.lengths_of": [(lambda step, x: step.lengths_of(x), [(3, 4, 5)])],
    "training.adversarial.path_directions": [(lambda step, x: step.path_directions(x), [IMAGE])],
    "training.adversarial.path_penalty": [(lambda step, x: step.path_penalty(x, 0.3), [(5,)])],
    "training.networks.soften": [(lambda networks, x: networks.soften(x), [IMAGE])],
    "training.networks.real_channels": [
        (lambda networks, x, y: networks.real_channels(x, y, variant="base"), [IMAGE, (2, 6, 4, 2)]),
        (lambda networks, x, y: networks.real_channels(x, y, variant="cond"), [IMAGE, (2, 6, 4, 2)]),
        (lambda networks, y: networks.real_channels(None, y, variant="mask"), [(2, 6, 4, 2)]),
    ],
    "training.networks.hide_masks": [
        (lambda networks, x: networks.hide_masks(x, np.array([1.0, 0.0]), image_channels=1), [IMAGE])
    ],
    "training.networks.generated_channels": [
        (lambda networks, x, y: networks.generated_channels(x, y, variant="cond"), [IMAGE, (2, 6, 4, 2)]),
        (lambda networks, x: networks.generated_channels(x, None, variant="base"), [IMAGE]),
    ],
}

# What no gradient passes through, and why.
EXEMPT = {
    "layers.counter_random.bits": "integers",
    "layers.counter_random.normal": "follows from integers",
    "layers.counter_random.threefry2x32": "integers",
    "layers.counter_random.uniform": "follows from integers",
    "layers.counter_random.split_uint64": "integers",
    "layers.equalized.at_least_float32": "returns a name",
    "models.generators.attribute_size": "returns a number",
    "models.generators.attribute_vector": "conditioning is data",
    "models.generators.shown_classes": "its input is integers",
    "models.generators.draw_items": "draws samples; nothing is trained through it",
    "models.generators.first_stream": "returns a number",
    "models.generators.item_attributes": "drawn from a table by integers",
    "models.generators.item_latents": "follows from integers",
    "models.generators.item_noise": "follows from integers",
    "models.generators.item_number": "integers",
    "models.synthesis.make_pyramid": "plans sizes",
    "models.unet.coarse_labels": "its input is integers",
    "models.unet.level_weights": "returns numbers",
    "models.unet.supervised_levels": "returns a number",
    "models.unet.levels_for": "plans sizes",
    "models.unet.width_for": "plans sizes",
    "training.adversarial.adjust": "steers a probability; not differentiated",
    "training.adversarial.sign_mean": "counts signs; not differentiated",
    "training.augmentation.noise_shape": "returns a shape",
    "training.augmentation.numbers_shape": "returns a shape",
    "training.adversarial.ema_decay": "works on plain numbers",
    "training.adversarial.lazy_adam": "works on plain numbers",
    "training.networks.make_generator": "builds a network",
    "training.networks.make_networks": "builds networks",
    "training.networks.one_hot_mask": "its input is integers",
    "training.networks.signed_distance": "its input is one-hot labels",
    "training.networks.split_channels": "gives samples out; nothing is trained through it",
}


def grad(function, at):
    """Return the gradient of a scalar function, which can be differentiated once more."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(at)
        value = function(at)
    return tape.gradient(value, at)


def styles_of(step, z, other):
    """Mix styles of a small generator, anew for each call so that the average it remembers starts from zero."""
    from synthmed.models.generators import SliceGenerator

    keras.utils.set_random_seed(0)
    sizes = {"size": (32, 32), "channels": 1, "classes": 2, "z_dim": 4, "w_dim": 4, "mapping_layers": 1}
    generator = SliceGenerator(variant="base", channel_base=32, channel_max=16, precision="float64", **sizes)
    cut = np.array([1, 3, generator.num_ws], np.int32)
    # The mean w beside the styles is remembered, not differentiated.
    styles, _ = step.mixed_styles(generator, step.Latents(z=z, z_mixed=other, cut=cut, noise=[]))
    return styles


def on_the_path(modules) -> dict:
    """Return the public functions of modules that compute with Keras: {"module.name": function}."""
    return {
        name: value
        for name, value in modules.items()
        if inspect.isfunction(value) and any(one is ops for one in vars(sys.modules[value.__module__]).values())
    }


def augmented(slices, numbers, noise, *names, probability=1.0):
    return augment(slices, image_channels=2, operations=names, probability=probability, numbers=numbers, noise=noise)


def augmentation_inputs(differences, shape=(3, 12, 12, 4)):
    numbers = differences.random.uniform(size=numbers_shape(shape[0]))
    noise = differences.random.standard_normal(noise_shape(*shape[:3], 2))
    return differences.normal(shape), ops.cast(numbers, "float64"), ops.cast(noise, "float64")


def operations():
    return [(name,) for name in AUGMENTATIONS] + [ADA_OPERATIONS, DIFF_OPERATIONS]


def functions_reached(call) -> set:
    """Return the (file, name) of every Python function that is entered while `call` runs."""
    reached = set()

    def note(frame, event, _):
        if event == "call":
            reached.add((frame.f_code.co_filename, frame.f_code.co_name))

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return reached


def test_every_function_has_a_case(public_objects, differences):
    """A user would train through a function whose gradient nobody has checked."""
    found = on_the_path(public_objects(*PACKAGES))
    assert {"layers.fir.blur", "training.adversarial.squared_norm"} <= found.keys(), (
        "the search for functions finds too few"
    )
    inputs = augmentation_inputs(differences)
    # Each operation has a case below, which checks whatever it calls.
    reached = functions_reached(lambda: [augmented(*inputs, *names) for names in operations()])
    missing = sorted(
        name
        for name, function in found.items()
        if name not in CASES | EXEMPT and (function.__code__.co_filename, function.__code__.co_name) not in reached
    )
    where = os.path.relpath(__file__)
    assert missing == [], f"add each to CASES in {where}, or with its reason to EXEMPT: {', '.join(missing)}"


@pytest.mark.parametrize(("name", "number"), [(name, number) for name in CASES for number in range(len(CASES[name]))])
def test_gradients_equal_finite_differences(name, number, differences):
    """A user would train with wrong gradients and see only that the samples are bad."""
    call, shapes = CASES[name][number]
    module = importlib.import_module(f"synthmed.{name.rpartition('.')[0]}")
    inputs = [differences.normal(shape) for shape in shapes]
    groups = {f"input {position}": [one] for position, one in enumerate(inputs)}
    # Reading a variable makes a tensor of it: these functions are given tensors in training.
    differences.first_order(lambda: call(module, *(one.value() for one in inputs)), groups)
    differences.second_order(lambda: call(module, *(one.value() for one in inputs)), groups, inputs)


@pytest.mark.parametrize(
    "names", operations(), ids=lambda names: names[0] if len(names) == 1 else f"{len(names)} of them"
)
@pytest.mark.parametrize("probability", [1.0, 0.5])
def test_augmentation_gradients_equal_finite_differences(names, probability, differences):
    """A user of augmentation would regularise with a wrong R1 and teach the generator along wrong gradients."""
    slices, numbers, noise = augmentation_inputs(differences)

    def outputs():
        return augmented(slices.value(), numbers, noise, *names, probability=probability)

    differences.first_order(outputs, {"slices": [slices]})
    differences.second_order(outputs, {"slices": [slices]}, [slices])


def in_float32(function):
    """Pass float64 through a function that computes in float32, as resizing does whatever it is given."""
    return lambda image: ops.cast(function(ops.cast(image, "float32")), "float64")


MATRIX = np.array([[0.5, 0.1, 0.3, -0.1, 0.5, 0.2, 0, 0]] * 2, np.float32)
RESIZES = {
    "ours": fir.upsample,
    "bilinear resize": lambda image: ops.image.resize(image, (9, 7), interpolation="bilinear"),
    "affine transform": lambda image: ops.image.affine_transform(image, MATRIX, interpolation="bilinear"),
}


@pytest.mark.parametrize("name", RESIZES)
def test_the_suite_sees_the_gradients_that_are_known_to_be_wrong(name, differences):
    """A user would trust a suite that passes whatever it is given."""
    image = differences.normal(IMAGE)
    # A step and a tolerance for the rounding of float32; the known faults are far above it.
    differences.steps, differences.tolerance = (1e-2,), 1e-2

    def compare():
        differences.first_order(lambda: in_float32(RESIZES[name])(image.value()), {"image": [image]})
        differences.second_order(lambda: in_float32(RESIZES[name])(image.value()), {"image": [image]}, [image])

    if name == "ours":
        compare()
    else:
        with pytest.raises(AssertionError, match="finite differences give"):
            compare()
