"""Malformed requests against a server of this machine: it must neither end, nor answer 5xx, nor grow.

    python benchmarks/attack_server.py                                     a small model, 5,000 requests over REST
    python benchmarks/attack_server.py --models saved_models               the generators of a folder
    python benchmarks/attack_server.py --kinds json,paths --requests 500

The server is a process of its own on free ports of 127.0.0.1. Each kind of request is a line of JSON: how many of which
status came back, the slowest answer, and `faults`: 5xx (but 501, not implemented, and 504 to a slow body) and answers
that did not come. The last line has the memory of the server before each tenth and at the end, and how soon good
requests were answered meanwhile. The exit status is 1 if there was a fault.
"""

import argparse
import base64
import gzip
import http.client
import itertools
import json
import os
import random
import re
import runpy
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import psutil
from common import emit
from rest_parsing import bodies

HALF = Path(__file__).resolve().parents[1] / "tests" / "conformance" / "half_model.py"
SLOW_CLIENTS = 200
ANSWER_SECONDS = 120
ALLOWED = {501}


def main() -> None:
    """Read the command line, attack and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--models", type=Path, help="folder of models; default: a small one, made for this")
    parser.add_argument("--protocol", choices=["rest"], default="rest")
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--kinds", default=",".join(KINDS), help="comma-separated; default: all")
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=900, help="end earlier than after all requests")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models = arguments.models
        if models is None:
            models = Path(folder)
            runpy.run_path(str(HALF))["write"](folder)
        with Server(models) as server:
            attack = Attack(server, arguments.kinds.split(","), seed=arguments.seed)
            attack.run(arguments.requests, threads=arguments.threads, seconds=arguments.seconds)
    sys.exit(attack.report())


class Server:
    """`synthmed serve` on free ports, until the end of the `with`."""

    def __init__(self, models: Path):
        command = [sys.executable, "-m", "synthmed.cli.main", "serve", "--models", str(models), "--rest-port", "0"]
        self.process = subprocess.Popen([*command, "--grpc-port", "0"], stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        lines = []
        for line in self.process.stderr:
            lines.append(line)
            if found := re.search(r"REST on http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                break
        else:
            raise SystemExit("the server did not start: " + "".join(lines))
        self.said: deque[str] = deque(maxlen=5)
        threading.Thread(target=self.said.extend, args=(self.process.stderr,), daemon=True).start()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: Any) -> None:
        self.process.terminate()
        self.process.wait(60)

    def memory(self) -> int:
        """Return the MiB that the process has in memory."""
        return psutil.Process(self.process.pid).memory_info().rss // 2**20

    def ask(self, request: "Request") -> tuple[int, bytes]:
        """Return status and body of the answer to a request; each has a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
        try:
            connection.putrequest(request.method, request.path, skip_accept_encoding=True)
            for name, value in {"Content-Length": str(len(request.body)), **request.headers}.items():
                connection.putheader(name, value)
            connection.endheaders(request.body)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


@dataclass
class Request:
    """One request over REST."""

    path: str
    body: bytes = b""
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Model:
    """What the server says of a model: a request of each signature that fits it, by name."""

    name: str
    inputs: dict[str, dict[str, Any]]

    @property
    def path(self) -> str:
        """The path of its predictions."""
        return f"/v1/models/{quote(self.name, safe='')}:predict"

    def good(self, signature: str) -> dict[str, Any]:
        """Return a request that fits a signature."""
        values = {name: _value(info, rank=None) for name, info in self.inputs[signature].items()}
        return {"signature_name": signature, "inputs": values}


def read_models(server: Server) -> list[Model]:
    """Return the models that the page of the server links to."""
    page = server.ask(Request("/", method="GET"))[1].decode()
    found = []
    for path in sorted(set(re.findall(r'href="(/v1/models/[^"/]+)/metadata"', page))):
        metadata = json.loads(server.ask(Request(f"{path}/metadata", method="GET"))[1])
        signatures = metadata["metadata"]["signature_def"]["signature_def"]
        inputs = {name: one["inputs"] for name, one in signatures.items() if one["inputs"]}
        found.append(Model(metadata["model_spec"]["name"], inputs))
    return found


def _value(info: dict[str, Any], *, rank: int | None, leaf: Any = None) -> Any:
    """Return a value for an input: as its signature has it, or of another rank or another leaf."""
    sizes = [max(int(dim["size"]), 1) for dim in info["tensor_shape"]["dim"]]
    if rank is not None:
        # Few values whatever the rank: it is the rank that is wrong.
        sizes = ([1, 2, 3] + [1] * rank)[:rank]
    value = leaf if leaf is not None else {"DT_STRING": "a", "DT_BOOL": True}.get(info["dtype"], 0)
    for size in reversed(sizes):
        value = [value] * size
    return value


def json_requests(models: list[Model], chance: random.Random) -> Iterator[Request]:
    """Nonsense in place of JSON: hard to read, cut, changed by some bytes."""
    hard = [*bodies(2**16).values(), *bodies(2**20).values()]
    model = chance.choice(models)
    for body in itertools.chain(hard, iter(lambda: None, 0)):
        if body is None:
            model = chance.choice(models)
            body = chance.choice([_mutated(_good_body(model, chance), chance)] * 8 + [chance.randbytes(99)])
        yield Request(model.path, body)


def encoding_requests(models: list[Model], chance: random.Random) -> Iterator[Request]:
    """Bodies packed wrongly, or by nothing that the server knows, and bombs."""
    bomb = gzip.compress(b'{"inputs": [' + b"1," * 2**25 + b"1]}")
    while True:
        model = chance.choice(models)
        body = _good_body(model, chance)
        packed = gzip.compress(body)
        sent = chance.choice(
            [body, packed[:-9], packed[:12], _mutated(packed, chance), packed + packed, b""] * 9 + [bomb]
        )
        kind = chance.choice(["gzip", "GZIP", "deflate", "br", "gzip, gzip", "identity", "x" * 99])
        kind = kind if sent is not bomb else "gzip"
        yield Request(model.path, sent, headers={"Content-Encoding": kind, "Content-Type": chance.choice(["", "a/b"])})


def path_requests(models: list[Model], chance: random.Random) -> Iterator[Request]:
    """Paths and verbs that no rule covers."""
    parts = ["v1", "models", "versions", "1", "labels", "x", "metadata", "..", "%00", "%2f", "%2e%2e", "a" * 300, ""]
    parts += ["9" * 40, "-1", "1e3", "%C3%A9", "%ff", "%", "%zz", ":", ";", "~", "%0d%0aX-A:%20b", "%e2%80%ae"]
    while True:
        model = chance.choice(models)
        names = [*parts, quote(model.name), f"{quote(model.name)}:predict", f"{quote(model.name)}%3Aregress"]
        path = "/" + "/".join(chance.choices(names, k=chance.randint(0, 6)))
        path = chance.choice([path, "/v1/models/" + path.strip("/")])
        method = chance.choice(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "BREW"])
        yield Request(path, b"" if method in ("GET", "HEAD") else _good_body(model, chance), method)


def shape_requests(models: list[Model], chance: random.Random) -> Iterator[Request]:
    """Every signature with each of its inputs in other ranks and of other types, in both forms."""
    leaves = [None, 0, -1, 1.5, True, "text", {"b64": "AA=="}, {}, 2**31, 2**64, -(2**63), 1e39, float("nan"), "null"]
    for _ in iter(int, 1):
        for model, leaf, rank in itertools.product(models, leaves, [None, 0, 1, 2, 3, 4, 5, 8, 33, 70]):
            for signature, inputs in model.inputs.items():
                document = model.good(signature)
                changed = chance.choice(sorted(inputs))
                document["inputs"][changed] = _value(inputs[changed], rank=rank, leaf=leaf)
                if chance.random() < 0.2:
                    del document["inputs"][chance.choice(sorted(inputs))]
                if chance.random() < 0.3:
                    document = {"signature_name": signature, "instances": [document["inputs"]] * chance.choice([1, 2])}
                yield Request(model.path, json.dumps(document).replace('"null"', "null").encode())


def _good_body(model: Model, chance: random.Random) -> bytes:
    return json.dumps(model.good(chance.choice(sorted(model.inputs)))).encode()


def _mutated(body: bytes, chance: random.Random) -> bytes:
    octets = bytearray(body)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(octets) + 1)
        some = [b"[", b"]", b"{", b"}", b",", b'"', b"\\u", b"1e999", b"-", b"\xff", b"NaN", base64.b64encode(b"x")]
        octets[at : at + chance.choice([0, 1, 8, 64])] = chance.choice(some)
    return bytes(octets)


KINDS: dict[str, Callable[[list[Model], random.Random], Iterator[Request]]] = {
    "json": json_requests,
    "encodings": encoding_requests,
    "paths": path_requests,
    "shapes": shape_requests,
}


class Attack:
    """Sends requests of some kinds, while clients with slow bodies hang on, and counts what comes back.

    Args:
        server: Who is attacked.
        kinds: Names in `KINDS`.
        seed: The same one makes the same requests.
    """

    def __init__(self, server: Server, kinds: list[str], *, seed: int):
        self.server = server
        self.models = read_models(server)
        self.statuses: dict[str, Counter[str]] = defaultdict(Counter)
        self.slowest: dict[str, float] = defaultdict(float)
        self.faults: list[tuple[Any, ...]] = []
        self.good: list[float] = []
        self.memory: list[int] = []
        self._requests = {kind: KINDS[kind](self.models, random.Random(f"{seed} {kind}")) for kind in kinds}
        self._lock = threading.Lock()
        self._end = threading.Event()

    def run(self, count: int, *, threads: int, seconds: float) -> None:
        """Send `count` requests, in turn of each kind, for at most some seconds."""
        slow = [threading.Thread(target=self._send_slowly, daemon=True) for _ in range(SLOW_CLIENTS)]
        others = [threading.Thread(target=self._ask_rightly, daemon=True)]
        turns, end = iter(range(count)), time.monotonic() + seconds
        attackers = [threading.Thread(target=self._send, args=(turns, count, end)) for _ in range(threads)]
        for thread in [*slow, *others, *attackers]:
            thread.start()
        for thread in attackers:
            thread.join()
        self._end.set()
        for thread in [*slow, *others]:
            thread.join(ANSWER_SECONDS)
        self.memory.append(self.server.memory() if self.server.process.poll() is None else -1)

    def _send(self, turns: Iterator[int], count: int, end: float) -> None:
        kinds = list(self._requests)
        while time.monotonic() < end and self.server.process.poll() is None:
            with self._lock:
                number = next(turns, None)
                if number is None:
                    return
                kind = kinds[number % len(kinds)]
                request = next(self._requests[kind])
                if number % max(count // 10, 1) == 0:
                    self.memory.append(self.server.memory())
            start = time.monotonic()
            try:
                status = self.server.ask(request)[0]
            except (OSError, http.client.HTTPException) as error:
                status = type(error).__name__
            with self._lock:
                self.statuses[kind][str(status)] += 1
                self.slowest[kind] = max(self.slowest[kind], time.monotonic() - start)
                if not isinstance(status, int) or (status >= 500 and status not in ALLOWED):
                    self.faults.append(
                        (kind, status, request.method, request.path[:200], request.body[:200].decode("latin-1"))
                    )

    def _send_slowly(self) -> None:
        """Send a byte a second, and again from the start when the server has had enough."""
        while not self._end.is_set() and self.server.process.poll() is None:
            status = "closed"
            try:
                with socket.create_connection(("127.0.0.1", self.server.port), timeout=ANSWER_SECONDS) as connection:
                    head = f"POST {self.models[0].path} HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"
                    connection.sendall(head.encode())
                    connection.settimeout(1)
                    while not self._end.is_set():
                        connection.sendall(b"{")
                        try:
                            status = connection.recv(4096)[9:12].decode() or "closed"
                            break
                        except TimeoutError:
                            continue
                    else:
                        return
            except OSError:
                pass
            with self._lock:
                self.statuses["slow bodies"][status] += 1

    def _ask_rightly(self) -> None:
        """Ask as one should, twice a second: what does the attack do to others?"""
        model = self.models[0]
        body = json.dumps(model.good(min(model.inputs))).encode()
        while not self._end.wait(0.5) and self.server.process.poll() is None:
            start = time.monotonic()
            try:
                status = self.server.ask(Request(model.path, body))[0]
            except (OSError, http.client.HTTPException) as error:
                status = type(error).__name__
            if status != 200:
                self.faults.append(("a good request", status, "POST", model.path, body[:200].decode()))
            self.good.append(time.monotonic() - start)

    def report(self) -> int:
        """Print what was found; return the exit status."""
        alive = self.server.process.returncode in (0, None)
        for kind, counts in sorted(self.statuses.items()):
            faults = [fault for fault in self.faults if fault[0] == kind]
            record = {"attack": kind, "requests": counts.total(), "statuses": dict(sorted(counts.items()))}
            emit(record | {"slowest": self.slowest[kind], "faults": len(faults), "first": faults[:3]})
        emit(
            {
                "attack": "all",
                "server": "alive to the end" if alive else f"ended with {self.server.process.returncode}",
                "said": [] if alive else list(self.server.said),
                "MiB": self.memory,
                "good_requests": len(self.good),
                "good_requests_refused": [fault[1] for fault in self.faults if fault[0] == "a good request"],
                "good_seconds_median": sorted(self.good)[len(self.good) // 2] if self.good else None,
                "good_seconds_worst": max(self.good, default=None),
            }
        )
        return 0 if alive and not self.faults else 1


if __name__ == "__main__":
    main()
