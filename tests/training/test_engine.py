import numpy as np
import pytest
import tensorflow as tf

from synthmed.training.adversarial import Adversarial, squared_norm
from synthmed.training.networks import one_hot_mask, real_channels
from synthmed.training.options import TrainOptions, resolve
from synthmed.training.tensorflow_backend import TensorFlowEngine

SIZE, CHANNELS, CLASSES = (32, 32), 2, 3


def make_engine(variant="base", **more):
    options = TrainOptions(variant=variant, batch=4, precision="float32", channel_base=256, channel_max=16, **more)
    options = resolve(options, size=SIZE)
    return TensorFlowEngine(Adversarial.build(options, size=SIZE, channels=CHANNELS, classes=CLASSES))


def batch(seed=0):
    random = np.random.default_rng(seed)
    return {
        "image": tf.constant(random.uniform(-1, 1, (4, *SIZE, CHANNELS)), tf.float32),
        "label": tf.constant(random.integers(0, CLASSES, (4, *SIZE)), tf.uint8),
        "position": tf.constant(random.uniform(0, 1, 4), tf.float32),
        "class_presence": tf.constant(random.integers(0, 2, (4, CLASSES - 1)), tf.float32),
    }


@pytest.mark.parametrize(
    ("variant", "more"),
    [
        ("base", {"augment": "none", "position": False}),
        ("base", {"class_presence": True, "augment": "diff"}),
        ("base", {"loss": "relativistic", "path_weight": 1.0}),
        ("mask", {"mask_channels": "distance"}),
        ("cond", {"mismatched": 0.5}),
        ("cond", {"injection": "modulate", "mask_channels": "one-hot"}),
    ],
)
def test_every_trainable_weight_of_both_networks_learns(variant, more, eager):
    """A user would train a network of which a part stands still: a missing gradient gives no error."""
    engine = make_engine(variant, **more)
    before = {name: np.asarray(variable).copy() for name, variable in engine.state().items()}
    for number in range(2):
        report = engine.step(number, batch(number))
        assert all(np.isfinite(float(value)) for value in report.values()), report
    for owner in ("generator", "discriminator"):
        still = [
            variable.path
            for variable in engine.method.networks[owner].trainable_variables
            if np.array_equal(before[f"{owner}/{variable.path}"], np.asarray(variable).copy())
        ]
        # Only differences of logits count in the relativistic loss.
        without_effect = ["logit/bias"] if owner == "discriminator" and more.get("loss") == "relativistic" else []
        assert still == without_effect
    assert not np.array_equal(before["path_mean"], np.asarray(engine.method.path_mean))


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
    engine = make_engine(r1_gamma=1.0, augment="none", position=False)
    data = batch()
    slices = real_channels(data["image"], one_hot_mask(data["label"], CLASSES), variant="base")
    discriminator = engine.method.networks["discriminator"]
    direction = np.random.default_rng(1).standard_normal(slices.shape).astype(np.float32)
    direction /= np.linalg.norm(direction)
    with tf.GradientTape() as tape:
        tape.watch(slices)
        total = tf.reduce_sum(discriminator(slices))
    gradient = tape.gradient(total, slices)
    step = 0.05
    upper = float(tf.reduce_sum(discriminator(slices + step * direction)))
    lower = float(tf.reduce_sum(discriminator(slices - step * direction)))
    assert float(tf.reduce_sum(gradient * direction)) == pytest.approx((upper - lower) / (2 * step), rel=0.03, abs=1e-4)
    reported = float(engine.phases["penalty"](data, tf.constant(0))["r1_penalty"])
    assert reported == pytest.approx(float(squared_norm(gradient, 1.0)), rel=1e-4)


def test_average_is_the_exponential_mean_of_the_generator(eager):
    """A user would sample from other weights than the average."""
    engine = make_engine()
    average, generator = engine.method.networks["average"], engine.method.networks["generator"]
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


def test_the_relativistic_loss_penalises_both_sides(eager):
    """A user would train R3GAN without R2, which diverges."""
    report = make_engine(loss="relativistic").step(0, batch())
    assert {"r1_penalty", "r2_penalty"} <= report.keys()
    assert "path_length" not in report


def test_augmentation_grows_while_the_discriminator_knows_real_slices_too_well(eager):
    """A user's discriminator would learn a small set by heart."""
    engine = make_engine(augment="ada", augment_kimg=0.04, augment_target=-0.99)
    probabilities = [float(engine.step(number, batch(number))["augment_probability"]) for number in range(3)]
    np.testing.assert_allclose(np.diff([0.0, *probabilities]), 0.1, atol=1e-6)
    assert engine.state()["augment_probability"].numpy() == pytest.approx(probabilities[-1])
    falling = make_engine(augment="ada", augment_kimg=0.04, augment_target=0.99)
    falling.method.probability.assign(0.5)
    assert float(falling.step(0, batch())["augment_probability"]) == pytest.approx(0.4)


def test_unlabelled_slices_teach_the_image_and_nothing_of_the_mask(eager):
    """A user's unlabelled images would teach that they show background."""
    labelled = batch() | {"labelled": tf.constant([1.0, 0.0, 1.0, 0.0])}
    other = labelled["label"].numpy()
    other[[1, 3]] = 0
    reports, weights = [], []
    for label in (labelled["label"], tf.constant(other)):
        engine = make_engine(augment="none", unlabelled="elsewhere")
        reports.append(engine.step(0, labelled | {"label": label}))
        weights.append({name: np.asarray(variable).copy() for name, variable in engine.state().items()})
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert float(reports[0]["loss_discriminator"]) == float(reports[1]["loss_discriminator"])
