import numpy as np
import pytest
import tensorflow as tf

from synthmed.training import losses
from synthmed.training.networks import make_networks
from synthmed.training.options import TrainOptions, resolve
from synthmed.training.planes import one_hot_mask, real_planes
from synthmed.training.tensorflow_engine import TensorFlowEngine

SIZE, CHANNELS, CLASSES = (32, 32), 2, 3


def make_engine(variant="base", **more):
    options = TrainOptions(variant=variant, batch=4, precision="float32", channel_base=256, channel_max=16, **more)
    options = resolve(options, size=SIZE)
    return TensorFlowEngine(make_networks(options, size=SIZE, channels=CHANNELS, classes=CLASSES), options)


def batch(seed=0):
    random = np.random.default_rng(seed)
    return {
        "image": tf.constant(random.uniform(-1, 1, (4, *SIZE, CHANNELS)), tf.float32),
        "label": tf.constant(random.integers(0, CLASSES, (4, *SIZE)), tf.uint8),
    }


@pytest.mark.parametrize("variant", ["base", "mask", "cond"])
def test_every_trainable_weight_of_both_networks_learns(variant, eager):
    """A user would train a network of which a part stands still: a missing gradient gives no error."""
    engine = make_engine(variant)
    before = {name: np.asarray(variable).copy() for name, variable in engine.state().items()}
    for number in range(2):
        engine.step(number, batch(number))
    networks = engine.networks
    for owner, network in (("generator", networks.generator), ("discriminator", networks.discriminator)):
        still = [
            variable.path
            for variable in network.trainable_variables
            if np.array_equal(before[f"{owner}/{variable.path}"], np.asarray(variable).copy())
        ]
        assert still == []
    assert not np.array_equal(before["path_mean"], np.asarray(engine.path_mean))


def test_steps_repeat_exactly_and_depend_on_the_seed():
    """A user would lose "same seed, same machine: same output"."""

    def weights(seed):
        engine = make_engine(seed=seed)
        for number in range(2):
            engine.step(number, batch(number))
        return {name: np.asarray(variable).copy() for name, variable in engine.state().items()}

    first, second, other = weights(1), weights(1), weights(2)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert any(not np.array_equal(first[name], other[name]) for name in first)


def test_r1_is_the_gradient_norm_that_finite_differences_find(eager):
    """A user would train with a regulariser of the wrong size: its gradient passes through every layer twice."""
    engine = make_engine(r1_gamma=1.0)
    data = batch()
    planes = real_planes(data["image"], one_hot_mask(data["label"], CLASSES), variant="base")
    discriminator = engine.networks.discriminator
    direction = np.random.default_rng(1).standard_normal(planes.shape).astype(np.float32)
    direction /= np.linalg.norm(direction)
    with tf.GradientTape() as tape:
        tape.watch(planes)
        total = tf.reduce_sum(discriminator(planes))
    gradient = tape.gradient(total, planes)
    step = 0.05
    upper = float(tf.reduce_sum(discriminator(planes + step * direction)))
    lower = float(tf.reduce_sum(discriminator(planes - step * direction)))
    assert float(tf.reduce_sum(gradient * direction)) == pytest.approx((upper - lower) / (2 * step), rel=0.03, abs=1e-4)
    reported = float(engine.penalty(data, tf.constant(0))["r1_penalty"])
    assert reported == pytest.approx(float(losses.r1_penalty(gradient, 1.0)), rel=1e-4)


def test_average_is_the_exponential_mean_of_the_generator(eager):
    """A user would sample from other weights than the average."""
    engine = make_engine()
    average, generator = engine.networks.average, engine.networks.generator
    start = [np.asarray(variable).copy() for variable in average.trainable_variables]
    for variable in generator.trainable_variables:
        variable.assign(variable + 1.0)
    engine.average(tf.constant(0.75, tf.float32))
    for before, variable in zip(start, average.trainable_variables, strict=True):
        np.testing.assert_allclose(variable, before + 0.25, atol=1e-5)


def test_regularisers_can_be_switched_off(eager):
    """A user would not be able to measure what a regulariser does."""
    report = make_engine(r1_gamma=0.0, path_weight=0.0).step(0, batch())
    assert "r1_penalty" not in report
    assert "path_length" not in report
