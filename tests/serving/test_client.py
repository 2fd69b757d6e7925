"""What a user is told for each way in which a server can be wrong."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from synthmed.errors import UserError
from synthmed.serving import modelclient
from synthmed.serving.client import RestClient
from synthmed.serving.remote import RemoteSampler

STATUS = json.dumps({"model_version_status": [{"version": "1", "state": "AVAILABLE", "status": {}}]})


@pytest.fixture
def answers():
    """Serve the answers that the test puts into a dictionary: {(verb, path end): [(status, text), ...]}."""
    book: dict = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self._reply("GET")

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self._reply("POST")

        def _reply(self, verb):
            queue = book[verb]
            status, text = queue.pop(0) if len(queue) > 1 else queue[0]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield book, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("url", ["nonsense", "", "ftp://host", "http://", "http://host:port", "grpc://host:8500"])
def test_nonsense_addresses_are_told(url):
    """A traceback of the standard library would be all that the user gets."""
    with pytest.raises(UserError, match="no address of a server"):
        RestClient(url, model="m")


def test_nobody_there_is_told():
    """The user would not know that the server is not running."""
    with pytest.raises(UserError, match="is the server running"):
        RestClient("http://127.0.0.1:9", model="m").check()


@pytest.mark.parametrize(
    ("status", "text", "message"),
    [
        (404, '{"error": "Could not find any versions of model m"}', "check --model"),
        (200, "<html>a router's page</html>", "check --url"),
        (200, '{"model_version_status": [{"version": "1", "state": "LOADING"}]}', "no available version"),
        (200, "[]", "no available version"),
        (500, '{"error": "broken\\nmore"}', "broken"),
    ],
)
def test_wrong_servers_are_told(answers, status, text, message):
    """The user would not know which of address, model and server to mend."""
    book, url = answers
    book["GET"] = [(status, text)]
    with pytest.raises(UserError, match=message) as caught:
        RestClient(url, model="m").check()
    assert "\n" not in str(caught.value)


def test_a_busy_server_is_asked_again(answers, monkeypatch):
    """A set of a thousand items would fail because of one busy moment."""
    monkeypatch.setattr(modelclient, "FIRST_PAUSE_SECONDS", 0.01)
    book, url = answers
    book["POST"] = [(429, "{}"), (503, "{}"), (200, '{"outputs": [1.5]}')]
    assert RestClient(url, model="m").predict("sample", {"seed": np.zeros(1, np.int64)}) == {"": [1.5]}


@pytest.mark.parametrize("description", ["{}", "no json", None, [1]])
def test_a_model_that_is_no_generator_is_told(answers, description):
    """Half a set would be written from a classifier's answers."""
    book, url = answers
    book["GET"] = [(200, STATUS)]
    book["POST"] = [(200, json.dumps({"outputs": [description]}))]
    with pytest.raises(UserError, match="something else than a generator"):
        RemoteSampler(RestClient(url, model="m"))


def test_answers_of_another_shape_are_told(answers, tiny_info):
    """Images of another model would be written under this one's name."""
    book, url = answers
    book["GET"] = [(200, STATUS)]
    book["POST"] = [
        (200, json.dumps({"outputs": [tiny_info("base").model_dump_json()]})),
        (200, json.dumps({"outputs": {"image": [[1.0]], "mask": [[1]]}})),
        (200, json.dumps({"outputs": {"template": [0]}})),
    ]
    with pytest.raises(UserError, match="something else than a generator"):
        RemoteSampler(RestClient(url, model="m")).sample(np.zeros(1, np.int64), 1.0)
