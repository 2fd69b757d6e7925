"""What a request must fit before any operation runs, in the server and inside an export."""

import numpy as np
import pytest

pytest.importorskip("tensorflow_serving")
pytest.importorskip("prometheus_client")

from synthmed.generation.generator import SavedModelGenerator, newest_version, shipped_models
from synthmed.serving.limits import Gate, Limits
from synthmed.serving.predict import run_within
from synthmed.serving.servable import Servable
from synthmed.serving.status import Code, ServingError

SHIPPED = sorted(path for path in shipped_models().iterdir() if newest_version(path) is not None)


@pytest.fixture(scope="module")
def tiny(models):
    """The generator `tiny-cond`, loaded as the server loads it."""
    return Servable("tiny-cond", newest_version(models / "tiny-cond"))


def code_of(servable, signature, inputs, ticket=None):
    with pytest.raises(ServingError) as caught:
        run_within(servable, signature, inputs, ticket)
    return caught.value.code


def good(servable, signature, items=2):
    """Return inputs that fit."""
    import tensorflow as tf

    return {
        name: np.zeros(
            [items, *(dim.size for dim in info.tensor_shape.dim[1:])], tf.as_dtype(info.dtype).as_numpy_dtype
        )
        for name, info in servable.signatures[signature].inputs.items()
    }


def misshaped(inputs):
    """Yield the inputs with one of them, or all, in shapes that no signature has."""
    for name, value in inputs.items():
        others = [value[0], value[None], value[..., None], value[:0], value.reshape(-1)[0], value.reshape(-1)]
        others += [value[:, :1], value[:, :0]] if value.ndim > 1 else []
        others += [value[:1]] if len(inputs) > 1 else []
        for other in others:
            if other.shape != value.shape:
                yield inputs | {name: np.asarray(other)}
    for shape in ((), (0,), (1, 0, 0), (1, 64)):
        yield {name: np.zeros(shape, value.dtype) for name, value in inputs.items()}


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_shipped_generators_refuse_other_shapes_and_types_in_every_signature(folder):
    """One request of 70 bytes ended the server."""
    servable = Servable(folder.name, newest_version(folder))
    asked = 0
    for signature, definition in servable.signatures.items():
        if not definition.inputs:
            continue
        fitting = good(servable, signature)
        assert servable.check(signature, fitting) == 2
        for wrong in misshaped(fitting):
            assert code_of(servable, signature, wrong) is Code.INVALID_ARGUMENT
            asked += 1
        for name, value in fitting.items():
            other = np.float64 if value.dtype != np.float64 else np.float32
            assert code_of(servable, signature, fitting | {name: value.astype(other)}) is Code.INVALID_ARGUMENT
    assert asked > 50


def test_exports_refuse_other_shapes_by_themselves(models):
    """The same request would end TensorFlow Serving, which compares nothing with a signature."""
    import tensorflow as tf
    from tensorflow.core.protobuf import config_pb2

    servable = Servable("tiny-cond", newest_version(models / "tiny-cond"))
    for signature, definition in servable.signatures.items():
        if not definition.inputs:
            continue
        options = config_pb2.CallableOptions(
            feed=[definition.inputs[name].name for name in sorted(definition.inputs)],
            fetch=[info.name for info in definition.outputs.values()],
        )
        call = servable._session._make_callable_from_options(options)
        for wrong in misshaped(good(servable, signature)):
            with pytest.raises(tf.errors.InvalidArgumentError):
                call(*(np.asarray(wrong[name]) for name in sorted(wrong)))


@pytest.mark.parametrize(
    ("signature", "name", "value"),
    [
        ("sample", "psi", np.nan),
        ("sample", "psi", np.inf),
        ("sample", "psi", 1.5),
        ("sample", "psi", -0.1),
        ("sample", "seed", -1),
        ("sample_given_mask", "mask", 3),
        ("sample_given_mask", "mask", -1),
        ("mapping", "z", np.inf),
        ("synthesis", "w", np.nan),
    ],
)
def test_values_are_what_a_generator_takes(tiny, signature, name, value):
    """An answer of NaN, or of a class that there is not, would go into a training set."""
    inputs = good(tiny, signature)
    inputs[name].flat[-1] = value
    with pytest.raises(ServingError, match=name) as caught:
        run_within(tiny, signature, inputs, None)
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_another_model_keeps_what_its_graph_allows(half):
    """A model that broadcasts under TensorFlow Serving would be refused here."""
    servable = Servable("half", half / "1")
    two = {"x": np.ones(2, np.float32), "k": np.ones((1, 2), np.int32)}
    assert run_within(servable, "two", two, None)["y"].tolist() == [2.5, 2.5]
    assert run_within(servable, "", {"x": np.ones((2, 1), np.float32)}, None)["y"].tolist() == [[2.5], [2.5]]
    assert run_within(servable, "", {"x": np.ones(0, np.float32)}, None)["y"].tolist() == []
    assert code_of(servable, "nan", {"n": np.ones(1, np.int32)}) is Code.INVALID_ARGUMENT


def test_another_model_with_a_convolution_is_compared_with_its_signature(tmp_path):
    """Any model that is no chain of plain arithmetic could end the server."""
    import tensorflow as tf

    class Edges(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 1], tf.float32, name="x")])
        def edges(self, x):
            return {"y": tf.nn.conv2d(x, tf.ones([3, 3, 1, 1]), 1, "SAME")}

        @tf.function(input_signature=[tf.TensorSpec(None, tf.float32, name="x")])
        def total(self, x):
            return {"y": tf.reduce_sum(x)}

    model = Edges()
    tf.saved_model.save(model, str(tmp_path / "1"), signatures={"serving_default": model.edges, "total": model.total})
    servable = Servable("edges", tmp_path / "1")
    assert run_within(servable, "", {"x": np.ones((3, 8, 8, 1), np.float32)}, None)["y"].shape == (3, 8, 8, 1)
    for shape in ((), (8, 8, 1), (0, 8, 8, 1), (1, 8, 7, 1), (1, 8, 8, 1, 1)):
        assert code_of(servable, "", {"x": np.ones(shape, np.float32)}) is Code.INVALID_ARGUMENT
    for shape in ((), (3,), (2, 2)):
        assert run_within(servable, "total", {"x": np.ones(shape, np.float32)}, None)["y"] == np.prod(shape)


def test_large_requests_are_drawn_in_chunks_and_are_what_generate_draws(tiny, models):
    """Memory would grow with the number of items, or an image depend on how many were asked for."""
    sampler = SavedModelGenerator(newest_version(models / "tiny-cond"))
    seeds, calls, run = np.arange(19), [], tiny.run
    tiny.run = lambda signature, inputs: calls.append(len(inputs["seed"])) or run(signature, inputs)
    try:
        drawn = run_within(tiny, "sample", {"seed": seeds, "psi": np.full(19, 0.5, np.float32)}, None)
    finally:
        del tiny.run
    ours = sampler.sample_seeds(seeds, 0.5)
    assert calls == [8, 8, 8] and drawn["image"].shape[0] == 19
    assert np.array_equal(drawn["image"], ours.images) and np.array_equal(drawn["mask"], ours.labels)
    described = run_within(tiny, "describe", {"seed": seeds}, None)["description"]
    assert len(described) == 19 and len(set(described.tolist())) == 1


def test_answers_are_limited_before_they_are_made(tiny):
    """48 bytes of request took 7 GiB: strings counted as nothing."""
    seed = {"seed": np.zeros(200, np.int64)}
    ticket = Gate(Limits(items=199)).ticket
    assert code_of(tiny, "describe", seed, ticket("REST")) is Code.INVALID_ARGUMENT
    length = len(run_within(tiny, "describe", {"seed": seed["seed"][:1]}, None)["description"][0])
    calls, run = [], tiny.run
    tiny.run = lambda signature, inputs: calls.append(signature) or run(signature, inputs)
    try:
        few = Gate(Limits(answer_bytes=100 * length)).ticket
        assert code_of(tiny, "describe", seed, few("REST")) is Code.INVALID_ARGUMENT and len(calls) == 1
        full = Gate(Limits(held_bytes=1000))
        full.ticket("REST").hold_answer(999)
        assert code_of(tiny, "describe", seed, full.ticket("REST")) is Code.RESOURCE_EXHAUSTED and len(calls) == 1
    finally:
        del tiny.run


def test_a_request_that_nobody_waits_for_ends_between_chunks(tiny):
    """A client that has gone, or whose time is over, would keep a processor for minutes."""
    seed = {"seed": np.zeros(100, np.int64)}
    gone = Gate(Limits()).ticket("REST")
    gone.awaited = lambda: False
    assert code_of(tiny, "geometry", seed, gone) is Code.CANCELLED
    assert code_of(tiny, "geometry", seed, Gate(Limits(seconds=0)).ticket("REST")) is Code.DEADLINE_EXCEEDED
