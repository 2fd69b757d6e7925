import keras
import numpy as np
import tensorflow as tf

from synthmed.training.adversarial import lazy_adam
from synthmed.training.tensorflow_backend import FusedAdam


def test_fused_updates_are_adams_and_its_state_carries_the_same_names():
    """A user would train with another optimiser than the paper's, or lose its state at --resume."""
    random = np.random.default_rng(0)
    start = random.standard_normal((5, 3)).astype(np.float32)
    weights, optimizers = [], []
    for kind in (keras.optimizers.Adam, FusedAdam):
        variable = keras.Variable(start, name="kernel")
        optimizer = kind(**lazy_adam(0.002, 4), name="adam")
        optimizer.build([variable])
        weights.append(variable)
        optimizers.append(optimizer)
    for _ in range(4):
        gradient = tf.constant(random.standard_normal((5, 3)), tf.float32)
        for optimizer in optimizers:
            tf.function(lambda gradient, optimizer=optimizer: optimizer.apply([gradient]))(gradient)
    np.testing.assert_allclose(weights[1], weights[0], rtol=1e-6, atol=1e-7)
    assert not np.allclose(weights[0], start)
    for expected, found in zip(optimizers[0].variables, optimizers[1].variables, strict=True):
        assert found.path == expected.path
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
