"""A generator draws the same under JAX, without TensorFlow, as under TensorFlow."""

import numpy as np
import pytest

from synthmed.generation.generator import load_generator
from synthmed.training.checkpoint import save_checkpoint
from synthmed.training.networks import make_generator
from synthmed.training.options import TrainOptions, resolve
from synthmed.training.run import DataSummary, Run, Start

pytestmark = [pytest.mark.slow]

VARIANTS = ("base", "mask", "cond")
SEEDS = np.array([0, 5, 7 * 10**9 + 3, 2**40, 11])
MASKS = np.random.default_rng(3).integers(0, 4, (5, 32, 32)).astype(np.uint8)
CODE = """
import sys, jax, keras, numpy as np
from pathlib import Path
from synthmed.generation.generate import generate
from synthmed.generation.generator import load_generator
given = np.load("given.npz")

jit, programs = jax.jit, []
def watched(function):
    compiled = jit(function)
    def call(*arguments):
        programs.append(compiled.lower(*arguments).as_text())
        return compiled(*arguments)
    return call

for variant in ("base", "mask", "cond"):
    jax.jit = watched if variant == "base" else jit
    generator = load_generator(Path(variant))
    drawn = [generator.sample_seeds(given["seeds"], 0.7)]
    if variant == "cond":
        drawn.append(generator.sample_seeds(given["seeds"], 0.7, given["masks"]))
    for number, one in enumerate(drawn):
        arrays = {"labels": one.labels, "templates": one.templates}
        arrays |= {} if one.images is None else {"images": one.images}
        np.savez(f"{variant}-{number}.npz", **arrays)
    if variant == "base":
        for fmt in ("npz", "nnunet", "png"):
            generate(generator, Path(fmt), n=3, format=fmt)
assert "tensorflow" not in sys.modules
Path("program.txt").write_text(programs[0])
"""


def untrained(folder, variant, store):
    """Write a run folder as a training under JAX leaves it, with the weights that networks begin with."""
    sizes = {"channel_base": 128, "channel_max": 16, "precision": "float32"}
    options = resolve(TrainOptions(variant=variant, class_presence=True, **sizes), size=store.size)
    run = Run.create(folder, options, DataSummary.of_store(store))
    run.content = run.content.model_copy(update={"starts": (Start(backend="jax", step=0),)})
    run.save()
    generator = make_generator(options, size=store.size, channels=len(store.channels), classes=len(store.classes))
    arrays = {f"average/{variable.path}": np.asarray(variable) for variable in generator.variables}
    # Noise has strength 0 at first and would not be compared.
    random = np.random.default_rng(1)
    arrays = {name: value + random.normal(0, 0.1, value.shape).astype("f4") for name, value in arrays.items()}
    save_checkpoint(run.checkpoint_folder, arrays, {"step": 1, "seconds": 1.0, "kimg": 0.1}, keep=1)
    if variant == "cond":
        untrained(run.mask_generator, "mask", store)


@pytest.fixture(scope="module")
def runs(store, tmp_path_factory):
    """Return a folder with a run of each variant."""
    folder = tmp_path_factory.mktemp("runs")
    for variant in VARIANTS:
        untrained(folder / variant, variant, store)
    return folder


@pytest.fixture(scope="module")
def drawn(runs, jax_python):
    """Draw from each of the runs without TensorFlow, and return the folder."""
    np.savez(runs / "given.npz", seeds=SEEDS, masks=MASKS)
    done = jax_python("-c", CODE, cwd=runs)
    assert done.returncode == 0, done.stderr[-3000:]
    return runs


def test_every_format_is_written(drawn):
    """A user would have to carry every run to another machine to look at what it draws."""
    for pattern in ("npz/*.npz", "nnunet/imagesTr/*_0001.nii.gz", "png/labels/*.png"):
        assert len(list(drawn.glob(pattern))) == 3


def test_the_same_seed_draws_the_same_item(drawn, runs):
    """A user's set would be another one on the machine with the GPU than on the one with TensorFlow."""
    for variant in VARIANTS:
        generator = load_generator(runs / variant)
        for number, masks in enumerate((None, MASKS) if variant == "cond" else (None,)):
            ours = generator.sample_seeds(SEEDS, 0.7, masks)
            theirs = np.load(drawn / f"{variant}-{number}.npz")
            np.testing.assert_array_equal(theirs["templates"], ours.templates)
            # A tie of two classes may be decided either way by the last bit.
            same = theirs["labels"] == ours.labels
            assert same.mean() > 0.999 and len(np.unique(ours.labels)) > 1
            if ours.images is not None:
                slices = same.all(axis=(1, 2))
                assert slices.sum() >= 3
                assert np.abs(theirs["images"] - ours.images)[slices].max() < 1e-4 * np.abs(ours.images).max()


def test_no_device_may_round_the_factors_of_products(drawn):
    """A user's set would be another one on a GPU or TPU, which by default multiply float32 with fewer bits."""
    program = (drawn / "program.txt").read_text()
    products = program.count("stablehlo.convolution") + program.count("stablehlo.dot_general")
    assert products > 10 and "DEFAULT" not in program
    assert program.count("HIGHEST") == 2 * products


def test_a_run_trained_under_jax_is_exported_with_all_signatures(runs, tmp_path):
    """A user could not serve what a GPU machine with JAX trained."""
    import tensorflow as tf

    from synthmed.generation.bundle import load_bundle
    from synthmed.serving.export import export_bundle

    bundle = load_bundle(runs / "mask")
    version = export_bundle(bundle, to=tmp_path, name="from-jax", allow_failed_audit=True)
    loaded = tf.saved_model.load(str(version))
    assert {"serving_default", "sample", "mapping", "synthesis", "geometry"} <= set(loaded.signatures)
    generator = load_generator(version)
    ours, theirs = load_generator(runs / "mask").sample_seeds(SEEDS, 0.7), generator.sample_seeds(SEEDS, 0.7)
    np.testing.assert_array_equal(theirs.labels, ours.labels)
