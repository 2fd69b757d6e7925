"""What a user is told for each way in which a server can be wrong, over gRPC."""

import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

pytest.importorskip("grpc")

import grpc

from synthmed.errors import UserError
from synthmed.serving import modelclient, remote
from synthmed.serving.grpc_client import AVAILABLE, GrpcClient
from synthmed.serving.modelclient import Access
from synthmed.serving.remote import NEEDED, RemoteGenerator
from synthmed.serving.tensors import to_tensor
from synthmed.serving.wire import message

CODES = grpc.StatusCode


class Book(grpc.GenericRpcHandler):
    """Answers each method with what the test puts under its name: a list of messages or (code, details); the last
    one stays. What was asked is kept.
    """

    def __init__(self):
        self.answers = {"GetModelStatus": [status(AVAILABLE)], "GetModelMetadata": [metadata(*NEEDED)]}
        self.asked = []

    def service(self, details):
        """Return the handler of a call."""
        method = details.method.rpartition("/")[2]

        def answer(request, context):
            sent = message(f"{method}Request").FromString(request)
            self.asked.append((details.method, sent, dict(context.invocation_metadata())))
            queue = self.answers[method]
            found = queue.pop(0) if len(queue) > 1 else queue[0]
            if isinstance(found, tuple):
                context.abort(*found)
            return found if isinstance(found, bytes) else found.SerializeToString()

        return grpc.unary_unary_rpc_method_handler(answer)


def status(state):
    """Return the status of a model with one version."""
    answer = message("GetModelStatusResponse")()
    answer.model_version_status.add(version=1, state=state)
    return answer


def metadata(*names):
    """Return what a server says of a model with these signatures."""
    signatures = message("SignatureDefMap")()
    for name in names:
        signatures.signature_def[name].SetInParent()
    answer = message("GetModelMetadataResponse")()
    answer.metadata["signature_def"].value = signatures.SerializeToString()
    return answer


def predicted(**arrays):
    """Return a server's answer of these arrays."""
    answer = message("PredictResponse")()
    for name, array in arrays.items():
        answer.outputs[name].CopyFrom(to_tensor(np.asarray(array)))
    return answer


def started(book, credentials=None):
    """Return a running server and its port."""
    server = grpc.server(ThreadPoolExecutor(2), handlers=[book], options=[("grpc.so_reuseport", 0)])
    where = "127.0.0.1:0"
    port = server.add_secure_port(where, credentials) if credentials else server.add_insecure_port(where)
    server.start()
    return server, port


@pytest.fixture
def book():
    """Return the answers of a running server, and its address."""
    answers = Book()
    server, port = started(answers)
    yield answers, f"grpc://127.0.0.1:{port}"
    server.stop(0).wait()


@pytest.fixture
def impatient(monkeypatch):
    """Return the pauses that the client makes, which take no time."""
    pauses: list[float] = []
    monkeypatch.setattr(modelclient, "sleep", pauses.append)
    return pauses


def test_nobody_there_is_conditional(impatient):
    """The user would not know that the server is not running, or learn it after half a minute."""
    with pytest.raises(UserError, match="is the server running"):
        GrpcClient("grpc://127.0.0.1:9", model="m").check()
    assert not impatient


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ((CODES.NOT_FOUND, "Could not find any versions of model m"), "check --model"),
        ((CODES.UNAUTHENTICATED, "no token"), "SYNTHMED_TOKEN"),
        ((CODES.PERMISSION_DENIED, "token refused"), "SYNTHMED_TOKEN"),
        ((CODES.UNIMPLEMENTED, "Method not found!"), "check --url"),
        ((CODES.DEADLINE_EXCEEDED, "too long"), "--timeout"),
        ((CODES.INTERNAL, "broken\nmore"), "broken.*look into its log"),
        (status(20), "no available version"),
        (message("GetModelStatusResponse")(), "no available version"),
        (b"\xff\xff no message", "check --url"),
    ],
)
def test_wrong_servers_are_told(book, answer, text):
    """The user would not know which of address, model and server to mend."""
    answers, url = book
    answers.answers["GetModelStatus"] = [answer]
    with pytest.raises(UserError, match=text) as caught:
        GrpcClient(url, model="m").check()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "reason", "text"),
    [
        (CODES.FAILED_PRECONDITION, 'Serving signature key "x" not found.', "lacks a signature"),
        (CODES.INVALID_ARGUMENT, "input size does not match signature", "refuses what m was asked"),
        (CODES.RESOURCE_EXHAUSTED, "Received message larger than max (9 vs. 4)", "--batch"),
    ],
)
def test_refused_questions_are_told(book, code, reason, text):
    """The user would look for a fault of the network where the model or a limit is another one."""
    answers, url = book
    answers.answers["Predict"] = [(code, reason)]
    with pytest.raises(UserError, match=text):
        GrpcClient(url, model="m").predict("x", {})


def test_answers_longer_than_is_taken_are_told(book, impatient):
    """The user would be told that the server is busy, again and again."""
    answers, url = book
    answers.answers["Predict"] = [predicted(image=np.zeros(10_000, np.float32))]
    assert GrpcClient(url, model="m").predict("sample", {})["image"].shape == (10_000,)
    with pytest.raises(UserError, match="--batch"):
        GrpcClient(url, model="m", most_bytes=4096).predict("sample", {})
    assert not impatient


def test_a_busy_server_is_asked_again(book, impatient):
    """A set of a thousand items would fail because of one busy moment, or the server be asked without a pause."""
    answers, url = book
    busy = [(CODES.RESOURCE_EXHAUSTED, "queue is full"), (CODES.UNAVAILABLE, "loading")]
    answers.answers["Predict"] = [*busy, predicted(x=[1.5])]
    client = GrpcClient(url, model="m", access=Access("secret"))
    assert client.predict("sample", {"seed": np.array([7])})["x"].tolist() == [1.5]
    assert 0.1 < impatient[0] <= 0.25 < impatient[1] <= 0.5
    method, request, sent = answers.asked[-1]
    assert method == "/tensorflow.serving.PredictionService/Predict" and sent["authorization"] == "Bearer secret"
    assert request.model_spec.name == "m" and request.model_spec.signature_name == "sample"
    assert list(request.inputs) == ["seed"]


def test_a_server_that_starts_again_is_waited_for():
    """A set of a thousand items would fail because the server was restarted meanwhile."""
    answers = Book()
    server, port = started(answers)
    client = GrpcClient(f"grpc://127.0.0.1:{port}", model="m")
    client.check()
    server.stop(0).wait()
    again = grpc.server(ThreadPoolExecutor(2), handlers=[answers], options=[("grpc.so_reuseport", 0)])
    # Where another process took the port meanwhile, there is nothing to see.
    if not again.add_insecure_port(f"127.0.0.1:{port}"):
        pytest.skip("the port was taken")
    timer = threading.Timer(0.6, again.start)
    timer.start()
    client.check()
    timer.join()
    client.close()
    again.stop(0).wait()


def test_other_protocols_are_told(book, certificate, impatient):
    """The user would not know that the address is that of REST, lacks an s, or has one too many."""
    answers, url = book
    with pytest.raises(UserError, match="check --url|is the server running"):
        GrpcClient(f"grpc://127.0.0.1:{_http_port()}", model="m").check()
    with pytest.raises(UserError, match="grpc://"):
        GrpcClient(url.replace("grpc", "grpcs"), model="m").check()
    cert, key = certificate
    server, port = started(answers, grpc.ssl_server_credentials([(key.read_bytes(), cert.read_bytes())]))
    secure = f"grpcs://127.0.0.1:{port}"
    with pytest.raises(UserError, match="--ca-file"):
        GrpcClient(secure, model="m").check()
    with pytest.raises(UserError, match="not grpcs://"):
        GrpcClient(secure.replace("grpcs", "grpc"), model="m").check()
    GrpcClient(secure, model="m", access=Access(ca_file=cert)).check()
    server.stop(0).wait()


def _http_port() -> int:
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    threading.Thread(target=server.handle_request, daemon=True).start()
    return server.server_port


def test_a_model_without_the_signatures_is_conditional(book):
    """The user would read that a signature was not found, and not that the model is another one."""
    answers, url = book
    answers.answers["GetModelMetadata"] = [metadata("serving_default")]
    with pytest.raises(UserError, match=r"no signature describe.*check --model"):
        RemoteGenerator(GrpcClient(url, model="m"))


def test_damaged_tensors_are_told(book):
    """A traceback of NumPy would be all that the user gets."""
    answers, url = book
    damaged = predicted(x=np.zeros(3, np.float32))
    damaged.outputs["x"].tensor_content = b"\0" * 7
    answers.answers["Predict"] = [damaged]
    with pytest.raises(UserError, match="cut off"):
        GrpcClient(url, model="m").predict("sample", {})


def test_a_missing_package_is_conditional(monkeypatch):
    """A traceback would be all that the user of a plain installation gets for grpc://."""
    import sys

    monkeypatch.setitem(sys.modules, "synthmed.serving.grpc_client", None)
    with pytest.raises(UserError, match="http://"):
        remote.connect("grpc://127.0.0.1:8500", model="m")
