"""Finished trials in MLflow, where somebody has it."""

import sys
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace

import pytest
from fakes import configuration, faking, table

from synthmed.study import record as tracking
from synthmed.study.record import metrics, parameters
from synthmed.study.runner import run_study

SMALL = """
data: [{name: phantom, phantom: {cases: 4, size: 16, channels: 1}, split: [0.5, 0, 0.5]}]
patients: 2
seeds: 2
models: [{name: real, variant: real}]
"""


@pytest.fixture
def mlflow(monkeypatch):
    """Return an MLflow that writes down what it is told."""
    told: list[tuple] = []
    module = ModuleType("mlflow")

    @contextmanager
    def start_run(run_name):
        told.append(("run", run_name))
        yield SimpleNamespace(info=SimpleNamespace(run_id="id-" + run_name))

    module.start_run = start_run
    for name in ("set_tracking_uri", "set_experiment", "set_tag", "log_params", "log_metrics"):
        setattr(module, name, lambda *values, name=name: told.append((name, *values)))
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.setattr(tracking, "find_spec", lambda name: module)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return SimpleNamespace(module=module, told=told)


def test_each_trial_is_logged_once_with_parameters_and_scores(mlflow, scheduler, tmp_path):
    """Trials would be missing in somebody's table, or stand there twice after each resumption."""
    run_study(configuration(SMALL), tmp_path, scheduler=scheduler, work=faking())
    assert [one[0] for one in mlflow.told].count("run") == 2
    assert mlflow.told[0] == ("set_tracking_uri", f"sqlite:///{tmp_path / 'mlflow.db'}")
    logged = next(one[1] for one in mlflow.told if one[0] == "log_params")
    assert logged["dataset"] == "phantom" and logged["model"] == "real" and logged["augmentation"] is True
    run_study(configuration(SMALL), tmp_path, scheduler=scheduler, work=faking())
    assert [one[0] for one in mlflow.told].count("run") == 2


def test_an_mlflow_that_fails_stops_nothing(mlflow, scheduler, tmp_path):
    """A tracking server that is down would cost the study."""

    def down(name):
        raise ConnectionError("server is down")

    mlflow.module.set_experiment = down
    said: list[str] = []
    summary = run_study(configuration(SMALL), tmp_path, scheduler=scheduler, work=faking(), say=said.append)
    assert summary.finished == 2
    assert said == ["MLflow does not take the trials (server is down); the study goes on"]


def test_what_is_logged(scheduler, tmp_path):
    """Without MLflow nothing is written; the numbers are means over patients, and unknown ones are left out."""
    run_study(configuration(SMALL), tmp_path, scheduler=scheduler, work=faking())
    assert not list(tmp_path.glob("trials/*/mlflow.json")) and not (tmp_path / "mlflow.db").exists()
    trial = table(tmp_path)[0] | {"hours": {"generator": 0.0, "training": 0.5, "scoring": 0.1}}
    dice = trial["scores"][0]["dice"]
    assert metrics(trial) == {
        **{"hours_generator": 0.0, "hours_training": 0.5, "hours_scoring": 0.1},
        **{"dice_core": pytest.approx(dice), "dice_mean": pytest.approx(dice)},
    }
    assert parameters(trial)["recipe_pretrain"] == 0.0 and parameters(trial)["unet_seed"] in (0, 1)
