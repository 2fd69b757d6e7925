"""The rules of TensorFlow Serving's REST interface beyond the recorded cases, asked of any server: see conftest.py."""

import gzip
import json
import math
import random
import re
import struct

import numpy as np
import pytest

V = "/v1/models"
HALF = f"{V}/half:predict"


@pytest.fixture
def post(ask):
    """Return a function that posts a body, text or a value, to `half` and returns (status, parsed answer)."""

    def send(body, path=HALF, headers=None):
        text = body if isinstance(body, (str, bytes)) else json.dumps(body)
        status, _, answer = ask("POST", path, text.encode() if isinstance(text, str) else text, headers)
        return status, json.loads(answer)

    return send


@pytest.mark.parametrize(
    ("path", "versions"),
    [
        (f"{V}/half", ["2", "1"]),
        (f"{V}/half/versions/1", ["1"]),
        (f"{V}/half/versions/2", ["2"]),
        (f"{V}/half/labels/stable", ["2", "1"]),
        (f"{V}/half/labels/unheard-of", ["2", "1"]),
    ],
)
def test_status_tells_versions_newest_first(ask, path, versions):
    """A client that waits for a version would wait for the wrong one."""
    status, headers, text = ask("GET", path)
    assert status == 200 and headers["content-type"].startswith("application/json")
    told = json.loads(text)["model_version_status"]
    assert [one["version"] for one in told] == versions
    assert all(one["state"] == "AVAILABLE" and one["status"]["error_code"] == "OK" for one in told)


@pytest.mark.parametrize(
    ("path", "named"),
    [
        (f"{V}/absent", "absent"),
        (f"{V}/half/versions/77", "77"),
        (f"{V}/absent/metadata", "absent"),
        (f"{V}/half/versions/77/metadata", "77"),
    ],
)
def test_what_is_not_there_is_404(ask, path, named):
    """A client could not tell a missing model from a wrong request."""
    status, _, text = ask("GET", path)
    answer = json.loads(text)
    assert status == 404 and list(answer) == ["error"] and named in answer["error"]


@pytest.mark.parametrize(
    ("path", "version"),
    [
        (f"{V}/half/metadata", "2"),
        (f"{V}/half/versions/1/metadata", "1"),
        (f"{V}/half/labels/stable/metadata", "1"),
        (f"{V}/half/labels/canary/metadata", "2"),
    ],
)
def test_metadata_is_of_the_version_asked_for(ask, path, version):
    """A client would prepare its inputs for another version."""
    status, _, text = ask("GET", path)
    answer = json.loads(text)
    assert status == 200
    assert answer["model_spec"] == {"name": "half", "signature_name": "", "version": version}
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    assert {"serving_default", "two", "raw", "nan"} <= set(signatures)
    assert signatures["two"]["inputs"]["k"]["tensor_shape"]["dim"][1]["size"] == "2"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", HALF),
        ("DELETE", HALF),
        ("PATCH", f"{V}/half"),
        ("POST", f"{V}/half/metadata"),
        ("POST", f"{V}/half/versions/1"),
        ("GET", f"{V}/half:predict"),
        ("GET", f"{V}/half/"),
        ("GET", f"{V}/half/versions/1/"),
        ("GET", f"{V}/half/versions/x"),
        ("GET", f"{V}/half/versions/-1"),
        ("GET", f"{V}/half/nonsense"),
        ("GET", f"{V}/half/metadata/more"),
        ("POST", f"{V}/half:Predict"),
        ("POST", f"{V}/half:predict/"),
        ("POST", f"{V}/half/versions/1/labels/stable:predict"),
        ("POST", f"{V}/:predict"),
    ],
)
def test_what_no_rule_covers_is_malformed(ask, method, path):
    """A slip in the path would be answered with something that looks like a result."""
    status, _, text = ask(method, path, b"{}" if method != "GET" else None)
    answer = json.loads(text)
    assert status == 400 and list(answer) == ["error"] and path in answer["error"]


@pytest.mark.parametrize("path", ["/v2/models/half", "/index.html", "/models/half"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_outside_the_interface_is_html(ask, method, path):
    """A browser, or a probe for another service, would be misled."""
    status, headers, _ = ask(method, path, b"{}" if method == "POST" else None)
    assert status == 404 and headers["content-type"].startswith("text/html")


@pytest.mark.parametrize(
    ("path", "status", "named"),
    [
        (f"{V}/absent:predict", 404, "absent"),
        (f"{V}/half/versions/77:predict", 404, "77"),
        (f"{V}/half/labels/none:predict", 400, "none"),
    ],
)
def test_predict_where_nothing_is(post, path, status, named):
    """A request for a version that is gone would silently run on another."""
    found, answer = post({"instances": [1]}, path)
    assert found == status and list(answer) == ["error"] and named in answer["error"]


@pytest.mark.parametrize("where", ["/versions/1", "/versions/2", "/labels/stable", "/labels/canary", ""])
def test_predict_by_version_and_label(post, where):
    """Clients that pin a version or a label would be refused."""
    assert post({"instances": [1.0, 3.0]}, f"{V}/half{where}:predict") == (200, {"predictions": [2.5, 3.5]})


@pytest.mark.parametrize(
    "body",
    [
        "",
        " ",
        "nonsense",
        "{",
        '{"instances": [1]',
        "[]",
        "1",
        "null",
        '"text"',
        "{}",
        '{"signature_name": ""}',
        '{"instances": [1], "inputs": [1]}',
        '{"instances": {}}',
        '{"instances": "x"}',
        '{"instances": null}',
        '{"instances": []}',
        '{"inputs": "x"}',
        '{"inputs": null}',
        '{"inputs": {}}',
        '{"inputs": {"y": [1]}}',
        '{"instances": [null]}',
        '{"instances": [true]}',
        '{"instances": [1, "1"]}',
        '{"instances": [[1], 1]}',
        '{"instances": [1, [1]]}',
        '{"instances": [[1, 2], [3]]}',
        '{"instances": [{"b64": "AAAA"}]}',
        '{"instances": [{"x": 1}, 1]}',
        '{"instances": [1, {"x": 1}]}',
        '{"instances": [{"x": 1}, {}]}',
        '{"signature_name": null, "instances": [1]}',
        '{"signature_name": ["two"], "instances": [1]}',
        '{"signature_name": "none", "instances": [1]}',
        '{"signature_name": "__saved_model_init_op", "instances": [1]}',
        '{"signature_name": "two", "instances": [{"x": 1, "k": [1, 2.5]}]}',
        '{"signature_name": "two", "instances": [{"x": 1, "k": [1, 2147483648]}]}',
        '{"signature_name": "two", "instances": [{"x": 1, "k": [1, -2147483649]}]}',
        '{"signature_name": "two", "instances": [{"x": 1, "k": [1, null]}]}',
        '{"signature_name": "two", "instances": [{"x": 1, "k": [1, true]}]}',
        '{"signature_name": "two", "instances": [{"x": 1, "k": [1, 2], "q": 3}]}',
        '{"signature_name": "two", "instances": [{"x": 1, "k": [1, 2]}, {"x": 1, "k": [1]}]}',
        '{"signature_name": "two", "inputs": {"x": [1]}}',
        '{"signature_name": "two", "inputs": [1]}',
        '{"signature_name": "raw", "instances": [{"b64": "!!"}]}',
        '{"signature_name": "raw", "instances": [{"b64": 5}]}',
        '{"signature_name": "raw", "instances": [null]}',
    ],
)
def test_wrong_bodies_are_refused(post, body):
    """A mistake would come back as a number, or as a fault of the server."""
    status, answer = post(body)
    assert status == 400 and list(answer) == ["error"] and answer["error"]


@pytest.mark.parametrize(
    ("body", "element"),
    [
        ('{"instances": [1, "a"]}', r"\b1\b"),
        ('{"instances": [1, 2, null]}', r"\b2\b"),
        ('{"signature_name": "two", "instances": [{"x": 1, "k": [1, 3000000000]}]}', r"\b0\b.*\bk\b"),
    ],
)
def test_the_wrong_element_is_named(post, body, element):
    """In a batch of hundreds the user would search for it."""
    assert re.search(element, post(body)[1]["error"])


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ('{"inputs": [1], "more": {"a": [1]}, "b": null}', {"outputs": [2.5]}),
        ('{"inputs": [1]}]]}} and more', {"outputs": [2.5]}),
        (' \n\t{"inputs": [1]}', {"outputs": [2.5]}),
        ('{"signature_name": "", "inputs": [1]}', {"outputs": [2.5]}),
        ('{"signature_name": "serving_default", "inputs": [1]}', {"outputs": [2.5]}),
        ('{"inputs": {"x": [1], "unknown": "ignored"}}', {"outputs": [2.5]}),
        ('{"instances": [[[1], [2]], [[3], [5]]]}', {"predictions": [[[2.5], [3.0]], [[3.5], [4.5]]]}),
        ('{"inputs": []}', {"outputs": []}),
        ('{"signature_name": "two", "inputs": {"x": [1], "k": []}}', None),
        (
            '{"signature_name": "two", "instances": [{"k": [1, -2147483648], "x": 3}]}',
            {"predictions": [{"y": 3.5, "z": [2, 0]}]},
        ),
        (
            '{"signature_name": "raw", "inputs": ["a", {"b64": "AP8="}]}',
            None,
        ),
    ],
)
def test_what_is_accepted(post, ask, body, answer):
    """Requests that work elsewhere would be refused here."""
    if answer is None:
        # Answers that are no JSON text for every parser, or whose shape the model decides: only no fault of the server.
        assert ask("POST", HALF, body.encode())[0] in (200, 400)
    else:
        assert post(body) == (200, answer)


def test_only_outputs_named_bytes_come_back_as_base64(post):
    """A client could not tell text from base64."""
    status, answer = post({"signature_name": "raw", "inputs": {"img_bytes": [{"b64": "aGk="}, "ho"]}})
    assert status == 200
    assert answer["outputs"] == {"echo": ["hi", "ho"], "echo_bytes": [{"b64": "aGk="}, {"b64": "aG8="}], "len": [2, 2]}


def test_a_shape_that_the_model_refuses_is_conditional_in_its_words(post):
    """The user would not learn which shape was wrong."""
    status, answer = post({"signature_name": "nan", "instances": [2, 3]})
    assert status == 400 and "hape" in answer["error"]


def test_float32_comes_back_to_the_last_bit(post):
    """Images from a server would differ from the model's own."""
    random.seed(0)
    values = [struct.unpack("<f", struct.pack("<I", random.getrandbits(32)))[0] for _ in range(2000)]
    values = [value for value in values if math.isfinite(value)] + [0.0, -0.0, 1e-45, 3.4028234663852886e38]
    status, answer = post({"inputs": values})
    # Half of a float32 and two more: the reference rounds as the model does.
    expected = np.float32(0.5) * np.array(values, np.float32) + np.float32(2)
    assert status == 200
    assert np.array_equal(np.array(answer["outputs"], np.float32), expected)


def test_not_a_number_and_infinities(ask):
    """A model that overflows would be answered with a fault of the server."""
    status, _, text = ask("POST", HALF, b'{"instances": [NaN, Infinity, -Infinity, 1e400, -1e400]}')
    if status == 200:
        found = json.loads(text)["predictions"]
        assert math.isnan(found[0]) and found[1:3] == [math.inf, -math.inf]
    status, _, text = ask("POST", HALF, b'{"instances": [NaN, Infinity, -Infinity]}')
    assert status == 200 and b"NaN" in text and b"Infinity" in text and b'"NaN"' not in text


def test_gzip_requests_are_read_and_answers_never_packed(ask):
    """A client that compresses would be refused, or get what it did not ask for."""
    body = gzip.compress(b'{"instances": [1]}')
    headers = {"Content-Encoding": "gzip", "Accept-Encoding": "gzip"}
    status, answered, text = ask("POST", HALF, body, headers)
    assert (status, json.loads(text)) == (200, {"predictions": [2.5]})
    assert answered.get("content-encoding") is None
    for corrupt in (b"no gzip", body[:10], body[:5] + b"\0\0\0\0" + body[9:-8] + bytes(8)):
        assert ask("POST", HALF, corrupt, headers)[0] == 400


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "image/png", ""])
def test_content_type_is_ignored(post, kind):
    """Curl -d, which claims a form, would not work."""
    assert post({"instances": [1]}, headers={"Content-Type": kind}) == (200, {"predictions": [2.5]})
