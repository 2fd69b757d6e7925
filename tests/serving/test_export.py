"""An exported generator is the generator, and says where it comes from."""

import json

import numpy as np
import pytest

from synthmed.errors import UserError
from synthmed.generation.generator import RunGenerator, SavedModelGenerator, newest_version
from synthmed.serving.export import export_bundle

SEEDS = np.array([0, 5, 7 * 10**9 + 3, 2**40])


@pytest.fixture(scope="module")
def exported(models):
    """The newest version of the exported generator."""
    return newest_version(models / "tiny-cond")


def test_exported_generator_draws_what_the_run_draws(tiny_bundle, exported):
    """A served generator would be another one than the evaluated one."""
    for masks in (None, np.random.default_rng(0).integers(0, 3, (4, 32, 48)).astype(np.uint8)):
        ours = RunGenerator(tiny_bundle("cond")).sample_seeds(SEEDS, 0.7, masks)
        theirs = SavedModelGenerator(exported).sample_seeds(SEEDS, 0.7, masks)
        assert np.abs(ours.images - theirs.images).max() <= 1e-5 * np.abs(ours.images).max()
        assert np.array_equal(ours.labels, theirs.labels) and np.array_equal(ours.templates, theirs.templates)
        assert np.array_equal(theirs.labels, masks) if masks is not None else len(np.unique(theirs.labels)) > 1
        assert len({image.tobytes() for image in theirs.images}) == len(SEEDS)


def test_result_does_not_depend_on_the_number_asked_for(exported):
    """The same seed would give another image in a larger set."""
    generator = SavedModelGenerator(exported)
    many = generator.sample_seeds(np.arange(11), 1.0)
    one = generator.sample_seeds(np.array([10]), 1.0)
    assert np.array_equal(many.images[10:], one.images)


@pytest.mark.parametrize("variant", ["base", "mask", "cond"])
def test_every_signature_gives_what_the_keras_model_gives(tiny_bundle, all_variants, variant):
    """A served generator would be another one than the trained one."""
    import tensorflow as tf

    bundle = tiny_bundle(variant)
    signatures = tf.saved_model.load(str(all_variants(variant))).signatures
    rng = np.random.default_rng(1)
    z = rng.normal(size=(4, 16)).astype("f4")
    psi, still = np.array([1, 0.7, 0.5, 0], "f4"), np.zeros(4, np.int64)
    given = {"mask": rng.integers(0, 3, (4, 32, 48)).astype(np.int32)} if variant == "cond" else {}
    w = np.asarray(bundle.mapping(z))
    drawn = bundle.sample(SEEDS, psi)
    # Fixed-length strings of NumPy would lose zeros at their ends.
    raw = {f"{name}_bytes": np.array([one.tobytes() for one in np.asarray(drawn[name])], object) for name in drawn}
    expected = {
        "serving_default": ({"z": z, **given}, bundle.synthesis(w, still, **given)),
        "sample": ({"seed": SEEDS, "psi": psi}, drawn),
        "sample_bytes": ({"seed": SEEDS, "psi": psi}, raw | {"template": bundle.template_index(SEEDS)}),
        "mapping": ({"z": z}, {"w": w}),
        "synthesis": ({"w": w, "seed": SEEDS, **given}, bundle.synthesis(w, SEEDS, **given)),
    }
    if variant == "cond":
        expected["sample_given_mask"] = ({"seed": SEEDS, "psi": psi, **given}, bundle.sample(SEEDS, psi, **given))
    assert set(signatures) == {*expected, "geometry", "describe"}
    for name, (inputs, wanted) in expected.items():
        found = signatures[name](**{key: tf.constant(value) for key, value in inputs.items()})
        assert set(found) == set(wanted)
        for key, value in wanted.items():
            theirs, ours = found[key].numpy(), np.asarray(value)
            if key == "image_bytes":
                theirs, ours = (np.frombuffer(b"".join(both), "<f4") for both in (theirs, ours))
            if theirs.dtype.kind == "f":
                assert np.abs(theirs - ours).max() <= 1e-5 * np.abs(ours).max(), (name, key)
            else:
                assert np.array_equal(theirs, ours), (name, key)


@pytest.mark.parametrize("variant", ["base", "mask", "cond"])
def test_a_server_may_join_and_split_requests(all_variants, variant):
    """With batching on, one user would get another's images, or an error: TensorFlow Serving joins by first axes."""
    import tensorflow as tf

    rng = np.random.default_rng(0)
    for name, function in tf.saved_model.load(str(all_variants(variant))).signatures.items():
        specs = function.structured_input_signature[1]
        assert specs and all(spec.shape[0] is None for spec in specs.values())
        inputs = {
            key: rng.integers(0, 3, [size or 5 for size in spec.shape]).astype(spec.dtype.as_numpy_dtype)
            for key, spec in specs.items()
        }
        whole = function(**{key: tf.constant(value) for key, value in inputs.items()})
        first = function(**{key: tf.constant(value[:2]) for key, value in inputs.items()})
        last = function(**{key: tf.constant(value[2:]) for key, value in inputs.items()})
        for key, value in whole.items():
            joined = np.concatenate([first[key].numpy(), last[key].numpy()])
            assert value.shape[0] == len(joined) == 5
            if key == "image_bytes":
                value, joined = (np.frombuffer(b"".join(both), "<f4") for both in (value.numpy(), joined))
            if joined.dtype.kind == "f":
                assert np.allclose(value, joined, atol=1e-4), (name, key)
            else:
                assert np.array_equal(value, joined), (name, key)


@pytest.mark.parametrize("variant", ["base", "mask", "cond"])
def test_the_warm_up_asks_each_signature_once(all_variants, variant):
    """TensorFlow Serving refuses a version with a bad warm-up, and without one the first user waits."""
    pytest.importorskip("tensorflow_serving")
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    version = all_variants(variant)
    signatures = tf.saved_model.load(str(version)).signatures
    asked = []
    for record in tf.data.TFRecordDataset(str(version / "assets.extra" / "tf_serving_warmup_requests")):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        request = log.predict_log.request
        assert log.WhichOneof("log_type") == "predict_log" and request.model_spec.name == f"tiny-{variant}"
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        assert all(len(value) == 1 for value in inputs.values())
        signatures[request.model_spec.signature_name](**{name: tf.constant(value) for name, value in inputs.items()})
        asked.append(request.model_spec.signature_name)
    assert sorted(asked) == sorted(signatures)


def test_signatures_are_named_and_float32(exported):
    """Clients address tensors by name; other number formats have no form in JSON."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(exported))
    inputs = {
        name: {key: (spec.dtype.name, spec.shape.as_list()) for key, spec in fn.structured_input_signature[1].items()}
        for name, fn in loaded.signatures.items()
    }
    seed, psi, mask = ("int64", [None]), ("float32", [None]), ("int32", [None, 32, 48])
    z = ("float32", [None, 16])
    assert inputs["serving_default"] == {"z": z, "mask": mask}
    assert inputs["sample"] == {"seed": seed, "psi": psi}
    assert inputs["sample_given_mask"] == {"seed": seed, "psi": psi, "mask": mask}
    assert inputs["mapping"] == {"z": z} and set(inputs["synthesis"]) == {"w", "seed", "mask"}
    outputs = {
        name: {key: one.dtype.name for key, one in fn.structured_outputs.items()}
        for name, fn in loaded.signatures.items()
    }
    for name in ("serving_default", "sample", "sample_given_mask", "synthesis"):
        assert outputs[name] == {"image": "float32", "mask": "uint8"}
    geometry = loaded.signatures["geometry"](seed=tf.constant([3, 4], tf.int64))
    assert geometry["affine"].shape == (2, 4, 4) and geometry["scale"].shape == (2, 2)


def test_codes_and_styles_lead_to_the_same_image(exported):
    """Whoever edits styles behind a server would start from other images."""
    import tensorflow as tf

    signatures = tf.saved_model.load(str(exported)).signatures
    z = tf.constant(np.random.default_rng(0).normal(size=(2, 16)), tf.float32)
    mask = tf.zeros((2, 32, 48), tf.int32)
    whole = signatures["serving_default"](z=z, mask=mask)["image"]
    w = signatures["mapping"](z=z)["w"]
    parts = signatures["synthesis"](w=w, seed=tf.zeros(2, tf.int64), mask=mask)["image"]
    assert np.allclose(whole, parts, atol=1e-5 * float(np.abs(whole).max()))


def test_card_and_description_travel_and_hold_nothing_private(exported, models):
    """A model would be shared without its licence, or with a path of the trainer's machine."""
    for card in (models / "tiny-cond" / "MODEL_CARD.md", exported / "assets.extra" / "MODEL_CARD.md"):
        text = card.read_text()
        assert all(word in text for word in ("CC0", "tiny set", "2 patients", "not for diagnosis", "cc" * 32))
        # Whoever is given the model prepares data of its own to fit.
        assert "--axis axial --size 32x48 --spacing 1x0.5025" in text and "pixels of 1 x 0.5025 mm" in text
    info = json.loads((exported / "assets.extra" / "bundle.json").read_text())
    assert info["training_patients"] == ["aa" * 32, "bb" * 32] and info["options"] == {}
    blobs = b"".join(path.read_bytes() for path in exported.rglob("*") if path.is_file())
    assert b"/home/somebody" not in blobs


def test_what_is_no_generator_is_conditional(tmp_path, exported):
    """A traceback would be all that the user gets for a damaged or foreign model."""
    with pytest.raises(UserError, match="no generator of synthmed"):
        SavedModelGenerator(tmp_path)
    import shutil

    shutil.copytree(exported, tmp_path / "1")
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"damaged")
    with pytest.raises(UserError, match="cannot be loaded"):
        SavedModelGenerator(tmp_path / "1")


@pytest.mark.parametrize("name", ["", "a/b", "../up", "a:b", ".hidden"])
def test_names_that_no_server_takes_are_refused(tiny_bundle, tmp_path, name):
    """A model would be written outside the folder, or could not be asked for."""
    with pytest.raises(UserError, match="model name"):
        export_bundle(tiny_bundle("cond"), to=tmp_path, name=name)
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_a_told_generator_is_the_same_behind_an_export(tiny_bundle, tmp_path):
    """A served generator would be told of other slices than the run, and volumes could not be drawn from it."""
    bundle = tiny_bundle("cond", conditional=True)
    theirs = SavedModelGenerator(export_bundle(bundle, to=tmp_path, name="told"))
    assert theirs.info.conditioning == ("position", "shown") and len(theirs.info.attributes) == 5
    masks = np.random.default_rng(0).integers(0, 3, (4, 32, 48)).astype(np.int32)
    told = {"position": np.linspace(0, 1, 4, dtype=np.float32), "shown": np.eye(4, 2, dtype=np.float32)}
    for given in ((None, None), (masks, None), (None, told)):
        ours = {name: np.asarray(value) for name, value in bundle.sample(SEEDS, np.full(4, 0.7, "f4"), *given).items()}
        exported = theirs.sample_seeds(SEEDS, 0.7, *given)
        assert np.abs(ours["image"] - exported.images).max() <= 1e-5 * np.abs(ours["image"]).max()
        assert np.array_equal(ours["mask"], exported.labels)
        assert np.array_equal(bundle.template_index(SEEDS), exported.templates)


@pytest.mark.parametrize("variant", ["base", "mask", "cond"])
def test_signatures_of_told_generators(tiny_bundle, variant, eager):
    """`sample` would draw other slices than training showed, or nobody behind a server could ask for a position."""
    from synthmed.serving.signatures import generator_signatures

    bundle = tiny_bundle(variant, conditional=True)
    calls = {one.name: one.function for one in generator_signatures(bundle, bundle.info)}
    assert "sample_told" not in {one.name for one in generator_signatures(tiny_bundle(variant), bundle.info)}
    seed, psi = np.array([3, 9]), np.full(2, 0.7, np.float32)
    told = bundle.conditioning(seed)
    drawn, same = calls["sample"](seed, psi), calls["sample_told"](seed, psi, **told)
    other = calls["sample_told"](seed, psi, told["position"], 1 - told["shown"])
    assert np.array_equal(drawn["mask"], same["mask"]) and not np.array_equal(drawn["mask"], other["mask"])
    z = np.zeros((2, 16), np.float32)
    given = {"mask": np.zeros((2, 32, 48), np.int32)} if variant == "cond" else {}
    assert calls["serving_default"](z, **given)["mask"].shape == (2, 32, 48)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"loss": "logistic", "r1_gamma": 1.0, "path_weight": 2.0}, "logistic loss with lazy R1 and path length"),
        (
            {"loss": "relativistic", "r1_gamma": 1.0, "path_weight": 0.0},
            "relativistic pairing loss with lazy R1 and R2;",
        ),
        ({}, "the loss is not recorded"),
    ],
)
def test_the_card_names_the_loss_of_the_run(tiny_bundle, options, said):
    """A card would claim a training that was not."""
    from synthmed.serving.card import model_card

    info = tiny_bundle("cond").info.model_copy(update={"options": options})
    assert said in " ".join(model_card(info, version=1).split())
