"""What the engine hands to its optimisers, and what these make of it, against float64 references."""

import numpy as np
import pytest
import tensorflow as tf

from synthmed.models.discriminator import SliceDiscriminator
from synthmed.models.generators import SliceGenerator
from synthmed.training import adversarial
from synthmed.training.adversarial import Adversarial
from synthmed.training.options import TrainOptions, resolve
from synthmed.training.tensorflow_backend import TensorFlowEngine

pytestmark = pytest.mark.usefixtures("eager")

SIZE, CHANNELS, CLASSES, BATCH = (32, 32), 1, 2, 4
GAMMA, EVERY_R1, EVERY_PATH, PATH_WEIGHT, PATH_DECAY = 3.0, 8, 4, 2.0, 0.01


def make_engine(**more):
    options = TrainOptions(
        variant="base",
        batch=BATCH,
        precision="float32",
        channel_base=64,
        channel_max=16,
        mapping_layers=2,
        style_mixing=0.0,
        r1_gamma=GAMMA,
        r1_every=EVERY_R1,
        path_weight=PATH_WEIGHT,
        path_every=EVERY_PATH,
        path_decay=PATH_DECAY,
        path_batch_shrink=2,
        augment="none",
        position=False,
        **more,
    )
    options = resolve(options, size=SIZE)
    return TensorFlowEngine(Adversarial.build(options, size=SIZE, channels=CHANNELS, classes=CLASSES))


def batch(seed=0):
    random = np.random.default_rng(seed)
    return {
        "image": tf.constant(random.uniform(-1, 1, (BATCH, *SIZE, CHANNELS)), tf.float32),
        "label": tf.constant(random.integers(0, CLASSES, (BATCH, *SIZE)), tf.uint8),
    }


class Recorder:
    """Stands in the way of an optimiser and keeps the gradients; passes them on only where it is told to."""

    def __init__(self, optimizer, *, apply: bool):
        self.optimizer, self.passes_on = optimizer, apply
        self.gradients: list[list[np.ndarray]] = []

    def apply(self, gradients, *rest):
        self.gradients.append([np.array(gradient) for gradient in gradients])
        if self.passes_on:
            self.optimizer.apply(gradients, *rest)


@pytest.fixture
def stepped(monkeypatch):
    """One step of an engine whose weights stand still: its report, and what went through its networks."""
    engine = make_engine()
    random = np.random.default_rng(1)
    for network in (engine.method.networks["generator"], engine.method.networks["discriminator"]):
        for weight in network.trainable_variables:
            weight.assign(weight + 0.1 * random.standard_normal(weight.shape))
    seen: dict = {"mapping": [], "synthesis": [], "discriminator": [], "directions": []}

    def watch(layer, name):
        call = layer.call

        def watched(*inputs, **named):
            seen[name].append(inputs)
            return call(*inputs, **named)

        monkeypatch.setattr(layer, "call", watched)

    generator, discriminator = engine.method.networks["generator"], engine.method.networks["discriminator"]
    watch(generator.mapping, "mapping")
    watch(generator.synthesis, "synthesis")
    watch(discriminator, "discriminator")
    path_directions = adversarial.path_directions

    def weights(noise):
        seen["directions"].append(path_directions(noise))
        return seen["directions"][-1]

    monkeypatch.setattr(adversarial, "path_directions", weights)
    engine.optimizers["generator"] = Recorder(engine.optimizers["generator"], apply=False)
    engine.optimizers["discriminator"] = Recorder(engine.optimizers["discriminator"], apply=False)
    return engine, engine.step(0, batch()), seen


def exact_copy(network):
    """Return the same network in float64."""
    kind = {"generator": SliceGenerator, "discriminator": SliceDiscriminator}[network.name]
    copy = kind.from_config(network.get_config() | {"precision": "float64"})
    copy.set_weights(network.get_weights())
    return copy


def compare(differences, value, network, gradients):
    differences.tolerance = 2e-3  # the engine's rounding in float32
    differences.compare("engine", value, gradients, [weight.value for weight in network.trainable_variables])


def exact(value):
    return tf.constant(np.array(value), tf.float64)


def test_r1_gradient_of_the_engine_is_that_of_the_formula(stepped, differences):
    """A user would train with another R1 than gamma / 2 E |grad D(x)|^2, its interval included (arXiv:1801.04406)."""
    engine, report, seen = stepped
    discriminator = exact_copy(engine.method.networks["discriminator"])
    planes = exact(seen["discriminator"][-1][0])

    def penalty():
        with tf.GradientTape() as tape:
            tape.watch(planes)
            logits = tf.reduce_sum(discriminator(planes))
        norms = np.square(np.asarray(tape.gradient(logits, planes))).reshape(BATCH, -1).sum(axis=1)
        return GAMMA / 2 * norms.mean()

    assert float(report["r1_penalty"]) == pytest.approx(penalty(), rel=1e-3)
    main, r1 = engine.optimizers["discriminator"].gradients
    assert len(main) == len(r1)
    compare(differences, lambda: EVERY_R1 * penalty(), discriminator, r1)


def test_path_length_gradient_of_the_engine_is_that_of_the_formula(stepped, differences):
    """A user would train with another path length regulariser than E (|J^T y| - a)^2 (arXiv:1912.04958, equation 4)."""
    engine, report, seen = stepped
    generator = exact_copy(engine.method.networks["generator"])
    half = BATCH // 2
    z = exact(seen["mapping"][-1][0])[:half]
    noise = [exact(one) for one in seen["synthesis"][-1][1]]
    directions = exact(seen["directions"][-1])
    energy = np.square(directions).sum(axis=(1, 2)).mean()
    assert energy == pytest.approx(1.0, abs=0.2)

    def lengths():
        styles = generator.broadcast(generator.mapping(z))
        with tf.GradientTape() as tape:
            tape.watch(styles)
            projection = tf.reduce_sum(generator.synthesis(styles, noise, None) * directions)
        squares = np.square(np.asarray(tape.gradient(projection, styles)))
        return np.sqrt(squares.sum(axis=2).mean(axis=1))

    start = lengths()
    mean = PATH_DECAY * start.mean()
    assert float(report["path_length"]) == pytest.approx(start.mean(), rel=1e-3)
    assert float(report["path_penalty"]) == pytest.approx(np.square(start - mean).mean(), rel=1e-3)
    assert float(engine.method.path_mean) == pytest.approx(mean, rel=1e-3)
    main, path = engine.optimizers["generator"].gradients
    assert len(main) == len(path)
    compare(differences, lambda: EVERY_PATH * PATH_WEIGHT * np.square(lengths() - mean).mean(), generator, path)


def test_main_gradients_of_the_engine_are_those_of_the_logistic_losses(stepped, differences):
    """A user would train on something else than the paper's loss."""
    engine, report, seen = stepped
    generator = exact_copy(engine.method.networks["generator"])
    discriminator = exact_copy(engine.method.networks["discriminator"])
    z = exact(seen["mapping"][0][0])[:BATCH]
    noise = [exact(one) for one in seen["synthesis"][0][1]]
    fake, real = (exact(one[0]) for one in seen["discriminator"][:2])

    def softplus(values):
        return np.logaddexp(0, np.asarray(values))

    def generator_loss():
        return softplus(-discriminator(generator(z, noise))).mean()

    def discriminator_loss():
        return softplus(-discriminator(real)).mean() + softplus(discriminator(fake)).mean()

    np.testing.assert_allclose(generator(z, noise), fake, atol=1e-3)
    assert float(report["loss_generator"]) == pytest.approx(generator_loss(), rel=1e-3)
    assert float(report["loss_discriminator"]) == pytest.approx(discriminator_loss(), rel=1e-3)
    compare(differences, generator_loss, generator, engine.optimizers["generator"].gradients[0])
    compare(differences, discriminator_loss, discriminator, engine.optimizers["discriminator"].gradients[0])


def adam(weights, gradients, *, every: int, rate: float = 0.002):
    """Adam (arXiv:1412.6980, end of section 2) with StyleGAN2's lazy settings (arXiv:1912.04958, appendix B)."""
    ratio = every / (every + 1)
    # 0 to any power above 0 is 0: the first moment is the gradient itself.
    rate, beta = rate * ratio, 0.99**ratio
    second = [np.zeros_like(one) for one in weights]
    for number, step in enumerate(gradients, start=1):
        for place, gradient in enumerate(step):
            second[place] = beta * second[place] + (1 - beta) * gradient.astype(np.float64) ** 2
            scale = rate * np.sqrt(1 - beta**number)
            weights[place] = weights[place] - scale * gradient / (np.sqrt(second[place]) + 1e-8)
    return weights


@pytest.mark.parametrize(("name", "every"), [("generator", EVERY_PATH), ("discriminator", EVERY_R1)])
def test_weights_move_as_lazy_adam_moves_them(name, every):
    """A user would train at another rate or with momentum: regularisers count as steps of the same optimiser."""
    engine = make_engine()
    network = engine.method.networks[name]
    start = [weight.numpy().astype(np.float64) for weight in network.trainable_variables]
    recorder = Recorder(engine.optimizers[name], apply=True)
    engine.optimizers[name] = recorder
    for number in range(3):
        engine.step(number, batch(number))
    assert len(recorder.gradients) == 4
    for weight, expected in zip(network.trainable_variables, adam(start, recorder.gradients, every=every), strict=True):
        # A step is about 2e-3; float32 keeps seven digits of the weight.
        np.testing.assert_allclose(weight.numpy(), expected, rtol=5e-7, atol=2e-6)


def test_average_follows_the_weights_with_its_ramp_up():
    """A user would sample from weights that lag behind, or from the last weights alone."""
    engine = make_engine(ema_kimg=0.003, ema_rampup=0.5)
    networks = engine.method.networks
    expected = [weight.numpy().astype(np.float64) for weight in networks["generator"].trainable_variables]
    for number in range(4):
        engine.step(number, batch(number))
        # The half-life is 3 images, but never more than half of the images shown: 2 after the first step.
        half_life = min(3.0, 0.5 * BATCH * (number + 1))
        decay = 2.0 ** (-BATCH / half_life)
        for place, weight in enumerate(networks["generator"].trainable_variables):
            expected[place] = decay * expected[place] + (1 - decay) * weight.numpy().astype(np.float64)
    for weight, mean in zip(networks["average"].trainable_variables, expected, strict=True):
        np.testing.assert_allclose(weight.numpy(), mean, atol=1e-6)
    for ours, theirs in zip(
        networks["average"].non_trainable_variables, networks["generator"].non_trainable_variables, strict=True
    ):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
