"""Every finished trial as an MLflow run, where MLflow is installed; nothing otherwise."""

import os
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from synthmed.files import read_json, write_json
from synthmed.progress import Say
from synthmed.segmentation.score_table import Score, summarise
from synthmed.study.folder import TRIAL, StudyFolder

LOGGED = "mlflow.json"


class Tracker:
    """Logs trials. What cannot be logged is said once and stops nothing.

    Args:
        name: Of the experiment.
        folder: Of the study; without MLFLOW_TRACKING_URI its `mlflow.db` is written to.
        say: Told what went wrong.
    """

    def __init__(self, name: str, folder: StudyFolder, say: Say):
        self.folder, self.name, self._say = folder, name, say
        # Not imported by name: it is no dependency, and takes seconds.
        self._there = find_spec("mlflow") is not None
        self._mlflow: Any = None

    def log(self, digest: str) -> None:
        """Log a finished trial unless it has been logged."""
        where = self.folder.of("trial", digest)
        if not self._there or (where / LOGGED).is_file():
            return
        try:
            write_json(where / LOGGED, {"run": self._log(where)})
        except Exception as error:
            self._there = False
            self._say(f"MLflow does not take the trials ({' '.join(str(error).split())[:200]}); the study goes on")

    def _log(self, where: Path) -> str:
        if self._mlflow is None:
            self._mlflow = import_module("mlflow")
            if not os.environ.get("MLFLOW_TRACKING_URI"):
                self._mlflow.set_tracking_uri(f"sqlite:///{self.folder.path / 'mlflow.db'}")
            self._mlflow.set_experiment(self.name)
        trial = read_json(where / TRIAL)
        with self._mlflow.start_run(run_name=where.name) as run:
            self._mlflow.set_tag("synthmed.trial", where.name)
            self._mlflow.log_params(parameters(trial))
            self._mlflow.log_metrics(metrics(trial))
            return str(run.info.run_id)


def parameters(trial: dict[str, Any]) -> dict[str, Any]:
    """Return what a trial was, without levels."""
    recipe = {f"recipe_{name}": value for name, value in trial["model"]["recipe"].items()}
    model = {name: value for name, value in trial["model"].items() if name not in ("recipe", "name")}
    return {**trial["combination"], "model": trial["model"]["name"], **model, **recipe, "unet_seed": trial["seed"]}


def metrics(trial: dict[str, Any]) -> dict[str, float]:
    """Return what came of a trial: means over patients, of each class and over classes, and hours."""
    scores = summarise([Score.model_validate(row) for row in trial["scores"]])
    found = {f"hours_{name}": value for name, value in trial["hours"].items()}
    for mean in [*scores.classes, scores.overall]:
        for what in ("dice", "hd95", "surface_dice"):
            value = getattr(mean, what)
            if value is not None:
                # MLflow takes letters, digits and a few signs.
                name = "".join(letter if letter.isalnum() else "_" for letter in mean.name)
                found[f"{what}_{name}"] = float(value)
    return found
