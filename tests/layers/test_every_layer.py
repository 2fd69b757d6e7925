"""What holds for all layers; a layer without a case here fails."""

import keras
import numpy as np
import pytest

from synthmed import layers

RANDOM = np.random.default_rng(0)


def normal(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


IMAGE = (2, 8, 4, 6)
CASES = {
    "DiscriminatorBlock": ({"filters": 5}, [IMAGE], (2, 4, 2, 5)),
    "EqualizedConv2D": ({"filters": 5, "downsample": True, "activate": True}, [IMAGE], (2, 4, 2, 5)),
    "EqualizedDense": ({"units": 3, "activate": True}, [(2, 7)], (2, 3)),
    "FIRBlur": ({"padding": (2, 2)}, [IMAGE], (2, 9, 5, 6)),
    "FIRDownsample": ({}, [IMAGE], (2, 4, 2, 6)),
    "FIRUpsample": ({}, [IMAGE], (2, 16, 8, 6)),
    "MaskInjection": ({"modulate": True, "gain": 2.0}, [IMAGE, (2, 8, 4, 3)], IMAGE),
    "MinibatchStddev": ({"group_size": 2}, [IMAGE], (2, 8, 4, 7)),
    "ModulatedConv2D": ({"filters": 5, "upsample": True}, [IMAGE, (2, 6)], (2, 16, 8, 5)),
    "NoiseInjection": ({"gain": 2.0}, [IMAGE, (2, 8, 4, 1)], IMAGE),
    "StyledConv2D": (
        {"filters": 5, "upsample": True, "injection": "concatenate"},
        [IMAGE, (2, 7), (2, 16, 8, 1), (2, 16, 8, 3)],
        (2, 16, 8, 5),
    ),
}


def functional(layer, shapes):
    inputs = [keras.Input(batch_shape=shape) for shape in shapes]
    return keras.Model(inputs, layer(*inputs))


def test_every_layer_has_a_case():
    """A user would lose a model that loads if a new layer slipped past these checks."""
    assert set(CASES) == set(layers.__all__)


@pytest.mark.parametrize("name", CASES)
def test_keras_file_gives_the_same_layer_back(name, tmp_path):
    """A user would lose trained weights: unregistered or half-described layers fail on load."""
    arguments, shapes, expected = CASES[name]
    model = functional(getattr(layers, name)(**arguments), shapes)
    for variable in model.weights:
        variable.assign(normal(*variable.shape))
    data = [normal(*shape) for shape in shapes]
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    outputs = np.asarray(model(data))
    assert outputs.shape == expected
    np.testing.assert_array_equal(outputs, restored(data))


@pytest.mark.parametrize("name", CASES)
def test_low_precision_computes_in_bfloat16_and_keeps_weights_in_float32(name):
    """A user would lose either speed or training that converges."""
    arguments, shapes, _ = CASES[name]
    layer = getattr(layers, name)(**arguments, dtype="mixed_bfloat16")
    outputs = layer(*[normal(*shape) for shape in shapes])
    assert keras.backend.standardize_dtype(outputs.dtype) == "bfloat16"
    assert {keras.backend.standardize_dtype(weight.dtype) for weight in layer.weights} <= {"float32"}
