"""Arrays from the JSON of requests, and the JSON of replies from arrays."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from synthmed.serving.jsonreply import reply
from synthmed.serving.jsontensor import array_of, request_arrays
from synthmed.serving.jsontext import parse
from synthmed.serving.status import ServingError

NAMES = {"float32": "float", "float64": "double", "bool": "bool"}
dtypes = st.sampled_from(["float32", "float64", "int8", "uint8", "int32", "int64", "uint32", "uint64", "bool"])
arrays = dtypes.flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4))
)


@given(arrays)
def test_a_reply_reads_back_to_the_same_array(array):
    """An image would lose digits on its way, or arrive in another shape."""
    dtype = NAMES.get(array.dtype.name, array.dtype.name)
    column = parse(reply("column", {"image": array}))["outputs"]
    assert np.array_equal(array_of(column, dtype), array, equal_nan=array.dtype.kind == "f")
    rows = parse(reply("row", {"image": array, "number": np.arange(len(array))}))["predictions"]
    form, found = request_arrays({"instances": rows}, {"image": dtype, "number": "int64"})
    assert form == "row" and found["image"].dtype == array.dtype
    assert np.array_equal(found["image"], array, equal_nan=array.dtype.kind == "f")


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=4))
def test_bytes_survive(values):
    """PNG bytes from a `*_bytes` output would be damaged."""
    array = np.array([*values, b""], object)[:-1]
    text = parse(reply("column", {"png_bytes": array}))["outputs"]
    assert array_of(text, "string").tolist() == values


def test_empty_arrays_keep_their_shape():
    """An empty batch would be refused."""
    for shape in ((0,), (2, 0), (0, 3)):
        text = reply("column", {"image": np.zeros(shape, np.float32)})
        assert json.loads(text)["outputs"] == np.zeros(shape).tolist()
    assert array_of([[], []], "float").shape == (2, 0)


def test_float32_prints_short():
    """A reply would be twice as long as it needs to be."""
    assert reply("column", {"x": np.float32([0.1, 1e-5, 3, np.nan, -np.inf])}) == (
        b'{"outputs": [0.1, 1e-05, 3.0, NaN, -Infinity]}'
    )


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        ([1, True], "float", "JSON Value: true Type: True is not of expected type: float"),
        ([1, None], "float", "JSON Value: null Type: Null is not of expected type: float"),
        ([1, 1.0], "int32", "JSON Value: 1.0 Type: Number is not of expected type: int32"),
        ([2**31], "int32", "JSON Value: 2147483648 Type: Number is not of expected type: int32"),
        ([300], "uint8", "JSON Value: 300 Type: Number is not of expected type: uint8"),
        ([1], "bool", "JSON Value: 1 Type: Number is not of expected type: bool"),
        ([[1, 2], [3]], "float", "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
        ([[1], 2], "float", "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
        ([1, [2]], "float", "Encountered list at unexpected level: 1 expected < 1"),
        ([{"b64": "a"}], "string", "Unable to base64 decode"),
        ([{"b64": 5}], "string", 'JSON Value: {\n    "b64": 5\n} not formatted correctly for base64 data'),
    ],
)
def test_what_does_not_fit_is_told(value, dtype, message):
    """A wrong value would be taken for another one in silence."""
    with pytest.raises(ServingError) as caught:
        array_of(value, dtype)
    assert caught.value.message == message


def test_outputs_without_a_common_batch_have_no_rows():
    """Rows of different items would be joined."""
    with pytest.raises(ServingError, match="inconsistent batch size: 3 expecting: 2"):
        reply("row", {"a": np.zeros(2), "b": np.zeros(3)})
    with pytest.raises(ServingError, match="no shape information"):
        reply("row", {"a": np.float32(1)})
