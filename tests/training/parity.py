"""Phases of a training step on given weights, numbers and slices, under the Keras backend of this process.

    KERAS_BACKEND=jax python parity.py WEIGHTS.npz RESULTS.npz SEED

Where there are no WEIGHTS.npz yet they are made, of the seed. See test_parity.py.
"""

import sys
from pathlib import Path

import keras
import numpy as np
from keras import ops

from synthmed.training.adversarial import Adversarial
from synthmed.training.backends import make_engine
from synthmed.training.options import TrainOptions, resolve

SIZE, CHANNELS, CLASSES, BATCH = (32, 32), 2, 3, 4
TINY = {"batch": BATCH, "precision": "float32", "channel_base": 32, "channel_max": 16, "mapping_layers": 1, "z_dim": 16}
# Operations of every kind of augmentation: warps, intensities, frequency bands, noise, holes.
ADA = ("mirror", "quarter_turn", "rotation", "channel_gain", "bands", "noise", "cutout")
CASES = {
    "base": (
        {"variant": "base", "augment": "ada", "augment_operations": ADA, "class_presence": True},
        ("main", "path", "penalty"),
    ),
    "relativistic": (
        {"variant": "base", "augment": "diff", "loss": "relativistic", "unlabelled": "images"},
        ("main", "penalty"),
    ),
    "mask": ({"variant": "mask", "augment": "none", "mask_channels": "distance", "position": False}, ("main",)),
    "cond": (
        {"variant": "cond", "augment": "none", "mismatched": 0.5, "injection": "modulate", "position": False},
        ("main", "path"),
    ),
}


def give_numbers(engine):
    """Let NumPy draw the numbers of an engine, alike under every backend."""

    def random(key):
        return np.random.default_rng([key.phase, key.stream])

    engine.uniform = lambda shape, key: ops.convert_to_tensor(random(key).random(shape, "float32"))
    engine.normal = lambda shape, key: ops.convert_to_tensor(random(key).standard_normal(shape, "float32"))
    engine.integers = lambda shape, key, *, low, high: ops.convert_to_tensor(
        random(key).integers(low, high, shape).astype("int32")
    )


def slices(options: TrainOptions) -> dict[str, np.ndarray]:
    random = np.random.default_rng(7)
    batch = {
        "image": random.uniform(-1, 1, (BATCH, *SIZE, CHANNELS)).astype("float32"),
        "label": np.kron(random.integers(0, CLASSES, (BATCH, 8, 8)), np.ones((4, 4))).astype("uint8"),
        "position": random.uniform(0, 1, BATCH).astype("float32"),
        "class_presence": random.integers(0, 2, (BATCH, CLASSES - 1)).astype("float32"),
    }
    return batch | ({"labelled": np.array([1, 1, 0, 1], "float32")} if options.unlabelled else {})


def run_tensorflow(engine, phase, batch):
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    gradients: dict = {}
    engine.update = gradients.__setitem__
    report = engine.phases[phase](
        {name: tf.constant(values) for name, values in batch.items()}, tf.constant(0, tf.int32)
    )
    return report, gradients


def run_jax(engine, phase, batch):
    import jax

    def run(batch, number):
        gradients: dict = {}
        engine.update = gradients.__setitem__
        return engine._phase(engine.method.phases[phase], batch, number), gradients

    _, found = jax.jit(engine._pure(run))(engine._values(), batch, np.int32(0))
    return found


def run_phases(engine, phases, batch):
    run = {"tensorflow": run_tensorflow, "jax": run_jax}[keras.backend.backend()]
    give_numbers(engine)
    found = {}
    for phase in phases:
        before = {name: np.asarray(variable).copy() for name, variable in engine.state().items()}
        report, gradients = run(engine, phase, batch)
        found |= {f"{phase}/report/{name}": np.array(value) for name, value in report.items()}
        for owner, values in gradients.items():
            weights = engine.method.networks[owner].trainable_variables
            for weight, gradient in zip(weights, values, strict=True):
                found[f"{phase}/gradient/{owner}/{weight.path}"] = np.array(gradient)
        for name, variable in engine.state().items():
            variable.assign(before[name])
    return found


def main(weights: Path, results: Path, seed: int) -> None:
    kept = dict(np.load(weights)) if weights.exists() else None
    made, found = {}, {}
    for case, (more, phases) in CASES.items():
        options = resolve(TrainOptions(**TINY, **more), size=SIZE)
        engine = make_engine(Adversarial.build(options, size=SIZE, channels=CHANNELS, classes=CLASSES))
        random = np.random.default_rng(seed)
        values = {name: array + 0.1 * random.standard_normal(array.shape) for name, array in engine.arrays().items()}
        values |= {"augment_probability": np.float32(0.8), "path_mean": np.float32(0.3)}
        for name, variable in engine.state().items():
            made[f"{case}/{name}"] = values[name].astype(np.float32)
            if "optimizer" not in name:
                variable.assign((kept or made)[f"{case}/{name}"])
        found |= {f"{case}/{name}": value for name, value in run_phases(engine, phases, slices(options)).items()}
    if kept is None:
        np.savez(weights, **made)
    np.savez(results, **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
