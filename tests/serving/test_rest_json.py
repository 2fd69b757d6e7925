"""The JSON of the REST interface: requests to arrays, arrays to replies, and how much a request may cost."""

import json
import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from synthmed.serving import rest_json
from synthmed.serving.rest_json import MAX_DEPTH, array_of, parse, reply, request_arrays
from synthmed.serving.status import Code, ServingError

NAMES = {"float32": "float", "float64": "double", "bool": "bool"}
LONGEST_ERROR = 500

numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=20,
)
dtypes = st.sampled_from(["float32", "float64", "int8", "uint8", "int32", "int64", "uint32", "uint64", "bool"])
arrays = dtypes.flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4))
)


def refusal(call, *arguments):
    """Return the error of a call that must fail for the request's sake."""
    with pytest.raises(ServingError) as caught:
        call(*arguments)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.message and "\n" not in caught.value.message and len(caught.value.message) < LONGEST_ERROR
    return caught.value.message


@given(values, st.booleans(), st.sampled_from([None, 1]), st.sampled_from(["", " tail", "}{", "\x00", "[" * 1000]))
def test_valid_json_means_the_same_as_to_python(value, ascii_only, indent, tail):
    """A client's numbers or texts would arrive as others."""
    # A bare number would go on into the tail, and a text may have halves of a surrogate pair of its own.
    body = (json.dumps({"a": value}, ensure_ascii=ascii_only, indent=indent) + tail).encode()
    assert parse(body) == parse(b"\xef\xbb\xbf \n" + body) == {"a": value}


@given(st.binary(max_size=60) | st.text('[]{}:,"\\u0d8e1.-NaI ', max_size=40).map(str.encode))
def test_any_bytes_are_answered(body):
    """A fuzzer would end the server."""
    try:
        parse(body)
    except ServingError as error:
        assert error.code is Code.INVALID_ARGUMENT and len(error.message) < LONGEST_ERROR


@pytest.mark.parametrize(
    "body",
    [
        *(
            b"",
            b"  ",
            b"{",
            b'{"a"',
            b'{"a":1',
            b"[1 2]",
            b"[01]",
            b"[1,]",
            b"[nul]",
            b'["abc',
            rb'["\q"]',
            rb'["\u12g4"]',
        ),
        *(
            rb'["\ud800"]',
            rb'["\udc00\ud800"]',
            rb'["\\\ud800"]',
            b'["a\nb"]',
            b"[1.]",
            b"[1e]",
            b"[1e999]",
            b"[-1e999]",
        ),
        *(b"[" * 100_000, b'{"a":' * 100_000, b"[%s]" % (b"9" * 400), b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1)),
    ],
)
def test_bad_json_is_refused(body):
    """Nonsense would be taken for a request, or end the server."""
    refusal(parse, body)


def test_what_json_itself_has_not():
    """NaN in an image, or bytes in a string, would be refused or altered."""
    found = parse(b"[NaN, Infinity, -Infinity, 18446744073709551616, 123456789012345678901234567890]")
    assert math.isnan(found[0]) and found[1:] == [math.inf, -math.inf, 2.0**64, 123456789012345678901234567890.0]
    assert parse(b'{"a": 1, "b": 3, "a": 2}') == {"a": 1, "b": 3}
    assert parse(b'"\xff"').encode("utf-8", "surrogateescape") == b"\xff"
    assert parse(rb'["\ud83d\ude00", "\\ud800", "\\\\ud800"] "\ud800"') == ["\U0001f600", "\\ud800", "\\\\ud800"]


def test_depth_counts_what_is_nested_and_nothing_else():
    """Texts with brackets, or many lists side by side, would be refused as nested."""
    nested = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert parse(nested + b"[" * 1000)
    assert parse(json.dumps({"a": "[" * 1000, "b\\": '\\"' + "{" * 1000, "[[": 1}).encode())
    assert len(parse(b"[" + b"[]," * 10_000 + b"[]]")) == 10_001
    assert "deep" in refusal(parse, b'["a\\\\",' + nested + b"]")


def test_size_is_limited(monkeypatch):
    """A few megabytes of short lists would take gigabytes."""
    monkeypatch.setattr(rest_json, "MAX_PARTS", 100)
    monkeypatch.setattr(rest_json, "MAX_VALUES", 500)
    assert len(parse(b"[" + b"1," * 499 + b"1]")) == 500
    for item in (b"[]", b"{}", b'"ab"'):
        assert len(parse(b"[" + (item + b",") * 90 + item + b"]")) == 91
        assert "fewer" in refusal(parse, b"[" + (item + b",") * 110 + item + b"]")
    assert "fewer" in refusal(parse, b"[" + b"1," * 501 + b"1]")


@pytest.mark.parametrize(
    "item",
    [b"[[[[1]]]],", b'{"a":"[\\"","b":1e300},', b'"\\\\\\"",', b"9" * 5000 + b",", b"[" * 200 + b"]" * 200 + b","],
)
def test_a_megabyte_is_read_or_refused_soon(item):
    """One small request would occupy a processor for minutes; benchmarks/rest_parsing.py has the times of many more."""
    for body in (b'{"inputs": [' + item * (2**20 // len(item)) + b'"a"]}', item * (2**20 // len(item))):
        start = time.process_time()
        with pytest.raises(ServingError) as caught:
            request_arrays(parse(body), {"x": "float"})
        assert time.process_time() - start < 5 and len(caught.value.message) < LONGEST_ERROR


@given(arrays)
def test_a_reply_reads_back_to_the_same_array(array):
    """An image would lose digits on its way, or arrive in another shape."""
    dtype = NAMES.get(array.dtype.name, array.dtype.name)
    column = parse(reply("column", {"image": array}))["outputs"]
    assert np.array_equal(array_of(column, dtype, ""), array, equal_nan=array.dtype.kind == "f")
    rows = parse(reply("row", {"image": array, "number": np.arange(len(array))}))["predictions"]
    form, found = request_arrays({"instances": rows}, {"image": dtype, "number": "int64"})
    assert form == "row" and found["image"].dtype == array.dtype
    assert np.array_equal(found["image"], array, equal_nan=array.dtype.kind == "f")


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=4))
def test_bytes_survive(values):
    """PNG bytes from a `*_bytes` output would be damaged."""
    array = np.array([*values, b""], object)[:-1]
    text = parse(reply("column", {"png_bytes": array}))["outputs"]
    assert array_of(text, "string", "").tolist() == values


def test_empty_arrays_keep_their_shape():
    """An empty batch would be refused."""
    for shape in ((0,), (2, 0), (0, 3)):
        text = reply("column", {"image": np.zeros(shape, np.float32)})
        assert json.loads(text)["outputs"] == np.zeros(shape).tolist()
    assert array_of([[], []], "float", "").shape == (2, 0)


def test_float32_prints_short():
    """A reply would be twice as long as it needs to be."""
    assert reply("column", {"x": np.float32([0.1, 1e-5, 3, np.nan, -np.inf])}) == (
        b'{"outputs": [0.1, 1e-05, 3.0, NaN, -Infinity]}'
    )


@pytest.mark.parametrize(
    ("value", "dtype", "place"),
    [
        ([1, True], "float", "x[1] is true"),
        ([1, None], "float", "x[1] is null"),
        ([1, 1.0], "int32", "x[1] is 1.0"),
        ([0, 2**31], "int32", "x[1] is 2147483648"),
        ([[1], [-(2**63) - 1]], "int64", "x[1][0] is -9223372036854775809"),
        ([[1], [2**64]], "uint64", "x[1][0] is 18446744073709551616"),
        ([300], "uint8", "x[0] is 300"),
        ([-1], "uint64", "x[0] is -1"),
        ([1], "bool", "x[0] is 1"),
        ([[1, 2], [3]], "float", "x[1] is a list of 1"),
        ([[1], 2], "float", "x[1] is 2"),
        ([1, [2]], "float", "x[1] is a list of 1"),
        ([[[1, 2], [3, 4]], [[5, 6], [7, {"a": 1}]]], "float", "x[1][1][1] is an object"),
        (["a" * 1000], "float", 'x[0] is "aaaa'),
        ("a", "float", 'x is "a"'),
        ([{"b64": "a"}], "string", "base64"),
        ([{"b64": 5}], "string", "b64"),
    ],
)
def test_the_element_that_does_not_fit_is_named(value, dtype, place):
    """A wrong value would be taken for another one in silence, or searched for among thousands."""
    assert place in refusal(array_of, value, dtype, "x")


def test_elements_are_named_by_item_and_input():
    """In a batch of hundreds the user would search for the wrong one."""
    wanted = {"x": "float", "k": "int32"}
    good = {"x": 1, "k": [1, 2]}
    for wrong, place in (
        ({"x": 1, "k": [1, 3_000_000_000]}, "instances[2].k[1]"),
        ({"x": "text", "k": [1, 2]}, "instances[2].x is"),
        ({"x": 1, "k": [1]}, "instances[2].k is a list of 1"),
        ({"x": 1}, 'instances[2] has no "k"'),
        ({**good, "other" * 100: 1}, "instances[2] has an unknown"),
        (7, "instances[2] is 7"),
    ):
        assert place in refusal(request_arrays, {"instances": [good, good, wrong]}, wanted)
    assert "inputs.k[0]" in refusal(request_arrays, {"inputs": {"x": [1], "k": ["a"]}}, wanted)
    assert "k" in refusal(request_arrays, {"inputs": {"x": [1]}}, wanted)


def test_a_type_that_json_cannot_carry_is_not_implemented():
    """A client would search its values for a fault that they have not."""
    with pytest.raises(ServingError) as caught:
        array_of([1], "complex64", "x")
    assert caught.value.code is Code.UNIMPLEMENTED


def test_outputs_without_a_common_batch_have_no_rows():
    """Rows of different items would be joined."""
    for outputs in ({"a": np.zeros(2), "b": np.zeros(3)}, {"a": np.float32(1)}):
        assert "first axis" in refusal(reply, "row", outputs)
