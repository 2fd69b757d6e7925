"""What the REST server has beside the protocol: a least rate, names with escapes, a page for people, an access log."""

import html.parser
import json
import re
import socket
import threading
import time

import pytest

pytest.importorskip("starlette")
pytest.importorskip("tensorflow_serving")
pytest.importorskip("prometheus_client")

from half_server import HALF, ONE, ask, predict_by_grpc, running, until

from synthmed.errors import UserError
from synthmed.serving import rest
from synthmed.serving.access import Access
from synthmed.serving.accesslog import AccessLog, peer_address, visible
from synthmed.serving.limits import Gate, Limits
from synthmed.serving.manager import ModelManager
from synthmed.serving.models_config import ModelConfig
from synthmed.serving.status import ServingError


def trickle(server, length=1000):
    """Return a connection that has sent the headers of a request and one byte of its body."""
    connection = socket.create_connection(("127.0.0.1", server.rest_port), timeout=60)
    connection.sendall(b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n{" % (HALF.encode(), length))
    return connection


def test_bodies_that_arrive_slowly_take_no_place(half, monkeypatch):
    """A few clients that send a byte a minute would keep everybody else out."""
    monkeypatch.setattr(rest, "BODY_SECONDS", 3.0)
    with running(ModelManager([ModelConfig("half", half)]), limits=Limits(workers=1, queue=1)) as server:
        slow = [trickle(server) for _ in range(30)]
        until(lambda: server.backend.gate.held == 30)
        assert server.backend.gate.admitted == 0
        assert ask(server)[0] == 200
        for connection in slow:
            answer = connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 504") and b"connection: close" in answer.lower()
            connection.close()
        until(lambda: server.backend.gate.held == 0)


def test_a_body_at_the_least_rate_is_read(half, monkeypatch):
    """A client behind a slow line would never be answered."""
    monkeypatch.setattr(rest, "BODY_SECONDS", 2.0)
    monkeypatch.setattr(rest, "BODY_BYTES", 4)
    with running(ModelManager([ModelConfig("half", half)])) as server, trickle(server, len(ONE)) as connection:
        start = time.monotonic()
        for position in range(1, len(ONE), 4):
            time.sleep(0.6)
            connection.sendall(ONE[position : position + 4])
        assert time.monotonic() - start > 2
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_protocols_take_turns():
    """Whoever asks by REST would wait for ever while gRPC clients come without end."""
    gate, order, held = Gate(Limits(workers=1)), [], threading.Event()
    tickets = [gate.ticket(protocol) for protocol in ["GRPC"] * 6 + ["REST"] * 3]
    first = gate.ticket("GRPC")
    threads = [threading.Thread(target=first.run, args=(held.wait,))]
    threads[0].start()
    until(lambda: gate.running == 1)
    for number, ticket in enumerate(tickets):
        threads.append(
            threading.Thread(target=ticket.run, args=(lambda ticket=ticket: order.append(ticket._protocol),))
        )
        threads[-1].start()
        until(lambda number=number: sum(map(len, gate._places._waiting.values())) == number + 1)
    held.set()
    for thread in threads:
        thread.join(60)
    assert order == ["GRPC", "REST"] * 3 + ["GRPC"] * 3
    assert gate._places._free == 1 and gate.running == 0


def test_places_are_counted_for_each_protocol():
    """A flood by gRPC would have every REST request refused."""
    gate = Gate(Limits(workers=1, queue=1))
    tickets = [gate.ticket("GRPC"), gate.ticket("GRPC")]
    with pytest.raises(ServingError):
        gate.ticket("GRPC")
    arriving = [gate.ticket("REST", arriving=True) for _ in range(3)]
    arriving[0].admit()
    arriving[1].admit()
    with pytest.raises(ServingError):
        arriving[2].admit()
    assert gate.admitted == 4
    for ticket in tickets + arriving:
        ticket.close()
    assert gate.admitted == 0


def test_who_gives_up_waiting_takes_no_place():
    """Each request that waited too long would leave the server with one worker less."""
    gate = Gate(Limits(workers=1, seconds=0.1))
    with gate.ticket("REST") as busy, gate.ticket("REST") as waiting, pytest.raises(ServingError):
        busy.run(lambda: waiting.run(lambda: None))
    assert gate.ticket("GRPC").run(lambda: 7) == 7


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("half%20model", 200),
        ("half%20model/versions/2", 200),
        ("half%20mode%6C", 200),
        ("half%2520model", 404),
        ("half%2Fmodel", 404),
        ("..%2F..%2Fhalf%20model", 404),
        ("%2e%2e", 404),
        ("half%20model%00", 404),
        ("half%FFmodel", 404),
        ("half%20model%2Fversions%2F2", 404),
    ],
)
def test_names_with_escapes_are_decoded(spaced, path, status):
    """A model whose name has a space or an umlaut could be loaded but never asked."""
    for colon in (":", "%3A"):
        assert ask(spaced, path=f"/v1/models/{path}{colon}predict")[0] == status
    assert ask(spaced, "GET", f"/v1/models/{path}/metadata")[0] == status


@pytest.fixture(scope="module")
def spaced(half):
    """A running server of `half` under names that need escapes."""
    names = "half model", "<script>alert('1')"
    with running(ModelManager([ModelConfig(name, half) for name in names])) as server:
        yield server


def test_more_dimensions_than_tensorflow_has_are_refused(half):
    """Sixty bytes would end the process: TensorFlow crashes on arrays that NumPy 2 allows."""
    grpc = pytest.importorskip("grpc")
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    request = predict_pb2.PredictRequest()
    request.model_spec.name = "half"
    request.inputs["x"].dtype = 1
    request.inputs["x"].float_val.append(1)
    with running(ModelManager([ModelConfig("half", half)]), grpc_port=0) as server:
        for rank, status in ((32, 200), (33, 400), (64, 400), (65, 400), (290, 400)):
            assert ask(server, body=b'{"inputs": %s1%s}' % (b"[" * rank, b"]" * rank))[0] == status
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            for _ in range(33):
                request.inputs["x"].tensor_shape.dim.add(size=1)
            with pytest.raises(grpc.RpcError) as caught:
                stub.Predict(request, timeout=60)
            assert caught.value.code().name == "INVALID_ARGUMENT"
            del request.inputs["x"].tensor_shape.dim[0]
            assert len(stub.Predict(request, timeout=60).outputs["y"].tensor_shape.dim) == 32


class Page(html.parser.HTMLParser):
    """Collects the texts, tags and links of a page."""

    def __init__(self, text):
        super().__init__()
        self.texts, self.tags, self.links = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src", "action")]

    def handle_data(self, data):
        self.texts.append(data)


def test_the_page_says_what_is_served(spaced):
    """Who opens the address in a browser would learn nothing, or a model's name would run as a script."""
    status, text = ask(spaced, "GET", "/")
    assert status == 200 and ask(spaced, "HEAD", "/") == (200, b"") and ask(spaced, "POST", "/")[0] == 404
    page = Page(text.decode())
    shown = "".join(page.texts)
    for wanted in ("half model", "<script>alert('1')", "AVAILABLE", "serving_default", "k: int32 [b, 2]"):
        assert wanted in shown
    assert "script" not in page.tags and "__saved_model_init_op" not in shown
    assert page.links and all(ask(spaced, "GET", link)[0] == 200 for link in page.links)
    example = re.search(r"curl -d '(.*)' \\\n\s+http://127.0.0.1:\d+(/v1/models/half%20model:predict)", shown)
    assert ask(spaced, path=example[2], body=example[1].encode())[0] == 200
    assert json.loads(example[1])["inputs"]


def test_the_page_asks_for_the_token(half):
    """Names of models would be open to whoever finds the port."""
    with running(ModelManager([ModelConfig("half", half)]), access=Access(token="0123456789abcdef")) as server:
        status, text = ask(server, "GET", "/")
        assert status == 401 and b"half" not in text


def test_the_access_log_has_a_line_for_each_request(half, tmp_path):
    """Nobody could say who asked for what, or a token or an image would end in a log."""
    grpc = pytest.importorskip("grpc")
    path = tmp_path / "access.log"
    with running(ModelManager([ModelConfig("half", half)]), access_log=AccessLog(path), grpc_port=0) as server:
        secret = {"Authorization": "Bearer secret-token-77"}
        answer = ask(server, headers=secret)[1]
        ask(server, path="/v1/models/%1B[31m%E2%80%AE:predict?token=secret-token-77", headers=secret)
        ask(server, "GET", "/healthz")
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            predict_by_grpc(channel)
    text = path.read_text(encoding="ascii")
    lines = [line.split(" ") for line in text.splitlines()]
    assert all(len(line) == 7 and line[0].endswith("+00:00") and float(line[6]) >= 0 for line in lines)
    assert [line[1:5] for line in lines] == [
        ["127.0.0.1", "REST:POST", HALF, "200"],
        ["127.0.0.1", "REST:POST", "/v1/models/%1B[31m%E2%80%AE:predict", "404"],
        ["127.0.0.1", "REST:GET", "/healthz", "200"],
        ["127.0.0.1", "GRPC:Predict", "half", "OK"],
    ]
    assert int(lines[0][5]) == len(answer) and int(lines[3][5]) > 0
    assert "secret" not in text and "\x1b" not in text


def test_the_access_log_cannot_be_forged_or_stop_the_server(tmp_path, capsys):
    """A name with a line break would add lines of its own; a full disk would end the answers."""
    assert visible("a b\n\x1b[0m\u202e\x7f\udcff") == "a\\x20b\\n\\x1b[0m\\u202e\\x7f\\udcff"
    assert len(visible("a" * 10_000)) == 300
    assert peer_address("ipv4:127.0.0.1:50") == "127.0.0.1" and peer_address("ipv6:%5B::1%5D:50") == "::1"
    with pytest.raises(UserError, match="--access-log"):
        AccessLog(tmp_path / "absent" / "log")
    said = []
    log = AccessLog(tmp_path / "log", notify=said.append)
    log.close()
    for _ in range(3):
        log.write(protocol="REST", client="", method="GET", path="", status="200", size=0, seconds=0)
    assert len(said) == 1
    AccessLog(None).write(protocol="REST", client="::1", method="GET", path="/", status="200", size=1, seconds=0.5)
    assert capsys.readouterr().err.endswith(" ::1 REST:GET / 200 1 0.500\n")
