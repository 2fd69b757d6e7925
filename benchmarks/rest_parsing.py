"""How long the server reads a megabyte of JSON, whatever is in it.

    python benchmarks/rest_parsing.py --rounds 5

Each body is one line of JSON: `seconds` of processor time to read it and make arrays of it, or to refuse it, the median
of the rounds; `answer` is `arrays`, or how many characters the error text has.
"""

import argparse
import json
import os
import random
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from common import emit

SIZE = 2**20


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=SIZE, help="bytes of each body")
    arguments = parser.parse_args()
    for name, body in bodies(arguments.size).items():
        seconds, answer = [], ""
        for _ in range(arguments.rounds):
            start = time.process_time()
            answer = read(body)
            seconds.append(time.process_time() - start)
        took = {"seconds": round(statistics.median(seconds), 4), "worst": round(max(seconds), 4)}
        emit({"benchmark": "rest_parsing", "body": name, "bytes": len(body), **took, "answer": answer})


def read(body: bytes) -> str:
    """Return what becomes of the body of a predict request for one input of float32."""
    from synthmed.serving.rest_json import parse, request_arrays
    from synthmed.serving.status import ServingError

    try:
        request_arrays(parse(body), {"x": "float"})
    except ServingError as error:
        return f"{error.code.name}, {len(error.message)} characters"
    return "arrays"


def bodies(size: int) -> dict[str, bytes]:
    """Return bodies of about `size` bytes by name: what is usual, and what is hard to read."""

    def inputs(item: bytes, *, end: bytes = b"0") -> bytes:
        return b'{"inputs": [' + item * (size // len(item)) + end + b"]}"

    chance = random.Random(0)
    numbers = ",".join(repr(chance.uniform(-1, 1)) for _ in range(size // 21)).encode()
    whole = json.dumps({"instances": [[[chance.random(), 1] for _ in range(64)] for _ in range(size // 1900)]})
    keys = ",".join(f'"{number}":{number}' for number in range(size // 15)).encode()
    deep = size // 2
    return {
        "floats": b'{"inputs": [%s]}' % numbers,
        "images": whole.encode(),
        "small integers": inputs(b"1,"),
        "empty lists": inputs(b"[],", end=b"[]"),
        "empty objects": inputs(b"{},", end=b"{}"),
        "lists of one": inputs(b"[1],", end=b"[1]"),
        "objects of one": inputs(b'{"a":1},', end=b"{}"),
        "lists in lists to the limit": inputs(b"[" * 200 + b"1" + b"]" * 200 + b","),
        "a wrong element among nested lists": inputs(b"[[[[1]]]],", end=b'[[[["a"]]]]'),
        "no inputs beside nested lists": b'{"other":[%s0]}' % ((b"[" * 200 + b"1" + b"]" * 200 + b",") * (size // 402)),
        "opening brackets": b"[" * size,
        "opening brackets after a key": b'{"inputs":' + b"[" * size,
        "opening braces": b'{"a":' * (size // 5),
        "closed at great depth": b'{"inputs":' + b"[" * deep + b"]" * deep + b"}",
        "brackets after the end": b'{"inputs":[1]}' + b"[" * size,
        "many keys": b'{"inputs":{%s}}' % keys,
        "the same key": b'{"inputs":[1]' + b',"a":1' * (size // 6) + b"}",
        "an integer of 5,000 digits": b'{"inputs":[%s]}' % (b"9" * 5000),
        "integers of 5,000 digits": inputs(b"9" * 5000 + b","),
        "an integer as long as the body": b'{"inputs":[%s]}' % (b"9" * size),
        "a fraction as long as the body": b'{"inputs":[0.%s]}' % (b"1" * size),
        "zeros before the point": b'{"inputs":[1%s.5]}' % (b"0" * 300 + b"." + b"0" * size),
        "integers of 19 digits": inputs(b"1234567890123456789,"),
        "large exponents": inputs(b"1e300,"),
        "too large exponents": inputs(b"1e999,"),
        "a long string": b'{"inputs":["%s"]}' % (b"a" * size),
        "a long string that does not end": b'{"inputs":["%s' % (b"a" * size),
        "escaped quotes": b'{"inputs":["%s"]}' % (b'\\"' * (size // 2)),
        "escaped quotes that do not end": b'{"inputs":["%s' % (b'\\"' * (size // 2)),
        "backslashes": b'{"inputs":["%s"]}' % (b"\\\\" * (size // 2)),
        "quotes": b'{"inputs":[' + b'"' * size,
        "short strings": inputs(b'"ab",', end=b'"ab"'),
        "escapes of surrogates": b'{"inputs":["%s"]}' % (b"\\ud83d\\ude00" * (size // 12)),
        "halves of surrogates": b'{"inputs":["%s"]}' % (b"\\ud83d" * (size // 6)),
        "bytes that are no UTF-8": b'{"inputs":["%s"]}' % (b"\xff" * size),
        "bytes that are no text": chance.randbytes(size),
        "white space": b" \n\t\r" * (size // 4) + b'{"inputs":[1]}',
        "white space alone": b" " * size,
        "base64": b'{"inputs":[{"b64":"%s"}]}' % (b"QUJD" * (size // 4)),
    }


if __name__ == "__main__":
    main()
