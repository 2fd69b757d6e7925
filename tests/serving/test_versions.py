"""Versions of a model that come, go and are damaged while a server runs."""

import json
import shutil
import threading

import pytest

pytest.importorskip("starlette")
pytest.importorskip("tensorflow_serving")
pytest.importorskip("prometheus_client")

from half_server import ask, running, until

from synthmed.errors import UserError
from synthmed.serving.manager import ModelManager, State
from synthmed.serving.models_config import ModelConfig


def test_versions_are_swapped_without_losing_a_request(half, tmp_path):
    """An update at noon would fail requests, or go unnoticed until somebody restarts the server."""
    shutil.copytree(half / "1", tmp_path / "half" / "1")
    manager = ModelManager([ModelConfig("half", tmp_path / "half")])
    statuses, over = [], threading.Event()
    with running(manager, poll_seconds=0.05) as server:

        def hammer():
            while not over.is_set():
                statuses.append(ask(server)[0])

        threads = [threading.Thread(target=hammer) for _ in range(3)]
        for thread in threads:
            thread.start()
        shutil.copytree(half / "2", tmp_path / "arriving")
        (tmp_path / "arriving").rename(tmp_path / "half" / "2")
        until(lambda: [one.version for one in manager.servables()] == [2])
        told = json.loads(ask(server, "GET", "/v1/models/half")[1])["model_version_status"]
        over.set()
        for thread in threads:
            thread.join(60)
    assert statuses and set(statuses) == {200}
    assert [(one["version"], one["state"]) for one in told] == [("2", "AVAILABLE"), ("1", "END")]


def test_a_damaged_new_version_leaves_the_old_one_and_is_tried_again_when_mended(half, tmp_path):
    """A copy that was interrupted would take the model off the air, or never come on."""
    shutil.copytree(half / "1", tmp_path / "half" / "1")
    shutil.copytree(half / "2", tmp_path / "half" / "2")
    variables = tmp_path / "half" / "2" / "variables" / "variables.data-00000-of-00001"
    whole = variables.read_bytes()
    variables.write_bytes(whole[: len(whole) // 2])
    lines = []
    manager = ModelManager([ModelConfig("half", tmp_path / "half")], notify=lines.append)
    (tmp_path / "half" / "2").rename(tmp_path / "later")
    manager.load()
    (tmp_path / "later").rename(tmp_path / "half" / "2")
    manager.refresh()
    manager.refresh()
    assert manager.find("half").version == 1
    newer, older = manager.statuses("half")
    assert (newer.version, newer.state, older.state) == (2, State.END, State.AVAILABLE)
    assert "cannot be loaded" in newer.error and len(lines) == 1, "told once, not at each look"
    variables.write_bytes(whole)
    manager.refresh()
    assert manager.find("half").version == 2
    shutil.rmtree(tmp_path / "half" / "2")
    manager.refresh()
    assert manager.find("half").version == 1, "going back is deleting the new version"
    shutil.rmtree(tmp_path / "half" / "1")
    manager.refresh()
    assert manager.find("half").version == 1, "a folder that is away for a moment takes nothing off the air"


def test_models_and_labels_come_and_go_with_the_configuration(half):
    """Every change of models.config would need a restart."""
    configs = [ModelConfig("half", half, 0, (), {"stable": 1})]
    manager = ModelManager(configs, source=lambda: list(configs))
    manager.load()
    assert manager.find("half", label="stable").version == 1
    configs[:] = [ModelConfig("half", half, 0, (), {"stable": 2}), ModelConfig("other", half)]
    manager.refresh()
    assert manager.find("half", label="stable").version == 2 and manager.find("other").version == 2
    del configs[1]
    manager.refresh()
    assert not manager.known("other")


def test_warm_up_runs_at_the_load_and_a_bad_record_fails_it(half, tmp_path):
    """The first user would wait for what should have been prepared, or a broken model would go on the air."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    path = tmp_path / "half" / "1"
    shutil.copytree(half / "1", path)
    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.name = "half"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0], tf.float32))
    (path / "assets.extra").mkdir()
    records = path / "assets.extra" / "tf_serving_warmup_requests"
    for signature, fits in (("", True), ("none", False)):
        request.model_spec.signature_name = signature
        with tf.io.TFRecordWriter(str(records)) as writer:
            writer.write(log.SerializeToString())
        manager = ModelManager([ModelConfig("half", tmp_path / "half")])
        if fits:
            manager.load()
        else:
            with pytest.raises(UserError, match="warm-up request 0 fails"):
                manager.load()
