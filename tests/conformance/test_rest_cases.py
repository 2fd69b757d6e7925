"""TensorFlow Serving's observed answers, asked of any server: see `served` in conftest.py."""

import json
import math
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CASES = [json.loads(line) for line in (HERE / "rest_cases.jsonl").read_text(encoding="utf-8").splitlines()]


def same(found, expected) -> bool:
    """Compare parsed JSON, NaN equal to NaN."""
    if isinstance(found, float) and isinstance(expected, float):
        return found == expected or (math.isnan(found) and math.isnan(expected))
    if isinstance(found, dict) and isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[key], expected[key]) for key in expected)
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    return type(found) is type(expected) and found == expected


def interface(metadata: dict) -> dict:
    """Leave out what the exporting TensorFlow chooses: names of graph nodes and their order."""
    signatures = metadata["metadata"]["signature_def"]["signature_def"]
    for definition in signatures.values():
        for tensor in [*definition["inputs"].values(), *definition["outputs"].values()]:
            tensor.pop("name")
    return metadata


@pytest.mark.parametrize("case", CASES, ids=[f"{number}" for number in range(len(CASES))])
def test_answer_is_tensorflow_servings(ask, case):
    """A client written for TensorFlow Serving would break on the laptop, or the other way round."""
    body = None if case["body"] is None else case["body"].encode()
    status, headers, text = ask(case["method"], case["path"], body)
    assert status == case["status"], text
    assert headers.get("content-type", "").split(";")[0] == case["content_type"]
    if case["json"] is None:
        return
    found, expected = json.loads(text), case["json"]
    if "error" in expected:
        # The text of an error is the server's own.
        assert found.keys() == expected.keys() and isinstance(found["error"], str) and found["error"]
    elif "metadata" in expected:
        assert same(interface(found), interface(expected))
    else:
        assert same(found, expected), text
