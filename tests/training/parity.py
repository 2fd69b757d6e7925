"""Phases of a training step on given weights, numbers and slices, under the Keras backend of this process.

    KERAS_BACKEND=jax python parity.py WEIGHTS.npz RESULTS.npz

Where there are no WEIGHTS.npz yet they are made. See test_parity.py.
"""

import sys
from pathlib import Path

import keras
import numpy as np
from keras import ops

from synthmed.training.engines import make_engine
from synthmed.training.networks import make_networks
from synthmed.training.options import TrainOptions, resolve
from synthmed.training.step_numbers import StepNumbers

SIZE, CHANNELS, CLASSES, BATCH = (32, 32), 2, 3, 4
TINY = {"batch": BATCH, "precision": "float32", "channel_base": 32, "channel_max": 16, "mapping_layers": 1, "z_dim": 16}
# Operations of every kind of augmentation: warps, intensities, frequency bands, noise, holes.
ADA = ("mirror", "quarter_turn", "rotation", "channel_gain", "bands", "noise", "cutout")
CASES = {
    "base": (
        {"variant": "base", "augment": "ada", "augment_operations": ADA, "shown": True},
        ("main", "path", "penalty"),
    ),
    "relativistic": (
        {"variant": "base", "augment": "diff", "loss": "relativistic", "unlabelled": "images"},
        ("main", "penalty"),
    ),
    "mask": ({"variant": "mask", "augment": "none", "mask_planes": "distance", "position": False}, ("main",)),
    "cond": (
        {"variant": "cond", "augment": "none", "mismatched": 0.5, "injection": "modulate", "position": False},
        ("main", "path"),
    ),
}


class GivenNumbers(StepNumbers):
    """Numbers that NumPy draws, alike under every backend."""

    def key(self, number, phase, stream):
        return np.random.default_rng([phase, stream])

    def uniform(self, shape, key):
        return ops.convert_to_tensor(key.random(shape, "float32"))

    def normal(self, shape, key):
        return ops.convert_to_tensor(key.standard_normal(shape, "float32"))

    def whole(self, shape, key, *, low, high):
        return ops.convert_to_tensor(key.integers(low, high, shape).astype("int32"))


def slices(options: TrainOptions) -> dict[str, np.ndarray]:
    random = np.random.default_rng(7)
    batch = {
        "image": random.uniform(-1, 1, (BATCH, *SIZE, CHANNELS)).astype("float32"),
        "label": np.kron(random.integers(0, CLASSES, (BATCH, 8, 8)), np.ones((4, 4))).astype("uint8"),
        "position": random.uniform(0, 1, BATCH).astype("float32"),
        "shown": random.integers(0, 2, (BATCH, CLASSES - 1)).astype("float32"),
    }
    return batch | ({"labelled": np.array([1, 1, 0, 1], "float32")} if options.unlabelled else {})


class Recorder:
    """Stands in the way of an optimiser of the TensorFlow engine and keeps the gradients."""

    def apply(self, gradients):
        self.gradients = [np.array(one) for one in gradients]


class Passer:
    """Stands in the way of an optimiser of the JAX engine and returns the gradients in the place of the weights."""

    def stateless_apply(self, variables, gradients, weights):
        return gradients, variables


def run_tensorflow(engine, phases, batch):
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    engine.numbers = GivenNumbers(engine.options, engine.networks.generator, lambda values: values)
    batch = {name: tf.constant(values) for name, values in batch.items()}
    found = {}
    for phase in phases:
        recorders = {"generator": Recorder(), "discriminator": Recorder()}
        engine.generator_optimizer, engine.discriminator_optimizer = recorders.values()
        report = getattr(engine, phase)(batch, tf.constant(0, tf.int32))
        found |= {f"{phase}/report/{name}": np.array(value) for name, value in report.items()}
        for owner, recorder in recorders.items():
            weights = getattr(engine.networks, owner).trainable_variables
            for weight, gradient in zip(weights, getattr(recorder, "gradients", ()), strict=False):
                found[f"{phase}/gradient/{owner}/{weight.path}"] = gradient
    return found


def run_jax(engine, phases, batch):
    import jax

    given = engine.phases
    given.numbers = GivenNumbers(engine.options, engine.networks.generator, lambda values: values)
    given.optimizers = {"generator": Passer(), "discriminator": Passer()}
    before, found = engine._held(), {}
    for phase in phases:
        state, report = jax.jit(getattr(given, phase))(before, batch, np.int32(0))
        found |= {f"{phase}/report/{name}": np.array(value) for name, value in report.items()}
        for owner in {"main": ("generator", "discriminator"), "path": ("generator",)}.get(phase, ("discriminator",)):
            for weight, gradient in zip(given.variables[owner], state[owner], strict=True):
                found[f"{phase}/gradient/{owner}/{weight.path}"] = np.array(gradient)
    return found


def main(weights: Path, results: Path) -> None:
    run = {"tensorflow": run_tensorflow, "jax": run_jax}[keras.backend.backend()]
    kept = dict(np.load(weights)) if weights.exists() else None
    made, found = {}, {}
    for case, (more, phases) in CASES.items():
        options = resolve(TrainOptions(**TINY, **more), size=SIZE)
        engine = make_engine(make_networks(options, size=SIZE, channels=CHANNELS, classes=CLASSES), options)
        random = np.random.default_rng(3)
        values = {name: array + 0.1 * random.standard_normal(array.shape) for name, array in engine.arrays().items()}
        values |= {"augment_probability": np.float32(0.8), "path_mean": np.float32(0.3)}
        for name, variable in engine.state().items():
            made[f"{case}/{name}"] = values[name].astype(np.float32)
            if "optimizer" not in name:
                variable.assign((kept or made)[f"{case}/{name}"])
        found |= {f"{case}/{name}": value for name, value in run(engine, phases, slices(options)).items()}
    if kept is None:
        np.savez(weights, **made)
    np.savez(results, **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
