"""Reading JSON as TensorFlow Serving does."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthmed.serving.jsontext import parse, printed
from synthmed.serving.status import Code, ServingError

numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(values, st.booleans(), st.sampled_from([None, 1]), st.sampled_from(["", " tail", "}{", "\x00"]))
def test_valid_json_means_the_same_as_to_python(value, ascii_only, indent, tail):
    """A client's numbers or texts would arrive as others, by either of the two parsers."""
    body = (json.dumps(value, ensure_ascii=ascii_only, indent=indent) + tail).encode()
    # A bare number would go on into the tail.
    if isinstance(value, int | float) and not isinstance(value, bool):
        return
    assert parse(body) == value
    # The byte order mark sends the body through our own parser.
    assert parse(b"\xef\xbb\xbf" + body) == value


@pytest.mark.parametrize(
    ("body", "message", "offset"),
    [
        (b"  ", "The document is empty.", 2),
        (b"{", "Missing a name for object member.", 1),
        (b'{"a"', "Missing a colon after a name of object member.", 4),
        (b'{"a":1', "Missing a comma or } after an object member.", 6),
        (b"[1 2]", "Missing a comma or ] after an array element.", 3),
        (b"[01]", "Missing a comma or ] after an array element.", 2),
        (b"[1,]", "Invalid value.", 3),
        (b"[nul]", "Invalid value.", 2),
        (b'["abc', "Missing a closing quotation mark in string.", 1),
        (rb'["\q"]', "Invalid escape character in string.", 2),
        (rb'["\u12g4"]', "Incorrect hex digit after \\u escape in string.", 2),
        (rb'["\ud800"]', "The surrogate pair in string is invalid.", 2),
        (b'["a\nb"]', "Invalid encoding in string.", 3),
        (b"[1.]", "Miss fraction part in number.", 3),
        (b"[1e]", "Miss exponent in number.", 3),
        (b"[1e999]", "Number too big to be stored in double.", 1),
        (b"[" * 100000, "Terminate parsing due to Handler error.", 300),
    ],
)
def test_bad_json_is_told_with_its_place(body, message, offset):
    """Whoever debugs a client would look at another place than TensorFlow Serving points to."""
    with pytest.raises(ServingError) as caught:
        parse(body)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.message == f"JSON Parse error: {message} at offset: {offset}"


@given(st.binary(max_size=60))
def test_any_bytes_are_answered(body):
    """A fuzzer would end the server."""
    try:
        parse(body)
    except ServingError as error:
        assert error.code is Code.INVALID_ARGUMENT


def test_what_json_itself_has_not():
    """NaN in an image, or bytes in a string, would be refused or altered."""
    found = parse(b"[NaN, Infinity, -Infinity, Inf, -Inf, 18446744073709551616]")
    assert math.isnan(found[0]) and found[1:] == [math.inf, -math.inf, math.inf, -math.inf, 2.0**64]
    assert isinstance(found[-1], float)
    assert parse(b'{"a": 1, "a": 2}') == {"a": 1}
    assert parse(b'"\xff"').encode("utf-8", "surrogateescape") == b"\xff"


def test_errors_show_values_as_tensorflow_serving_prints_them():
    """The text of an error would differ from TensorFlow Serving's."""
    assert printed({"a": [1, 2.5, {"b": None}], "c": {}}) == (
        '{\n    "a": [1, 2.5, {\n        "b": null\n    }],\n    "c": {}\n}'
    )
    assert printed(1e39) == "1e39" and printed(1e-7) == "1e-7"
