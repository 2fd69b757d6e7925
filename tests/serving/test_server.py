"""The embedded server answers what the exported generator draws, over both protocols."""

import gzip
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("tensorflow_serving")

from synthmed.errors import UserError
from synthmed.generation.generate import generate
from synthmed.generation.generator import SavedModelGenerator, newest_version
from synthmed.serving.access import Access
from synthmed.serving.client import RestClient
from synthmed.serving.listener import bound_socket
from synthmed.serving.manager import ModelManager
from synthmed.serving.models_config import ModelConfig, models_below, read_models_config
from synthmed.serving.remote import RemoteGenerator
from synthmed.serving.server import EmbeddedServer


@pytest.fixture(scope="module")
def server(models):
    """A running server of both protocols."""
    manager = ModelManager(models_below(models))
    manager.load()
    embedded = EmbeddedServer(manager, rest_port=0, grpc_port=0)
    ready = threading.Event()
    thread = threading.Thread(target=embedded.run, kwargs={"ready": ready.set}, daemon=True)
    thread.start()
    assert ready.wait(300)
    yield embedded
    embedded.stop()
    thread.join(60)
    assert not thread.is_alive(), "the server did not stop"


def files_of(folder):
    """Return each file's bytes, but for gzip's time stamps."""
    read = {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: gzip.decompress(data) if name.suffix == ".gz" else data for name, data in read.items()}


def test_query_writes_what_generate_writes(server, models, tmp_path):
    """The same seed would mean other files, depending on where the generator runs."""
    generator = SavedModelGenerator(newest_version(models / "tiny-cond"))
    ours = generate(generator, tmp_path / "ours", n=10, seed=2, psi=0.9)
    remote = RemoteGenerator(RestClient(server.rest_url, model="tiny-cond"))
    theirs = generate(remote, tmp_path / "theirs", n=10, seed=2, psi=0.9)
    assert files_of(ours) == files_of(theirs)


def test_gzip_requests(server):
    """A client that compresses would be refused, or a bomb would fill the memory."""
    host = urlsplit(server.rest_url).netloc
    body = gzip.compress(b'{"signature_name": "geometry", "inputs": [1, 2]}')
    for sent, expected in ((body, 200), (body[:-9], 400), (b"no gzip", 400)):
        connection = http.client.HTTPConnection(host)
        connection.request("POST", "/v1/models/tiny-cond:predict", sent, {"Content-Encoding": "gzip"})
        response = connection.getresponse()
        answer = json.loads(response.read())
        connection.close()
        assert response.status == expected, answer
        assert response.headers.get("content-encoding") is None


def test_grpc_gives_what_rest_gives(server):
    """A client of one protocol would see another model than one of the other."""
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import (
        get_model_metadata_pb2,
        get_model_status_pb2,
        model_service_pb2_grpc,
        predict_pb2,
        prediction_service_pb2_grpc,
    )

    channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}")
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "tiny-cond"
    request.model_spec.signature_name = "sample"
    request.inputs["seed"].CopyFrom(tf.make_tensor_proto(np.arange(8), tf.int64))
    request.inputs["psi"].CopyFrom(tf.make_tensor_proto(np.ones(8, np.float32)))
    answer = stub.Predict(request, timeout=300)
    rest = RestClient(server.rest_url, model="tiny-cond").predict(
        "sample", {"seed": np.arange(8), "psi": np.ones(8, np.float32)}
    )
    assert np.array_equal(tf.make_ndarray(answer.outputs["image"]), np.array(rest["image"], np.float32))
    assert answer.model_spec.version.value == 1 and answer.model_spec.signature_name == "sample"

    def refused(change, call=stub.Predict):
        wrong = predict_pb2.PredictRequest()
        wrong.CopyFrom(request)
        change(wrong)
        with pytest.raises(grpc.RpcError) as caught:
            call(wrong, timeout=60)
        return caught.value.code().name

    assert refused(lambda r: setattr(r.model_spec, "name", "nope")) == "NOT_FOUND"
    assert refused(lambda r: r.inputs["psi"].tensor_shape.dim[0].__setattr__("size", 4)) == "INVALID_ARGUMENT"
    assert refused(lambda r: r.inputs["seed"].tensor_shape.dim[0].__setattr__("size", 2**40)) == "INVALID_ARGUMENT"
    raw = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    with pytest.raises(grpc.RpcError) as caught:
        raw(b"no message" * 9, timeout=60)
    assert caught.value.code().name == "INVALID_ARGUMENT"
    assert refused(lambda r: setattr(r.model_spec, "name", "")) == "INVALID_ARGUMENT"
    assert refused(lambda r: setattr(r.model_spec.version, "value", 9)) == "NOT_FOUND"
    assert refused(lambda r: setattr(r.model_spec, "version_label", "x")) == "INVALID_ARGUMENT"
    assert refused(lambda r: setattr(r.model_spec, "signature_name", "x")) == "FAILED_PRECONDITION"
    assert refused(lambda r: r.inputs.pop("psi")) == "INVALID_ARGUMENT"
    assert refused(lambda r: r.inputs["psi"].CopyFrom(tf.make_tensor_proto([1]))) == "INVALID_ARGUMENT"
    assert refused(lambda r: r.output_filter.append("x")) == "INVALID_ARGUMENT"
    assert refused(lambda r: r.output_filter.extend(["mask", "mask"])) == "INVALID_ARGUMENT"
    request.output_filter.append("mask")
    assert set(stub.Predict(request, timeout=60).outputs) == {"mask"}

    metadata = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    metadata.model_spec.name = "tiny-cond"
    described = stub.GetModelMetadata(metadata, timeout=60)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert described.metadata["signature_def"].Unpack(signatures)
    assert set(signatures.signature_def["sample"].inputs) == {"seed", "psi"}
    for fields in ([], ["x"]):
        del metadata.metadata_field[:]
        metadata.metadata_field.extend(fields)
        with pytest.raises(grpc.RpcError) as caught:
            stub.GetModelMetadata(metadata, timeout=60)
        assert caught.value.code().name == "INVALID_ARGUMENT"

    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "tiny-cond"
    states = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(status, timeout=60)
    assert [(one.version, one.state) for one in states.model_version_status] == [(1, 30)]
    channel.close()


def test_small_answers_are_sent_at_once():
    """Each single image over REST would take 40 ms longer: Nagle's rule waits for a delayed acknowledgement."""
    with bound_socket(Access(), 0, "--rest-port") as listening:
        listening.listen()
        with socket.create_connection(listening.getsockname()), listening.accept()[0] as accepted:
            # What asyncio asks of a connection before it turns Nagle's rule off.
            assert accepted.proto == socket.IPPROTO_TCP


def test_a_port_in_use_is_conditional(server, models):
    """A traceback would be all that the user gets, or a second server would take half of the requests."""
    for ports in ({"rest_port": server.rest_port}, {"rest_port": 0, "grpc_port": server.grpc_port}):
        with pytest.raises(UserError, match="port"):
            EmbeddedServer(ModelManager(models_below(models)), **ports)


def test_a_damaged_version_does_not_disturb_the_others(models, tmp_path):
    """One bad folder would take every model off the air."""
    import shutil

    shutil.copytree(models / "tiny-cond" / "1", tmp_path / "good" / "3")
    shutil.copytree(models / "tiny-cond" / "1", tmp_path / "bad" / "1")
    (tmp_path / "bad" / "1" / "saved_model.pb").write_bytes(b"damaged")
    manager = ModelManager(models_below(tmp_path))
    manager.load()
    assert [(one.name, one.version) for one in manager.servables()] == [("good", 3)]
    assert [one.state.name for one in manager.statuses("bad")] == ["END"] and len(manager.failures()) == 1
    with pytest.raises(UserError, match="cannot be loaded"):
        ModelManager([ModelConfig("bad", tmp_path / "bad")]).load()


def test_probes_of_the_containers_pass_on_the_embedded_server(server, tmp_path):
    """A pod would never be ready: what the probes ask for has to be what a server answers."""
    script = Path(__file__).parents[2] / "docker" / "ready.sh"
    if not script.is_file():
        pytest.skip("needs a checkout")
    port = str(urlsplit(server.rest_url).port)
    for names, codes in ((["tiny-cond"], (0, 0)), (["tiny-cond", "unknown"], (1, 0)), (["unknown"], (1, 1))):
        blocks = "".join(f'config {{ name: "{name}" base_path: "/models/{name}" }}\n' for name in names)
        (tmp_path / "models.config").write_text(f"model_config_list {{\n{blocks}}}\n", encoding="utf-8")
        run = [["bash", script, mode, tmp_path / "models.config", port] for mode in ("every", "any")]
        assert tuple(subprocess.run(one, timeout=60).returncode for one in run) == codes, names


def test_models_config_is_read(models, tmp_path):
    """A user of TensorFlow Serving could not bring the file along."""
    path = tmp_path / "models.config"
    path.write_text(
        f'model_config_list {{ config {{ name: "brain" base_path: "{models / "tiny-cond"}" '
        'model_platform: "tensorflow" model_version_policy { all {} } version_labels { key: "stable" value: 1 } } }'
    )
    (config,) = read_models_config(path)
    assert (config.name, config.latest, config.labels) == ("brain", 0, {"stable": 1})
    assert [version.name for version in config.chosen()] == ["1"]
    for text, message in (
        ("nonsense {", "no model_config_list"),
        ("", "names no model"),
        ('model_config_list { config { name: "a" base_path: "/nowhere" } }', "no version"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            read_models_config(path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_in_order(models, number):
    """Requests in flight would be lost, or a service manager would take the end for a crash."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ports = ["--rest-port", str(port), "--grpc-port", "0"]
    command = [sys.executable, "-m", "synthmed.cli.main", "serve", "--models", str(models), *ports]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if line.startswith("ready"):
                break
        assert lines[-1].startswith("ready"), lines
        RestClient(f"http://127.0.0.1:{port}", model="tiny-cond").check()
        process.send_signal(number)
        assert process.wait(120) == 0
    finally:
        process.kill()
        process.wait()
