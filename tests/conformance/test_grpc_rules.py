"""The rules of TensorFlow Serving's gRPC interface, asked of any server: see conftest.py."""

import pytest

grpc = pytest.importorskip("grpc")
pytest.importorskip("tensorflow_serving")


@pytest.fixture
def channel(served):
    """A connection to the server."""
    if served.grpc is None:
        pytest.skip("SYNTHMED_TFS_GRPC names no server")
    with grpc.insecure_channel(served.grpc) as opened:
        yield opened


@pytest.fixture
def predict(channel):
    """Return a function that changes a good request by `change`, sends it, and returns the answer."""
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def send(change=lambda request: None):
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "half"
        request.inputs["x"].CopyFrom(proto([1.0, 2.0], "float32"))
        change(request)
        return stub.Predict(request, timeout=60)

    return send


def proto(values, dtype):
    import tensorflow as tf

    return tf.make_tensor_proto(values, dtype)


def code_of(call, *arguments):
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments)
    return caught.value.code().name


def test_answers_name_the_version_and_the_signature(predict):
    """A client would not know which version answered."""
    import tensorflow as tf

    answer = predict()
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("half", 2)
    assert answer.model_spec.signature_name == "serving_default"
    assert tf.make_ndarray(answer.outputs["y"]).tolist() == [2.5, 3.0]
    assert predict(lambda r: setattr(r.model_spec.version, "value", 1)).model_spec.version.value == 1
    for label, version in (("stable", 1), ("canary", 2)):
        named = predict(lambda r, label=label: setattr(r.model_spec, "version_label", label))
        assert named.model_spec.version.value == version


def test_values_may_come_in_either_form(predict):
    """Clients in other languages fill float_val, Python fills tensor_content."""
    import tensorflow as tf

    def one_by_one(request):
        tensor = request.inputs["x"]
        tensor.Clear()
        tensor.dtype = 1
        tensor.tensor_shape.dim.add(size=3)
        tensor.float_val.extend([1.0, 2.0, 5.0])

    assert tf.make_ndarray(predict(one_by_one).outputs["y"]).tolist() == [2.5, 3.0, 4.5]


def _two(request):
    request.model_spec.signature_name = "two"
    request.inputs["k"].CopyFrom(proto([[1, 2]], "int32"))


def _empty_shape(request):
    request.inputs["x"].tensor_shape.dim[0].size = 5


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda r: setattr(r.model_spec, "name", "absent"), "NOT_FOUND"),
        (lambda r: setattr(r.model_spec.version, "value", 9), "NOT_FOUND"),
        (lambda r: setattr(r.model_spec.version, "value", -9), "NOT_FOUND"),
        (lambda r: setattr(r.model_spec, "version_label", "none"), "INVALID_ARGUMENT"),
        (lambda r: setattr(r.model_spec, "name", ""), "INVALID_ARGUMENT"),
        (lambda r: r.ClearField("model_spec"), "INVALID_ARGUMENT"),
        (lambda r: setattr(r.model_spec, "signature_name", "none"), "FAILED_PRECONDITION"),
        (lambda r: r.inputs["x"].CopyFrom(proto([1], "int32")), "INVALID_ARGUMENT"),
        (lambda r: r.inputs["x"].CopyFrom(proto([b"1"], "string")), "INVALID_ARGUMENT"),
        (lambda r: r.inputs["x"].Clear(), "INVALID_ARGUMENT"),
        (lambda r: r.inputs.pop("x"), "INVALID_ARGUMENT"),
        (lambda r: r.inputs["more"].CopyFrom(proto([1.0], "float32")), "INVALID_ARGUMENT"),
        (lambda r: setattr(r.model_spec, "signature_name", "two"), "INVALID_ARGUMENT"),
        (lambda r: r.output_filter.append("none"), "INVALID_ARGUMENT"),
        (lambda r: r.output_filter.extend(["y", "y"]), "INVALID_ARGUMENT"),
        (_empty_shape, "INVALID_ARGUMENT"),
    ],
)
def test_what_is_refused(predict, change, code):
    """A client could not tell a mistake of its own from a fault of the server."""
    assert code_of(predict, change) == code


def test_output_filter_chooses_and_all_come_without_it(predict):
    """A client that needs the masks alone would pay for the images."""
    assert set(predict(_two).outputs) == {"y", "z"}
    assert set(predict(lambda r: (_two(r), r.output_filter.append("z"))).outputs) == {"z"}


def test_metadata(channel):
    """A client that asks what a model takes would get another answer than from TensorFlow Serving."""
    from tensorflow_serving.apis import get_model_metadata_pb2, prediction_service_pb2_grpc

    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def ask(name, *fields, spec=True):
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
        if spec:
            request.model_spec.name = name
        return stub.GetModelMetadata(request, timeout=60)

    answer = ask("half", "signature_def")
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert answer.model_spec.version.value == 2 and answer.metadata["signature_def"].Unpack(signatures)
    assert set(signatures.signature_def["two"].inputs) == {"x", "k"}
    assert code_of(ask, "half") == "INVALID_ARGUMENT"
    assert code_of(ask, "half", "nonsense") == "INVALID_ARGUMENT"
    assert code_of(ask, "", "signature_def") == "INVALID_ARGUMENT"
    assert code_of(lambda: ask("half", "signature_def", spec=False)) == "INVALID_ARGUMENT"
    assert code_of(ask, "absent", "signature_def") == "NOT_FOUND"


def test_status(channel):
    """A client that waits for a version would not see it."""
    from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

    stub = model_service_pb2_grpc.ModelServiceStub(channel)

    def ask(name, version=None):
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = name
        if version is not None:
            request.model_spec.version.value = version
        return [(one.version, one.state) for one in stub.GetModelStatus(request, timeout=60).model_version_status]

    assert sorted(ask("half")) == [(1, 30), (2, 30)]
    assert ask("half", 1) == [(1, 30)]
    assert code_of(ask, "absent") == "NOT_FOUND"
    assert code_of(ask, "half", 9) == "NOT_FOUND"
