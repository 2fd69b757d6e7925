"""What a server does when too much is asked of it, when it is told to end, and what it tells of itself."""

import http.client
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("tensorflow_serving")
pytest.importorskip("prometheus_client")

from half_server import HALF, ONE, ask, predict_by_grpc, running, until

from synthmed.serving.limits import Limits
from synthmed.serving.manager import ModelManager
from synthmed.serving.models_config import ModelConfig
from synthmed.serving.status import Code


def test_too_many_requests_are_refused_and_the_others_answered(held):
    """Under load the server would take memory until the machine kills it."""
    grpc = pytest.importorskip("grpc")
    limits = Limits(workers=2, queue=3)
    with running(held, limits=limits, grpc_port=0) as server, ThreadPoolExecutor(16) as pool:
        accepted = [pool.submit(ask, server) for _ in range(5)]
        until(lambda: server.backend.gate.admitted == 5 and len(held.calls) == 2)
        assert ask(server)[0] == 429
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            others = [pool.submit(predict_by_grpc, channel) for _ in range(5)]
            # Each protocol has places of its own.
            until(lambda: server.backend.gate.admitted == 10)
            with pytest.raises(grpc.RpcError) as caught:
                predict_by_grpc(channel)
            assert caught.value.code().name == "RESOURCE_EXHAUSTED"
            assert ask(server, "GET", "/v1/models/half")[0] == 200, "a full server still tells its state"
            held.go.set()
            assert [one.result()[0] for one in accepted] == [200] * 5
            assert all(one.result().outputs for one in others)
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
