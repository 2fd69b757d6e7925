"""What a user is told for each way in which a server can be wrong, over REST."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from synthmed.errors import UserError
from synthmed.serving import GeneratorClient, modelclient
from synthmed.serving.client import RestClient
from synthmed.serving.modelclient import Access, Address
from synthmed.serving.remote import NEEDED, RemoteGenerator

STATUS = json.dumps({"model_version_status": [{"version": "1", "state": "AVAILABLE", "status": {}}]})


def metadata(*names):
    """Return what a server says of a model with these signatures."""
    return json.dumps({"metadata": {"signature_def": {"signature_def": dict.fromkeys(names, {})}}})


GENERATOR = metadata(*NEEDED)


@pytest.fixture
def answers():
    """Serve the answers that the test puts into a dictionary: {verb: [(status, text), ...]}; the last one stays.

    A text may also be a triple with headers; what was asked is kept under "asked".
    """
    book: dict = {"asked": []}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self._reply("GET", "")

        def do_POST(self):
            self._reply("POST", self.rfile.read(int(self.headers["Content-Length"])))

        def _reply(self, verb, body):
            book["asked"].append((verb, self.path, body, dict(self.headers), self.client_address))
            queue = book[verb]
            status, text, *headers = queue.pop(0) if len(queue) > 1 else queue[0]
            if status is None:
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield book, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def impatient(monkeypatch):
    """Return the pauses that the client makes, which take no time."""
    pauses: list[float] = []
    monkeypatch.setattr(modelclient, "sleep", pauses.append)
    return pauses


@pytest.mark.parametrize("url", ["nonsense", "", "ftp://host", "http://", "http://host:port", "grpc:///path"])
def test_nonsense_addresses_are_told(url):
    """A traceback of the standard library would be all that the user gets."""
    with pytest.raises(UserError, match="no address of a server"):
        GeneratorClient(url, model="m")


def test_addresses_have_the_ports_of_their_protocols():
    """A server behind a proxy, or on its usual port, could not be named."""
    assert Address.parse("https://host/models/") == Address("https", "host", 443, "/models")
    assert Address.parse("grpcs://[::1]") == Address("grpcs", "::1", 8500, "")
    assert [Address.parse(f"{scheme}://h").secure for scheme in ("http", "https", "grpc", "grpcs")] == [0, 1, 0, 1]


def test_nobody_there_is_conditional(impatient):
    """The user would not know that the server is not running, or learn it after half a minute."""
    with pytest.raises(UserError, match="is the server running"):
        RestClient("http://127.0.0.1:9", model="m").check()
    assert not impatient


@pytest.mark.parametrize(
    ("status", "text", "message"),
    [
        (404, '{"error": "Could not find any versions of model m"}', "check --model"),
        (404, "<html>no such page</html>", "check --url"),
        (200, "<html>a router's page</html>", "check --url"),
        (200, '{"model_version_status": [{"version": "1", "state": "LOADING"}]}', "no available version"),
        (200, "[]", "no available version"),
        (500, '{"error": "broken\\nmore"}', r"\(500: broken\): look into its log"),
        (401, "<html>who are you</html>", "SYNTHMED_TOKEN"),
        (403, '{"error": "token refused"}', "SYNTHMED_TOKEN"),
        (413, "too much", "--batch"),
        (504, "", "--timeout"),
    ],
)
def test_wrong_servers_are_told(answers, status, text, message):
    """The user would not know which of address, model and server to mend."""
    book, url = answers
    book["GET"] = [(status, text)]
    with pytest.raises(UserError, match=message) as caught:
        RestClient(url, model="m").check()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ('Serving signature name: "x" not found in signature def', "lacks a signature"),
        ("Missing Inputs: psi", "refuses what m was asked"),
    ],
)
def test_refused_questions_are_told(answers, reason, message):
    """The user would look for a fault of the network where the model is another one."""
    book, url = answers
    book["POST"] = [(400, json.dumps({"error": reason}))]
    with pytest.raises(UserError, match=message):
        RestClient(url, model="m").predict("x", {})


def test_a_busy_server_is_asked_again(answers, impatient):
    """A set of a thousand items would fail because of one busy moment, or the server be asked without a pause."""
    book, url = answers
    book["POST"] = [(429, "{}"), (503, "<html>", ("Retry-After", "3")), (429, "{}"), (200, '{"outputs": [1.5]}')]
    assert RestClient(url, model="m").predict("sample", {"seed": np.zeros(1, np.int64)}) == {"": [1.5]}
    assert 0.1 < impatient[0] <= 0.25 and impatient[1] == 3 and 0.5 <= impatient[2] <= 1


def test_a_server_that_stays_busy_is_conditional(answers, impatient):
    """The client would wait for ever."""
    book, url = answers
    book["POST"] = [(429, '{"error": "queue full"}')]
    with pytest.raises(UserError, match="stays busy"):
        RestClient(url, model="m").predict("sample", {})
    assert len(impatient) == modelclient.RETRIES and 15 < sum(impatient) < 60


def test_a_server_that_starts_again_is_waited_for(answers, impatient):
    """A set of a thousand items would fail because the server was restarted meanwhile."""
    book, url = answers
    book["GET"], book["POST"] = [(200, STATUS)], [(None, ""), (None, ""), (None, ""), (200, '{"outputs": [1.5]}')]
    client = RestClient(url, model="m")
    client.check()
    assert client.predict("sample", {}) == {"": [1.5]} and impatient
    book["POST"] = [(None, "")]
    with pytest.raises(UserError, match="ended the connection"):
        RestClient(url, model="m").predict("sample", {})


def test_one_connection_serves_many_questions_and_carries_the_token(answers):
    """Each small question would pay for a new connection, or be refused."""
    book, url = answers
    book["GET"], book["POST"] = [(200, STATUS)], [(200, '{"outputs": [1.5]}')]
    client = RestClient(url, model="m", access=Access("secret"))
    client.check()
    for _ in range(3):
        client.predict("sample", {})
    asked = book["asked"]
    assert len({address for *_, address in asked}) == 1
    assert {headers["Authorization"] for *_, headers, _ in asked} == {"Bearer secret"}


def test_other_protocols_are_told(tls):
    """The user would not know that the address lacks an s, or has one too many, or which certificate is meant."""
    url, certificate = tls
    plain = url.replace("https", "http")
    with pytest.raises(UserError, match=r"https://|ended the connection"):
        RestClient(plain, model="m").check()
    with pytest.raises(UserError, match="--ca-file"):
        RestClient(url, model="m").check()
    RestClient(url, model="m", access=Access(ca_file=certificate)).check()
    with pytest.raises(UserError, match="holds no certificates"):
        RestClient(url, model="m", access=Access(ca_file=certificate.with_name("none")))


def test_tls_asked_of_a_plain_server_is_conditional(answers):
    """The user would not know that the address has an s too many."""
    _, url = answers
    with pytest.raises(UserError, match="http://"):
        RestClient(url.replace("http", "https"), model="m").check()


@pytest.mark.parametrize("description", ["{}", "no json", None, [1]])
def test_a_model_that_is_no_generator_is_conditional(answers, description):
    """Half a set would be written from a classifier's answers."""
    book, url = answers
    book["GET"] = [(200, STATUS), (200, GENERATOR)]
    book["POST"] = [(200, json.dumps({"outputs": [description]}))]
    with pytest.raises(UserError, match="something else than a generator"):
        RemoteGenerator(RestClient(url, model="m"))


@pytest.mark.parametrize("text", [metadata("serving_default"), STATUS, "[]"])
def test_a_model_without_the_signatures_is_conditional(answers, text):
    """The user would read that a signature was not found, and not that the model is another one."""
    book, url = answers
    book["GET"] = [(200, STATUS), (200, text)]
    with pytest.raises(UserError, match=r"check --model|check --url"):
        RemoteGenerator(RestClient(url, model="m"))


def test_a_generator_of_another_version_is_conditional(answers, tiny_info):
    """The user would look for a fault of the model where one of both sides is old."""
    book, url = answers
    book["GET"] = [(200, STATUS), (200, GENERATOR)]
    description = tiny_info("base").model_dump(mode="json") | {"version": "9.0", "new": 1}
    book["POST"] = [(200, json.dumps({"outputs": [json.dumps(description)]}))]
    with pytest.raises(UserError, match=r"synthmed 9\.0"):
        RemoteGenerator(RestClient(url, model="m"))


def test_answers_of_another_shape_are_told(answers, tiny_info):
    """Images of another model would be written under this one's name."""
    book, url = answers
    description = (200, json.dumps({"outputs": [tiny_info("base").model_dump_json()]}))
    book["GET"] = [(200, STATUS), (200, GENERATOR)]
    book["POST"] = [
        description,
        (200, json.dumps({"outputs": {"image": [[1.0]], "mask": [[1]]}})),
        (200, json.dumps({"outputs": {"template": [0]}})),
    ]
    with pytest.raises(UserError, match="something else than a generator"):
        RemoteGenerator(RestClient(url, model="m"), batch=1).sample_seeds(np.zeros(1, np.int64), 1.0)
    short = {"b64": base64.b64encode(b"short").decode()}
    for wrong in ([short], ["no base64"], [{"b64": "?"}], None):
        book["GET"] = [(200, STATUS), (200, metadata(*NEEDED, "sample_bytes"))]
        outputs = {"image_bytes": wrong, "mask_bytes": [short], "template": [0]}
        book["POST"] = [description, (200, json.dumps({"outputs": outputs}))]
        with pytest.raises(UserError, match=r"something else than a generator|check --url"):
            RemoteGenerator(RestClient(url, model="m"), batch=1).sample_seeds(np.zeros(1, np.int64), 1.0)
