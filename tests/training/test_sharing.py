import json

import pytest

from synthmed.cli.main import main
from synthmed.errors import UserError
from synthmed.training.options import TrainOptions, resolve
from synthmed.training.sharing import check_share


def test_a_dry_run_says_how_a_batch_is_shared_without_the_other_workers(store, tmp_path, monkeypatch, capsys):
    """A user would have to book a cluster to see what a run on it would do."""
    config = {"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 1}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    words = ["--variant", "base", "--data", store.path, "--out", tmp_path / "run", "--strategy", "workers"]
    with pytest.raises(SystemExit) as end:
        main(["train", *map(str, words), "--dry-run", "--json"])
    assert end.value.code == 0
    assert json.loads(capsys.readouterr().out)[0]["devices"] == {"replicas": 2, "batch_a_replica": 4}


def test_a_batch_that_does_not_divide_is_refused():
    """A user would train on a batch of another size than was asked for."""
    options = resolve(TrainOptions(variant="base", batch=8), size=(32, 32))
    check_share(options, 4)
    for replicas in (3, 8):
        with pytest.raises(UserError, match=f"{replicas} replicas: give --batch {2 * replicas}"):
            check_share(options, replicas)
