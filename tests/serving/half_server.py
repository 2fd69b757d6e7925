"""A server of the model `half` in this process, and how the tests beside this file ask it."""

import http.client
import threading
import time
from contextlib import contextmanager

from synthmed.serving.server import EmbeddedServer

HALF = "/v1/models/half:predict"
ONE = b'{"instances": [1]}'


@contextmanager
def running(manager, **options):
    server = EmbeddedServer(manager, **({"rest_port": 0, "poll_seconds": 0} | options))
    ready = threading.Event()
    thread = threading.Thread(target=server.run, kwargs={"ready": ready.set}, daemon=True)
    thread.start()
    while not ready.wait(0.1):
        assert thread.is_alive(), "the server did not start"
    server.thread = thread
    try:
        yield server
    finally:
        server.stop()
        thread.join(60)
        assert not thread.is_alive(), "the server did not stop"


def ask(server, method="POST", path=HALF, body=ONE, headers=None, context=None):
    if server.access.tls:
        connection = http.client.HTTPSConnection("127.0.0.1", server.rest_port, timeout=60, context=context)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=60)
    try:
        connection.request(method, path, body if method == "POST" else None, headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def predict_by_grpc(channel, metadata=None):
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    request = predict_pb2.PredictRequest()
    request.model_spec.name = "half"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0], tf.float32))
    return prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=60, metadata=metadata)


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
