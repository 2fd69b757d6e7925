"""What serving adds to a model, and how the embedded server bears load.

    python benchmarks/serving.py wire                 one image, and 100 of them, above in-process calls
    python benchmarks/serving.py load --seconds 60    32 clients; a version swapped in, then an end in the middle

Each measurement is one line of JSON. The model of both only makes up its images: what is measured is the serving. Each
round calls the model in this process and through each protocol in turn, so that all see the same machine; clients of
`wire` count until the arrays are there, clients of `load` until the answer is. The server is a process of its own.
"""

import argparse
import base64
import http.client
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from common import emit

NAME = "wire"
CLIENTS = 32
SETTLED_SECONDS = 10
"""After how long the memory of a server under load should no longer grow."""
PLACES = ((64, 1, 1), (128, 2, 100))
"""Side, channels, images of a request."""


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=["wire", "load"])
    parser.add_argument("--rounds", type=int, default=30, help="of wire: calls of each kind")
    parser.add_argument("--seconds", type=float, default=60, help="of load")
    parser.add_argument("--clients", type=int, default=CLIENTS, help="of load")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.what == "wire":
            for side, channels, count in PLACES:
                write_model(Path(folder) / str(side) / NAME / "1", side=side, channels=channels)
                wire(Path(folder) / str(side), side=side, channels=channels, count=count, rounds=arguments.rounds)
        else:
            write_model(Path(folder) / NAME / "1", side=64, channels=1)
            write_model(Path(folder) / "next", side=64, channels=1)
            load(Path(folder), clients=arguments.clients, seconds=arguments.seconds)


def write_model(folder: Path, *, side: int, channels: int) -> None:
    """Write a SavedModel whose `sample` and `sample_bytes` take seeds and give images, at hardly any cost."""
    import tensorflow as tf

    class Wire(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, name="seed")])
        def sample(self, seed):
            slope = tf.reshape(tf.range(side * side * channels, dtype=tf.float32), [1, side, side, channels])
            return {"image": slope * 1e-5 + tf.cast(seed, tf.float32)[:, None, None, None]}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, name="seed")])
        def sample_bytes(self, seed):
            def one(image):
                return tf.strings.substr(tf.io.serialize_tensor(image), -4 * tf.size(image), 4 * tf.size(image))

            return {"image_bytes": tf.map_fn(one, self.sample(seed)["image"], fn_output_signature=tf.string)}

    model = Wire()
    tf.saved_model.save(model, str(folder), signatures={"sample": model.sample, "sample_bytes": model.sample_bytes})


class Server:
    """`synthmed serve` in a process of its own, on free ports."""

    def __init__(self, models: Path, *options: str):
        command = [sys.executable, "-m", "synthmed.cli.main", "serve", "--models", str(models), "--rest-port", "0"]
        started = time.perf_counter()
        self.process = subprocess.Popen([*command, "--grpc-port", "0", *options], stderr=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if line.startswith("ready"):
                break
        else:
            raise SystemExit("".join(self.lines))
        self.start_seconds = time.perf_counter() - started
        ports = re.findall(r":(\d+)", self.lines[-1])
        self.rest, self.grpc = int(ports[0]), int(ports[1])
        threading.Thread(target=lambda: self.lines.extend(self.process.stderr or []), daemon=True).start()

    def memory_mib(self) -> float:
        """Resident memory of the process."""
        text = Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii")
        return int(text.split()[1]) * resource.getpagesize() / 2**20

    def end(self) -> int:
        """Ask it to end and return its exit code."""
        self.process.terminate()
        return self.process.wait(60)


class GrpcClient:
    """Asks for images over gRPC."""

    def __init__(self, port: int):
        import grpc
        from tensorflow_serving.apis import prediction_service_pb2_grpc

        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.max_receive_message_length", -1)])
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def images(self, seeds: Any) -> Any:
        """Return the images of seeds."""
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = NAME, "sample"
        request.inputs["seed"].CopyFrom(tf.make_tensor_proto(seeds, tf.int64))
        return tf.make_ndarray(self._stub.Predict(request, timeout=120).outputs["image"])


class RestClient:
    """Asks for images over REST, on one connection."""

    def __init__(self, port: int, shape: tuple[int, ...]):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self._shape = shape

    def images(self, seeds: Any) -> Any:
        """Return the images of seeds, which come as base64."""
        import numpy as np

        status, answer = self.exchange({"signature_name": "sample_bytes", "inputs": seeds.tolist()})
        if status != 200:
            raise SystemExit(answer.decode())
        values = [base64.b64decode(one["b64"]) for one in json.loads(answer)["outputs"]]
        return np.frombuffer(b"".join(values), np.float32).reshape(len(seeds), *self._shape)

    def json_images(self, seeds: Any) -> Any:
        """Return the images of seeds, which come as numbers."""
        import numpy as np

        answer = self.exchange({"signature_name": "sample", "inputs": seeds.tolist()})[1]
        return np.array(json.loads(answer)["outputs"], np.float32)

    def exchange(self, document: dict[str, Any]) -> tuple[int, bytes]:
        """Return status and body of one predict request."""
        self.connection.request("POST", f"/v1/models/{NAME}:predict", json.dumps(document))
        response = self.connection.getresponse()
        return response.status, response.read()


def wire(models: Path, *, side: int, channels: int, count: int, rounds: int) -> None:
    """Print what each protocol adds to calls of the same SavedModel in this process."""
    import numpy as np
    import tensorflow as tf

    loaded = tf.saved_model.load(str(models / NAME / "1"))
    server = Server(models)
    rest = RestClient(server.rest, (side, side, channels))
    calls = {
        "in_process": lambda seeds: loaded.signatures["sample"](seed=tf.constant(seeds, tf.int64))["image"].numpy(),
        "grpc": GrpcClient(server.grpc).images,
        "rest_bytes": rest.images,
    }
    if count == 1:
        calls["rest_json"] = rest.json_images
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 3):
        seeds = np.arange(count) + number
        answers = {}
        for name, call in calls.items():
            started = time.perf_counter()
            answers[name] = call(seeds)
            if number >= 3:
                times[name].append(1e3 * (time.perf_counter() - started))
        assert all(np.array_equal(answer, answers["in_process"]) for answer in answers.values())
    server.end()
    medians = {name: statistics.median(found) for name, found in times.items()}
    for name, found in times.items():
        emit(
            {
                "benchmark": "serving-wire",
                "protocol": name,
                "images": count,
                "shape": [side, side, channels],
                "mib": count * side * side * channels * 4 / 2**20,
                "ms": medians[name],
                "ms_best": min(found),
                "above_in_process_ms": medians[name] - medians["in_process"],
                "above_in_process_best_ms": min(found) - min(times["in_process"]),
                "rounds": rounds,
            }
        )


class LoadClient(threading.Thread):
    """Asks again and again until told to stop, and keeps account."""

    def __init__(self, port: int, over: threading.Event):
        super().__init__(daemon=True)
        self.port, self.over = port, over
        self.statuses: Counter[str] = Counter()
        self.seconds: list[float] = []
        self.faults: list[str] = []
        self.refused = False

    def run(self) -> None:
        """Ask until `over` is set, or the server takes no more connections."""
        client = RestClient(self.port, ())
        body = {"signature_name": "sample_bytes", "inputs": [1, 2, 3, 4]}
        while not self.over.is_set():
            started, connected = time.perf_counter(), client.connection.sock is not None
            try:
                if not connected:
                    client.connection.connect()
                    connected = True
                status, text = client.exchange(body)
            except (OSError, http.client.HTTPException) as error:
                if not connected and isinstance(error, ConnectionRefusedError):
                    self.refused = True
                    return
                self.faults.append(repr(error))
                client.connection.close()
                continue
            self.seconds.append(time.perf_counter() - started)
            self.statuses[str(status)] += 1
            if status == 429:
                time.sleep(0.05)
            elif status != 200:
                self.faults.append(f"{status} {text[:200]!r}")


def load(folder: Path, *, clients: int, seconds: float) -> None:
    """Print what happens under load, at a swap of versions in its middle, and at a SIGTERM in its end."""
    (folder / "models").mkdir()
    (folder / NAME).rename(folder / "models" / NAME)
    server = Server(folder / "models", "--poll", "0.5")
    over = threading.Event()
    threads = [LoadClient(server.rest, over) for _ in range(clients)]
    for thread in threads:
        thread.start()
    time.sleep(min(SETTLED_SECONDS, seconds / 3))
    settled = highest = highest_before = server.memory_mib()
    begun, swapped = time.monotonic(), False
    while time.monotonic() - begun < seconds - min(SETTLED_SECONDS, seconds / 3):
        time.sleep(0.2)
        if not swapped and time.monotonic() - begun > seconds / 3:
            # What comes with the second version is its own; it is looked at apart.
            highest_before = max(highest, server.memory_mib())
            shutil.move(folder / "next", folder / "models" / NAME / "2")
            swapped = True
        highest = max(highest, server.memory_mib())
    served = [line for line in server.lines if f"{NAME} version 2" in line]
    last = server.memory_mib()
    code = server.end()
    over.set()
    for thread in threads:
        thread.join(60)
    taken = sorted(one for thread in threads for one in thread.seconds)
    faults = [fault for thread in threads for fault in thread.faults]
    emit(
        {
            "benchmark": "serving-load",
            "clients": clients,
            "seconds": seconds,
            "answers": dict(sum((thread.statuses for thread in threads), Counter())),
            "faults": len(faults),
            "first_faults": faults[:3],
            "new_version_served": bool(served),
            "exit_code": code,
            "per_second": len(taken) / seconds,
            "p50_ms": 1e3 * taken[len(taken) // 2],
            "p99_ms": 1e3 * taken[int(len(taken) * 0.99)],
            "longest_ms": 1e3 * taken[-1],
            "memory_mib_after_first_seconds": settled,
            "memory_growth_mib_before_swap": highest_before - settled,
            "memory_growth_mib": highest - settled,
            "memory_growth_at_end_mib": last - settled,
            "start_seconds": server.start_seconds,
        }
    )


if __name__ == "__main__":
    main()
