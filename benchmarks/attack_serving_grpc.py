"""Malformed and largest requests over gRPC, and versions that come and go, against a server of this machine.

    python benchmarks/attack_serving_grpc.py malformed                  5,000 requests that no signature takes
    python benchmarks/attack_serving_grpc.py load --seconds 60          32 clients, the largest permitted requests
    python benchmarks/attack_serving_grpc.py versions --rounds 20       versions that come, fail and go

The server is `synthmed serve` in a process of its own on free ports of 127.0.0.1, with the generators of `--models`.
Each part is a line of JSON: status codes, `faults` (INTERNAL, UNKNOWN, UNAVAILABLE and answers that did not come), and
the MiB of the server at the start, at most, and after it was idle. The exit status is 1 if there was a fault.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import grpc
import numpy as np
from common import emit
from google.protobuf import json_format
from serving import Server
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2

from synthmed.generation.generator import shipped_models
from synthmed.serving.limits import Limits
from synthmed.serving.tensors import to_tensor

PREDICT = "/tensorflow.serving.PredictionService/Predict"
FAULTS = {"INTERNAL", "UNKNOWN", "UNAVAILABLE", "DATA_LOSS"}
NUMBERS = {"DT_FLOAT": np.float32, "DT_INT64": np.int64, "DT_INT32": np.int32}
Inputs = dict[str, tuple[Any, tuple[int, ...]]]
"""Type and shape of each input of a signature, by its name; the first size, which is open, is -1."""


def main() -> None:
    """Read the command line, attack and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=["malformed", "load", "versions"])
    parser.add_argument("--models", type=Path, default=shipped_models(), help="folder of generators")
    parser.add_argument("--requests", type=int, default=5000, help="of malformed")
    parser.add_argument("--seconds", type=float, default=60, help="of load")
    parser.add_argument("--clients", type=int, default=32, help="of load")
    parser.add_argument("--rounds", type=int, default=20, help="of versions: how many come and go")
    arguments = parser.parse_args()
    if arguments.what == "versions":
        sys.exit(versions(arguments.models, rounds=arguments.rounds))
    attack = Attack(Server(arguments.models))
    if arguments.what == "malformed":
        attack.send(malformed(attack.signatures(arguments.models), arguments.requests), threads=4)
    else:
        names = attack.signatures(arguments.models)
        attack.send(largest(names, seconds=arguments.seconds), threads=arguments.clients)
    sys.exit(attack.report(arguments.what))


class Attack:
    """Sends requests to a server and counts what comes back.

    Args:
        server: Who is attacked.
    """

    def __init__(self, server: Server):
        self.server = server
        self.codes: Counter[str] = Counter()
        self.faults: list[str] = []
        self.slowest = 0.0
        self.memory = [round(server.memory_mib())]
        self._lock = threading.Lock()

    def signatures(self, models: Path) -> dict[tuple[str, str], Inputs]:
        """Return the inputs of every signature of every model, by the names of both."""
        found = {}
        for model in sorted(one.name for one in models.iterdir() if any(one.glob("*/saved_model.pb"))):
            request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
            request.model_spec.name = model
            with self._channel() as channel:
                ask = channel.unary_unary("/tensorflow.serving.PredictionService/GetModelMetadata")
                answer = get_model_metadata_pb2.GetModelMetadataResponse.FromString(ask(request.SerializeToString()))
            signatures = get_model_metadata_pb2.SignatureDefMap()
            answer.metadata["signature_def"].Unpack(signatures)
            for name, one in json_format.MessageToDict(signatures)["signatureDef"].items():
                if one.get("inputs"):
                    found[model, name] = {key: _form(info) for key, info in one["inputs"].items()}
        return found

    def send(self, requests: Iterator[bytes], *, threads: int) -> None:
        """Send requests, each thread on a connection of its own, and watch the memory meanwhile."""

        def work() -> None:
            with self._channel() as channel:
                ask = channel.unary_unary(PREDICT)
                while True:
                    with self._lock:
                        body = next(requests, None)
                    if body is None:
                        return
                    self._ask(ask, body)

        running = [threading.Thread(target=work) for _ in range(threads)]
        for thread in running:
            thread.start()
        highest = 0.0
        while any(thread.is_alive() for thread in running):
            highest = max(highest, self.server.memory_mib() if self.server.process.poll() is None else 0)
            time.sleep(0.05)
        self.memory.append(round(highest))

    def _ask(self, ask: Callable[..., bytes], body: bytes) -> None:
        started = time.monotonic()
        try:
            ask(body, timeout=600)
            code, detail = "OK", ""
        except grpc.RpcError as error:
            code, detail = error.code().name, error.details() or ""
        with self._lock:
            self.slowest = max(self.slowest, time.monotonic() - started)
            self.codes[code] += 1
            if code in FAULTS:
                self.faults.append(f"{code}: {detail[:200]}")

    def report(self, what: str) -> int:
        """Print the figures, end the server, and return 1 if there was a fault."""
        time.sleep(3)
        alive = self.server.process.poll() is None
        if alive:
            self.memory.append(round(self.server.memory_mib()))
        ended = self.server.end() if alive else self.server.process.returncode
        if ended:
            self.faults.append(f"the server ended with {ended}")
        figures = {"codes": dict(self.codes), "slowest_s": round(self.slowest, 2), "memory_mib": self.memory}
        emit({"what": what, **figures, "faults": len(self.faults), "first": self.faults[:3]})
        return int(bool(self.faults))

    def _channel(self) -> Any:
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        return grpc.insecure_channel(f"127.0.0.1:{self.server.grpc}", [*options, ("grpc.use_local_subchannel_pool", 1)])


def _form(info: dict[str, Any]) -> tuple[Any, tuple[int, ...]]:
    return NUMBERS[info["dtype"]], tuple(int(dim["size"]) for dim in info["tensorShape"]["dim"])


def _request(model: str, signature: str, arrays: dict[str, np.ndarray]) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    for name, array in arrays.items():
        # Written by the one library, read by the other.
        request.inputs[name].ParseFromString(to_tensor(array).SerializeToString())
    return request


def _good(inputs: Inputs, items: int) -> dict[str, np.ndarray]:
    return {name: np.zeros([items, *shape[1:]], dtype) for name, (dtype, shape) in inputs.items()}


def malformed(signatures: dict[tuple[str, str], Inputs], count: int) -> Iterator[bytes]:
    """Yield requests that no signature takes: every input in other shapes, types and values, and damaged messages."""
    chance = random.Random(0)
    for number in range(count):
        (model, signature), inputs = list(signatures.items())[number % len(signatures)]
        arrays = _good(inputs, 2)
        name = chance.choice(sorted(inputs))
        kind = chance.choice(["shape", "all shapes", "type", "value", "claim", "bytes", "cut", "missing"])
        sizes = [chance.choice([0, 1, 2, 3, 64, 65]) for _ in range(chance.randint(0, 3))] + [1] * chance.randint(0, 2)
        if kind == "shape":
            arrays[name] = np.zeros(sizes, arrays[name].dtype)
        elif kind == "all shapes":
            arrays = {key: np.zeros(sizes, one.dtype) for key, one in arrays.items()}
        elif kind == "type":
            arrays[name] = np.zeros(arrays[name].shape, chance.choice(["f8", "i1", "u8", "bool", "f2"]))
        elif kind == "value" and arrays[name].dtype.kind == "f":
            arrays[name][:] = chance.choice([np.nan, np.inf, -np.inf])
        elif kind == "value":
            arrays[name][:] = chance.choice([-1, -(2**31)])
        elif kind == "missing":
            del arrays[name]
        request = _request(model, signature, arrays)
        if kind == "claim":
            # A few bytes that stand for gigabytes.
            for dim in request.inputs[name].tensor_shape.dim:
                dim.size = chance.choice([2**20, 2**31, 2**62, -1])
        body = request.SerializeToString()
        if kind == "bytes":
            place = chance.randrange(len(body))
            body = body[:place] + chance.randbytes(chance.choice([1, 8])) + body[place + 1 :]
        yield body[: chance.randrange(len(body))] if kind == "cut" else body


def largest(signatures: dict[tuple[str, str], Inputs], *, seconds: float) -> Iterator[bytes]:
    """Yield for some seconds the largest requests that are permitted, and of each signature the most items."""
    limits = Limits()
    bodies = [
        _request(model, name, _good(inputs, limits.items)).SerializeToString()
        for (model, name), inputs in signatures.items()
    ]
    (model, name), inputs = next((key, one) for key, one in signatures.items() if "seed" in one)
    # As many bytes as a request may have, which are no answer's: refused when they are there.
    bodies.append(_request(model, name, _good(inputs, limits.request_bytes // 9 // len(inputs))).SerializeToString())
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        yield bodies[number % len(bodies)]
        number += 1


def versions(models: Path, *, rounds: int) -> int:
    """Let versions of a generator come, fail and go; print the memory after each, and return 1 if one was missed."""
    source = next(models.glob("*/*/saved_model.pb")).parent
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "models" / "generator"
        shutil.copytree(source, model / "1")
        server = Server(model.parent, "--poll", "0.2")
        memory, faults = [round(server.memory_mib())], []
        for number in range(2, rounds + 2):
            arriving = shutil.copytree(source, Path(folder) / "arriving")
            damaged = number % 3 == 0
            if damaged:
                data = next(arriving.glob("variables/variables.data*"))
                data.write_bytes(data.read_bytes()[:1000])
            arriving.rename(model / str(number))
            end = time.monotonic() + 300
            while not any(f"{number}" in line.split() or f"/{number} " in line for line in list(server.lines)):
                if time.monotonic() > end:
                    faults.append(f"version {number} was not seen")
                    break
                time.sleep(0.1)
            if damaged:
                shutil.rmtree(model / str(number))
            else:
                for old in model.iterdir():
                    if int(old.name) < number:
                        shutil.rmtree(old)
            time.sleep(2)
            memory.append(round(server.memory_mib()))
        faults += [f"the server ended with {code}"] if (code := server.end()) else []
    emit({"what": "versions", "rounds": rounds, "memory_mib": memory, "faults": len(faults), "first": faults[:3]})
    return int(bool(faults))


if __name__ == "__main__":
    main()
