"""The JAX engine; run under KERAS_BACKEND=jax with two devices (tests/backends/test_jax.py)."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest

if keras.backend.backend() != "jax":
    pytest.skip("is about training under JAX", allow_module_level=True)

import jax

from synthmed.errors import UserError
from synthmed.training.adversarial import Adversarial
from synthmed.training.backends import has_accelerator, make_devices, make_engine
from synthmed.training.jax_backend import has_bfloat16, keep_compiled
from synthmed.training.options import TrainOptions, resolve

SIZE, CHANNELS, CLASSES, BATCH = (32, 32), 1, 2, 4
# What rounding makes of a few steps, as a share of the way of the weights.
ROUNDING = 1e-2
TINY = {
    "variant": "base",
    "batch": BATCH,
    "precision": "float32",
    "channel_base": 32,
    "channel_max": 16,
    "mapping_layers": 1,
    # Regularisers fall due at other steps than the loop of several steps ends.
    "path_every": 2,
    "r1_every": 3,
    "augment": "ada",
    "augment_operations": ("mirror", "cutout"),
    "augment_kimg": 0.05,
    "augment_target": -0.9,
}


def engine(**more):
    options = resolve(TrainOptions(**(TINY | more)), size=SIZE)
    devices = make_devices(options.strategy)
    with devices.scope():
        method = Adversarial.build(options, size=SIZE, channels=CHANNELS, classes=CLASSES)
    return make_engine(method, devices)


def batches(first=0):
    while True:
        random = np.random.default_rng(first)
        yield {
            "image": random.uniform(-1, 1, (BATCH, *SIZE, CHANNELS)).astype("float32"),
            "label": random.integers(0, CLASSES, (BATCH, *SIZE)).astype("uint8"),
            "position": random.uniform(0, 1, BATCH).astype("float32"),
        }
        first += 1


def train(made, *counts, first=0):
    """Do so many steps at a time, and return all values and what the steps report."""
    coming, reports = made.prefetch(batches(first)), []
    for count in counts:
        reports += made.steps(first, [next(coming) for _ in range(count)])
        first += count
    return made.arrays(), [{name: float(value) for name, value in report.items()} for report in reports]


def assign(made, arrays):
    for name, variable in made.state().items():
        variable.assign(arrays[name])


def different(first, second):
    """Return the names of arrays that are not the same bit for bit."""
    return [name for name in first if first[name].tobytes() != second[name].tobytes()]


def apart(before, first, second):
    """Return how far two trainings ended from each other, as a share of how far they went, for each network."""
    shares = {}
    for owner in ("generator", "average", "discriminator"):
        names = [name for name in before if name.startswith(f"{owner}/")]
        difference, way = (
            np.sqrt(sum(np.square(np.float64(one[name]) - two[name]).sum() for name in names))
            for one, two in ((first, second), (first, before))
        )
        shares[owner] = difference / way
    return shares


@pytest.fixture(scope="module")
def plain():
    """Four steps, one at a time: values before and after, and reports."""
    made = engine(steps_ahead=1)
    before = made.arrays()
    return before, *train(made, 1, 1, 1, 1)


def test_all_of_a_state_moves_and_has_the_formats_of_a_checkpoint(plain):
    """A user would train a network that stands still, or write a checkpoint that another backend cannot take up."""
    before, after, reports = plain
    still = {name for name in before if np.array_equal(before[name], after[name])}
    # No rate moves here; a penalty has no gradient at the last biases; the signs of four logits may cancel each other.
    assert {name for name in still if "momentum" not in name} - {"sign_mean"} == {
        "generator_optimizer/adam/learning_rate",
        "discriminator_optimizer/adam/learning_rate",
    }
    assert [after[f"{name}_optimizer/adam/iteration"] for name in ("generator", "discriminator")] == [6, 6]
    assert {array.dtype.name for array in after.values()} == {"float32", "int64"}
    assert [("path_length" in report, "r1_penalty" in report) for report in reports] == [
        (True, True),
        (False, False),
        (True, False),
        (False, True),
    ]


def test_a_resumed_training_is_the_uninterrupted_one_bit_for_bit(plain):
    """A user would get other weights because the machine was needed for something else in between."""
    made = engine(steps_ahead=1, seed=0)
    half, _ = train(made, 1, 1)
    # Whatever these are given, the steps that follow must not write into.
    kept = {name: array.copy() for name, array in half.items()}
    again = engine(steps_ahead=1)
    assign(again, half)
    after, _ = train(again, 1, 1, first=2)
    assert different(half, kept) == []
    assert different(plain[1], after) == []


def test_several_steps_at_a_time_are_the_same_steps_however_they_are_cut(plain):
    """A user of an accelerator would train something else, and something else again with each other log or stop."""
    made = engine(steps_ahead=3)
    start = made.arrays()
    after, reports = train(made, 3, 1)
    assign(made, start)
    cut, _ = train(made, 2, 2)
    assert different(after, cut) == []
    # Adam divides by the square root of what it has seen: where that is next to nothing, rounding is a step.
    assert max(apart(plain[0], plain[1], after).values()) < ROUNDING
    for ours, theirs in zip(reports, plain[2], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-2, abs=1e-3)


def test_two_devices_share_a_batch_and_come_to_the_weights_of_one(plain):
    """A user with two devices would train with half of the batch, or with twice the rate."""
    if len(jax.local_devices()) < 2:
        pytest.skip("needs two devices: XLA_FLAGS=--xla_force_host_platform_device_count=2")
    made = engine(strategy="mirrored", steps_ahead=1)
    assign(made, plain[0])
    after, reports = train(made, 1, 1, 1, 1)
    parts = next(made.prefetch(batches()))["image"].addressable_shards
    assert [part.data.shape[0] for part in parts] == [BATCH // 2] * 2
    assert max(apart(plain[0], plain[1], after).values()) < ROUNDING
    assert reports[0] == pytest.approx(plain[2][0], rel=1e-5, abs=1e-5)
    drawn = made.draw(np.arange(3, dtype=np.int64), {"label": np.zeros((3, *SIZE)), "position": np.ones(3)})
    assert drawn["image"].shape == (3, *SIZE, CHANNELS)


def test_the_averaged_generator_draws_by_all_64_bits_of_a_seed():
    """A user's distances would be measured on slices that a later set may hold: seeds above 2 ** 32 are theirs."""
    made = engine()
    conditioning = {"label": np.zeros((2, *SIZE), np.uint8), "position": np.array([0.5, 0.5], np.float32)}
    first = made.draw(np.array([1, 2**40 + 1]), conditioning)["image"]
    again = made.draw(np.array([1, 2**40 + 1]), conditioning)["image"]
    assert np.array_equal(first, again)
    assert not np.allclose(first[0], first[1])


def test_workers_are_refused_with_what_to_do():
    """A user would wait for other machines that never come."""
    with pytest.raises(UserError, match="KERAS_BACKEND=tensorflow"):
        make_devices("workers")


def test_memory_that_does_not_suffice_is_said_with_the_batch_to_try(tmp_path):
    """A user would see pages of a compiler's errors, and not what to change."""
    devices = make_devices("one")
    options = resolve(TrainOptions(variant="base", batch=48, precision="float32"), size=SIZE)
    advice = r"batch of 48: try a new run with --batch 24 and --precision bfloat16$"
    with pytest.raises(UserError, match=advice), devices.watched(tmp_path, options):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 12 bytes.")
    with pytest.raises(jax.errors.JaxRuntimeError), devices.watched(tmp_path, options):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")


def test_an_old_accelerator_is_refused_the_number_format_that_it_has_not():
    """A user would train at a tenth of the speed and not know why."""

    class Volta:
        compute_capability = "7.0"
        device_kind = "Tesla V100"

    devices = make_devices("one")
    assert has_bfloat16(devices.device)
    devices.device = Volta()
    options = resolve(TrainOptions(variant="base", precision="bfloat16"), size=SIZE)
    with pytest.raises(UserError, match="Tesla V100 has no bfloat16: .* --precision float32"):
        devices.check_precision(options)
    devices.check_precision(options.model_copy(update={"precision": "float32"}))


def test_an_accelerator_gets_bfloat16_where_it_has_it(monkeypatch):
    """A user's GPU would multiply in the format that suits the processor beside it."""
    assert not has_accelerator()
    for capability, suits in (("9.0", True), ("7.0", False), ("gfx90a", True)):
        device = SimpleNamespace(platform="gpu", compute_capability=capability)
        monkeypatch.setattr(jax, "local_devices", lambda device=device: [device])
        assert has_accelerator() == suits


def test_compiled_programs_are_kept_in_the_users_cache_unless_told_otherwise(monkeypatch, tmp_path):
    """A user would wait for the compiler at every start, or find its files where nobody asked for them."""
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    try:
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "elsewhere")
        keep_compiled()
        assert jax.config.jax_compilation_cache_dir == before
        monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
        keep_compiled()
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "synthmed" / "jax")
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
