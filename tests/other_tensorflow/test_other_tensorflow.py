"""Exported generators outside the TensorFlow that wrote them; see run.sh, which makes the environments."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
TENSORFLOWS = [one for one in os.environ.get("SYNTHMED_OTHER_TENSORFLOWS", "").split(":") if one]
OPENVINO = os.environ.get("SYNTHMED_OPENVINO_PYTHON")
VARIANTS = ("base", "mask", "cond")
# An environment of its own must not see the packages of this one.
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"TF_CPP_MIN_LOG_LEVEL": "3"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def exported(tiny_bundle, tmp_path_factory):
    """Return a function from a variant to an exported version and what its signatures were asked and answered."""
    from functools import cache

    import tensorflow as tf

    from synthmed.serving.export import export_bundle

    @cache
    def make(variant):
        version = export_bundle(tiny_bundle(variant), to=tmp_path_factory.mktemp("models"))
        rng = np.random.default_rng(0)
        answers = {}
        for name, function in tf.saved_model.load(str(version)).signatures.items():
            inputs = {}
            for key, spec in function.structured_input_signature[1].items():
                shape = [size or 3 for size in spec.shape]
                values = {"seed": [0, 5, 2**40], "psi": [1.0, 0.5, 0.0]}.get(key)
                drawn = rng.integers(0, 3, shape) if key == "mask" else rng.normal(size=shape)
                inputs[key] = np.asarray(drawn if values is None else values, spec.dtype.as_numpy_dtype)
            outputs = function(**{key: tf.constant(value) for key, value in inputs.items()})
            answers[name] = inputs, {key: value.numpy() for key, value in outputs.items()}
        return version, answers

    return make


@pytest.mark.skipif(not TENSORFLOWS, reason="needs other TensorFlows: tests/other_tensorflow/run.sh")
@pytest.mark.parametrize("python", TENSORFLOWS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_signature_under_another_tensorflow(exported, variant, python, tmp_path):
    """TensorFlow Serving is older than the TensorFlow that exports: it would refuse a model, or draw other images."""
    version, answers = exported(variant)
    arrays = {}
    for name, (inputs, outputs) in answers.items():
        arrays |= {f"{name}/in/{key}": value for key, value in inputs.items()}
        arrays |= {f"{name}/out/{key}": _plain(value) for key, value in outputs.items()}
    np.savez(tmp_path / "questions.npz", **arrays)
    said = _run(python, HERE / "check_export.py", version, tmp_path / "questions.npz")
    assert f"{len(answers)} signatures" in said
    print(said)


@pytest.mark.skipif(not OPENVINO, reason="needs OpenVINO: tests/other_tensorflow/run.sh")
@pytest.mark.parametrize("signature", ["mapping", "synthesis"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_mapping_and_synthesis_under_openvino(exported, variant, signature, tmp_path):
    """The generators would run on one engine alone: not on Intel's GPUs and NPUs."""
    version, answers = exported(variant)
    inputs, outputs = answers[signature]
    arrays = {f"in/{key}": value for key, value in inputs.items()}
    np.savez(tmp_path / "questions.npz", **arrays, **{f"out/{key}": value for key, value in outputs.items()})
    print(_run(OPENVINO, HERE / "check_openvino.py", _only(version, signature, tmp_path), tmp_path / "questions.npz"))


def _plain(value):
    """Return strings as uint8 of all their bytes, which NumPy's files hold without pickle."""
    return np.frombuffer(b"".join(value.tolist()), np.uint8) if value.dtype.kind == "O" else value


def _only(version: Path, signature: str, folder: Path) -> Path:
    """Return a copy of a SavedModel whose default signature is another one: OpenVINO reads no other."""
    from tensorflow.core.protobuf import saved_model_pb2

    copy = Path(shutil.copytree(version, folder / "1"))
    saved = saved_model_pb2.SavedModel.FromString((copy / "saved_model.pb").read_bytes())
    signatures = saved.meta_graphs[0].signature_def
    signatures["serving_default"].CopyFrom(signatures[signature])
    (copy / "saved_model.pb").write_bytes(saved.SerializeToString())
    return copy


def _run(python, *arguments: object) -> str:
    outcome = subprocess.run(
        [str(python), *map(str, arguments)], env=ENVIRONMENT, capture_output=True, text=True, cwd=HERE
    )
    assert outcome.returncode == 0, outcome.stderr[-3000:]
    return outcome.stdout.strip()
