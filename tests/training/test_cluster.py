import json

import pytest

from synthmed.cli.main import main
from synthmed.training.cluster import Cluster

TWO = {"worker": ["a:1", "b:2"]}


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (None, "not set"),
        ("{", "not valid JSON"),
        ("[]", '"cluster" and "task"'),
        (json.dumps({"cluster": TWO}), '"cluster" and "task"'),
        (json.dumps({"cluster": {"ps": ["a:1"]}, "task": {"type": "ps", "index": 0}}), "lists addresses as"),
        (json.dumps({"cluster": {"worker": ["a", "b"]}, "task": {"type": "worker", "index": 0}}), "host:port"),
        (json.dumps({"cluster": {"worker": "a:1"}, "task": {"type": "worker", "index": 0}}), "lists"),
        (json.dumps({"cluster": TWO, "task": {"type": "evaluator", "index": 0}}), "type 'evaluator'"),
        (json.dumps({"cluster": TWO, "task": {"type": "worker", "index": 2}}), "index 2"),
        (json.dumps({"cluster": TWO, "task": {"type": "worker", "index": "0"}}), "index '0'"),
    ],
)
def test_a_wrong_tf_config_is_one_line(text, word, store, tmp_path, monkeypatch, capsys):
    """A user would wait ten minutes for workers that do not exist, or read a traceback of TensorFlow."""
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if text is not None:
        monkeypatch.setenv("TF_CONFIG", text)
    words = ["--variant", "base", "--data", store.path, "--out", tmp_path / "run", "--strategy", "workers"]
    with pytest.raises(SystemExit) as end:
        main(["train", *map(str, words)])
    err = capsys.readouterr().err
    assert end.value.code == 2
    assert len(err.strip().splitlines()) == 1
    assert word in err
    assert not (tmp_path / "run").exists()


def test_workers_are_numbered_from_the_chief_on(monkeypatch):
    """A user of an operator that names a chief would have two workers that write one run folder."""
    cluster = {"chief": ["c:1"], "worker": ["a:1", "b:2"]}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": "worker", "index": 1}}))
    read = Cluster.of_environment()
    assert (read.index, read.addresses) == (2, ("c:1", "a:1", "b:2"))
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": "chief", "index": 0}}))
    assert Cluster.of_environment().index == 0


def test_workers_have_to_name_run_and_store(tmp_path, monkeypatch, capsys):
    """A user would have every worker number a run folder of its own."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["train", "--variant", "base", "--strategy", "workers"])
    assert "needs --out and --data" in capsys.readouterr().err
