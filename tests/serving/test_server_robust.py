"""What a server does when too much is asked, when it is told to end, and when versions come and go."""

import http.client
import json
import runpy
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("tensorflow_serving")
pytest.importorskip("prometheus_client")

from synthmed.errors import UserError
from synthmed.serving.access import Access, read_token
from synthmed.serving.limits import Limits
from synthmed.serving.manager import ModelManager, State
from synthmed.serving.models_config import ModelConfig
from synthmed.serving.server import EmbeddedServer
from synthmed.serving.status import Code

HALF = "/v1/models/half:predict"
ONE = b'{"instances": [1]}'


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """Return a folder with the model `half` in versions 1 and 2, which synthmed did not make."""
    folder = tmp_path_factory.mktemp("half")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["half_model.py", str(folder)])
        runpy.run_path(str(Path(__file__).parents[1] / "conformance" / "half_model.py"), run_name="__main__")
    return folder / "half"


@contextmanager
def running(manager, **options):
    server = EmbeddedServer(manager, **({"rest_port": 0, "poll_seconds": 0} | options))
    ready = threading.Event()
    thread = threading.Thread(target=server.run, kwargs={"ready": ready.set}, daemon=True)
    thread.start()
    while not ready.wait(0.1):
        assert thread.is_alive(), "the server did not start"
    server.thread = thread
    try:
        yield server
    finally:
        server.stop()
        thread.join(60)
        assert not thread.is_alive(), "the server did not stop"


def ask(server, method="POST", path=HALF, body=ONE, headers=None, context=None):
    if server.access.tls:
        connection = http.client.HTTPSConnection("127.0.0.1", server.rest_port, timeout=60, context=context)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=60)
    try:
        connection.request(method, path, body if method == "POST" else None, headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def predict_by_grpc(channel, metadata=None):
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    request = predict_pb2.PredictRequest()
    request.model_spec.name = "half"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0], tf.float32))
    return prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=60, metadata=metadata)


@pytest.fixture
def held(half, monkeypatch):
    """Return a manager of `half` whose model waits until `go` is set, and counts in `calls` who has come."""
    manager = ModelManager([ModelConfig("half", half)])
    manager.load()
    (servable,) = manager.servables()
    manager.go, manager.calls, run = threading.Event(), [], servable.run

    def wait(signature, inputs):
        manager.calls.append(signature)
        assert manager.go.wait(60)
        return run(signature, inputs)

    monkeypatch.setattr(servable, "run", wait)
    yield manager
    manager.go.set()


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_too_many_requests_are_refused_and_the_others_answered(held):
    """Under load the server would take memory until the machine kills it."""
    grpc = pytest.importorskip("grpc")
    limits = Limits(workers=2, queue=3)
    with running(held, limits=limits, grpc_port=0) as server, ThreadPoolExecutor(8) as pool:
        accepted = [pool.submit(ask, server) for _ in range(5)]
        until(lambda: server.backend.gate.admitted == 5 and len(held.calls) == 2)
        assert ask(server)[0] == 429
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            with pytest.raises(grpc.RpcError) as caught:
                predict_by_grpc(channel)
            assert caught.value.code().name == "RESOURCE_EXHAUSTED"
            assert ask(server, "GET", "/v1/models/half")[0] == 200, "a full server still tells its state"
            held.go.set()
            assert [one.result()[0] for one in accepted] == [200] * 5
            assert predict_by_grpc(channel).model_spec.version.value == 2
        until(lambda: server.backend.gate.admitted == 0 and server.backend.gate.held == 0)


def test_a_request_that_takes_too_long_is_given_up(held):
    """A client would wait for ever, and so would those behind it."""
    with running(held, limits=Limits(workers=1, seconds=0.5)) as server:
        assert ask(server)[0] == 504
        assert ask(server)[0] == 504, "this one never got a worker"
        held.go.set()
        until(lambda: server.backend.gate.admitted == 0)
        assert ask(server)[0] == 200


def test_sizes_are_limited(half):
    """One request of gigabytes, or for gigabytes, would end the server."""
    manager = ModelManager([ModelConfig("half", half)])
    with running(manager, limits=Limits(request_bytes=1000, answer_bytes=400)) as server:
        status, text = ask(server, body=b'{"instances": [' + b"1," * 600 + b"1]}")
        assert status == 400 and b"larger than 1000 bytes" in text
        status, text = ask(server, body=b'{"instances": [' + b"1," * 150 + b"1]}")
        assert status == 400 and b"the answer would have 604 bytes" in text
        assert ask(server)[0] == 200


@pytest.mark.parametrize("protocol", ["REST", "gRPC"])
def test_the_end_waits_for_what_was_accepted(held, protocol):
    """Whoever restarts the server would lose the images that were being drawn."""
    grpc = pytest.importorskip("grpc")
    with running(held, grpc_port=0, limits=Limits(workers=2)) as server, ThreadPoolExecutor(8) as pool:
        channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}")
        ask_one = (lambda: ask(server)[0]) if protocol == "REST" else (lambda: bool(predict_by_grpc(channel)) and 200)
        accepted = [pool.submit(ask_one) for _ in range(6)]
        until(lambda: server.backend.gate.admitted == 6)
        server.stop()
        time.sleep(0.3)
        assert server.thread.is_alive()
        held.go.set()
        assert [one.result() for one in accepted] == [200] * 6
        server.thread.join(60)
        with pytest.raises(ConnectionRefusedError):
            ask(server)
        channel.close()


def test_a_connection_that_rests_may_ask_once_more_at_the_end(half):
    """A request that was on its way when the server was told to end would be cut off without an answer."""
    with running(ModelManager([ModelConfig("half", half)])) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=60)
        for stopped in (False, True):
            if stopped:
                server.stop()
            connection.request("POST", HALF, ONE)
            response = connection.getresponse()
            response.read()
            assert response.status == 200
            assert (response.headers.get("connection") == "close") == stopped
        connection.close()


def test_versions_are_swapped_without_losing_a_request(half, tmp_path):
    """An update at noon would fail requests, or go unnoticed until somebody restarts the server."""
    shutil.copytree(half / "1", tmp_path / "half" / "1")
    manager = ModelManager([ModelConfig("half", tmp_path / "half")])
    statuses, over = [], threading.Event()
    with running(manager, poll_seconds=0.05) as server:

        def hammer():
            while not over.is_set():
                statuses.append(ask(server)[0])

        threads = [threading.Thread(target=hammer) for _ in range(3)]
        for thread in threads:
            thread.start()
        shutil.copytree(half / "2", tmp_path / "arriving")
        (tmp_path / "arriving").rename(tmp_path / "half" / "2")
        until(lambda: [one.version for one in manager.servables()] == [2])
        told = json.loads(ask(server, "GET", "/v1/models/half")[1])["model_version_status"]
        over.set()
        for thread in threads:
            thread.join(60)
    assert statuses and set(statuses) == {200}
    assert [(one["version"], one["state"]) for one in told] == [("2", "AVAILABLE"), ("1", "END")]


def test_a_damaged_new_version_leaves_the_old_one_and_is_tried_again_when_mended(half, tmp_path):
    """A copy that was interrupted would take the model off the air, or never come on."""
    shutil.copytree(half / "1", tmp_path / "half" / "1")
    shutil.copytree(half / "2", tmp_path / "half" / "2")
    variables = tmp_path / "half" / "2" / "variables" / "variables.data-00000-of-00001"
    whole = variables.read_bytes()
    variables.write_bytes(whole[: len(whole) // 2])
    lines = []
    manager = ModelManager([ModelConfig("half", tmp_path / "half")], notify=lines.append)
    (tmp_path / "half" / "2").rename(tmp_path / "later")
    manager.load()
    (tmp_path / "later").rename(tmp_path / "half" / "2")
    manager.refresh()
    manager.refresh()
    assert manager.find("half").version == 1
    newer, older = manager.statuses("half")
    assert (newer.version, newer.state, older.state) == (2, State.END, State.AVAILABLE)
    assert "cannot be loaded" in newer.error and len(lines) == 1, "told once, not at each look"
    variables.write_bytes(whole)
    manager.refresh()
    assert manager.find("half").version == 2
    shutil.rmtree(tmp_path / "half" / "2")
    manager.refresh()
    assert manager.find("half").version == 1, "going back is deleting the new version"
    shutil.rmtree(tmp_path / "half" / "1")
    manager.refresh()
    assert manager.find("half").version == 1, "a folder that is away for a moment takes nothing off the air"


def test_models_and_labels_come_and_go_with_the_configuration(half):
    """Every change of models.config would need a restart."""
    configs = [ModelConfig("half", half, 0, (), {"stable": 1})]
    manager = ModelManager(configs, source=lambda: list(configs))
    manager.load()
    assert manager.find("half", label="stable").version == 1
    configs[:] = [ModelConfig("half", half, 0, (), {"stable": 2}), ModelConfig("other", half)]
    manager.refresh()
    assert manager.find("half", label="stable").version == 2 and manager.find("other").version == 2
    del configs[1]
    manager.refresh()
    assert not manager.known("other")


def test_warm_up_runs_at_the_load_and_a_bad_record_fails_it(half, tmp_path):
    """The first user would wait for what should have been prepared, or a broken model would go on the air."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    path = tmp_path / "half" / "1"
    shutil.copytree(half / "1", path)
    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.name = "half"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0], tf.float32))
    (path / "assets.extra").mkdir()
    records = path / "assets.extra" / "tf_serving_warmup_requests"
    for signature, fits in (("", True), ("none", False)):
        request.model_spec.signature_name = signature
        with tf.io.TFRecordWriter(str(records)) as writer:
            writer.write(log.SerializeToString())
        manager = ModelManager([ModelConfig("half", tmp_path / "half")])
        if fits:
            manager.load()
        else:
            with pytest.raises(UserError, match="warm-up request 0 fails"):
                manager.load()


def test_health_and_metrics(half, tmp_path):
    """Whoever runs the server would not see that it is slow, full or broken."""
    from prometheus_client.parser import text_string_to_metric_families

    grpc = pytest.importorskip("grpc")
    with running(ModelManager([ModelConfig("half", half)]), grpc_port=0) as server:
        assert ask(server, "GET", "/healthz")[0] == 200
        assert ask(server)[0] == 200 and ask(server, body=b"{")[0] == 400
        assert ask(server, path="/v1/models/stranger-77:predict")[0] == 404
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            predict_by_grpc(channel)
        text = ask(server, "GET", "/monitoring/prometheus/metrics")[1].decode()
        found = {
            (
                sample.name,
                *(sample.labels.get(key) for key in ("protocol", "method", "model", "version", "code")),
            ): value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            for value in [sample.value]
        }
        assert found["synthmed_requests_total", "REST", "Predict", "half", "2", "OK"] == 1
        assert found["synthmed_requests_total", "GRPC", "Predict", "half", "2", "OK"] == 1
        assert found["synthmed_requests_total", "REST", "Predict", "half", "", "INVALID_ARGUMENT"] == 1
        assert found["synthmed_requests_total", "REST", "Predict", "", "", "NOT_FOUND"] == 1
        assert found["synthmed_request_seconds_count", "REST", "Predict", "half", "2", "OK"] == 1
        assert (
            "stranger" not in text and 'synthmed_version_state{model="half",state="AVAILABLE",version="2"} 1.0' in text
        )
        server.backend.stopping = True
        assert ask(server, "GET", "/healthz")[0] == 503


def test_a_token_is_asked_for_by_both_protocols(half, tmp_path):
    """Everybody in the network could draw from the generator."""
    grpc = pytest.importorskip("grpc")
    (tmp_path / "token").write_text("0123456789abcdef\n")
    token = read_token(tmp_path / "token")
    assert token not in repr(Access(token=token))
    with running(ModelManager([ModelConfig("half", half)]), access=Access(token=token), grpc_port=0) as server:
        for sent in ("", "Bearer", "Bearer wrong", f"Basic {token}", f"Bearer {token}x", "Bearer \xe9"):
            assert ask(server, headers={"Authorization": sent})[0] == 401
            assert ask(server, "GET", "/monitoring/prometheus/metrics", headers={"Authorization": sent})[0] == 401
        assert ask(server, headers={"Authorization": f"Bearer {token}"})[0] == 200
        assert ask(server, "GET", "/healthz")[0] == 200
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            with pytest.raises(grpc.RpcError) as caught:
                predict_by_grpc(channel)
            assert caught.value.code().name == "UNAUTHENTICATED"
            assert predict_by_grpc(channel, [("authorization", f"Bearer {token}")]).outputs


def test_tls_on_both_protocols(half, tmp_path):
    """Tokens and images would cross the network in clear."""
    import ssl

    grpc = pytest.importorskip("grpc")
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not there")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*made.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    access = Access(certificate=certificate, key=key)
    with running(ModelManager([ModelConfig("half", half)]), access=access, grpc_port=0) as server:
        assert server.rest_url.startswith("https://")
        assert ask(server, context=ssl.create_default_context(cafile=certificate))[0] == 200
        credentials = grpc.ssl_channel_credentials(certificate.read_bytes())
        with grpc.secure_channel(f"127.0.0.1:{server.grpc_port}", credentials) as channel:
            assert predict_by_grpc(channel).outputs
    with pytest.raises(UserError, match="no certificate with its key"):
        Access(certificate=key, key=certificate)


def test_the_network_is_not_served_unguarded(tmp_path, monkeypatch):
    """A generator of patients' likenesses would be open to a hospital's network by a slip."""
    monkeypatch.delenv("SYNTHMED_TOKEN", raising=False)
    assert read_token(None) is None
    for host in ("0.0.0.0", "::", "192.0.2.1"):
        with pytest.raises(UserError, match="other machines"):
            Access(host)
        assert not Access(host, token="0123456789abcdef").is_local
    assert Access("localhost").is_local and Access("127.0.0.5").is_local
    with pytest.raises(UserError, match="--tls-key"):
        Access(certificate=tmp_path / "cert.pem")
    with pytest.raises(UserError, match="no address"):
        Access("no such host.invalid")
    monkeypatch.setenv("SYNTHMED_TOKEN", "short")
    with pytest.raises(UserError, match="SYNTHMED_TOKEN"):
        read_token(None)
    with pytest.raises(UserError, match="--token-file"):
        read_token(tmp_path / "absent")


def test_codes_become_the_http_statuses_of_tensorflow_serving():
    """A client would retry what cannot succeed, or give up on what could."""
    wanted = {400: "INVALID_ARGUMENT FAILED_PRECONDITION OUT_OF_RANGE", 404: "NOT_FOUND", 409: "ALREADY_EXISTS ABORTED"}
    wanted |= {403: "PERMISSION_DENIED", 401: "UNAUTHENTICATED", 429: "RESOURCE_EXHAUSTED", 501: "UNIMPLEMENTED"}
    wanted |= {503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED", 200: "OK"}
    statuses = {name: status for status, names in wanted.items() for name in names.split()}
    assert {code.name: code.http for code in Code} == {code.name: statuses.get(code.name, 500) for code in Code}


def test_answer_sizes_are_foretold_by_the_signature(half):
    """The limit of answers would come too late, when the memory is taken already."""
    manager = ModelManager([ModelConfig("half", half)])
    manager.load()
    servable = manager.find("half")
    assert servable.answer_bytes("", {"x": np.zeros(100, np.float32)}) == 400
    assert servable.answer_bytes("two", {"x": np.zeros(10, np.float32), "k": np.zeros((10, 2), np.int32)}) == 120
