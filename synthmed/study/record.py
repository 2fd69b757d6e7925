"""What a running study writes of itself: its journal, and runs of MLflow."""

import json
import os
import shutil
import time
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from synthmed.files import read_json, write_json
from synthmed.progress import Progress, Say
from synthmed.segmentation.score_table import Score, summarise
from synthmed.study.folder import PROGRESS, RUNNING, TRIAL, StudyFolder
from synthmed.study.grid import Grid, Task
from synthmed.study.work import progress_file

_RECENT_SECONDS = 900.0
"""A task that said nothing for so long is not shown as running: its worker may be gone."""


@dataclass
class Summary:
    """How a study ended.

    Attributes:
        trials: How many there are.
        finished: How many of them are finished.
        failed: What failed and why, trials whose generator failed included.
        done: How many tasks were done now.
    """

    trials: int
    finished: int
    failed: dict[str, str] = field(default_factory=dict)
    done: int = 0

    @property
    def words(self) -> str:
        """Return the summary in one line."""
        failed = f", {len(self.failed)} failed" if self.failed else ""
        return f"{self.finished} of {self.trials} trials are finished{failed}"


class Journal:
    """Keeps count of tasks.

    Args:
        folder: Of the study.
        grid: All its tasks.
        tasks: Those that are done now.
        report: Told after each of them.

    Attributes:
        failed: Cause by hash.
    """

    def __init__(self, folder: StudyFolder, grid: Grid, tasks: list[Task], report: Progress):
        self.folder, self.grid, self.report = folder, grid, report
        self.tasks = {task.digest: task for task in tasks}
        self.failed: dict[str, str] = {}
        self.started = time.time()
        self._done: set[str] = set()
        self._last = ""
        # What an earlier run left that was killed.
        shutil.rmtree(folder.path / RUNNING, ignore_errors=True)

    def finished(self, task: Task) -> None:
        """Count a task."""
        self._done.add(task.digest)
        progress_file(self.folder, task).unlink(missing_ok=True)
        self.write("running")

    def fail(self, task: Task, cause: str) -> None:
        """List a task as failed."""
        self.failed[task.digest] = cause
        progress_file(self.folder, task).unlink(missing_ok=True)
        self.write("running")

    def summary(self) -> Summary:
        """Return what is finished and what failed."""
        missing = sum(digest in self.tasks and digest not in self._done for digest in self.grid.trials)
        causes = {digest: cause for digest, cause in self.failed.items() if digest in self.grid.trials}
        return Summary(len(self.grid.trials), len(self.grid.trials) - missing, causes, len(self._done))

    def write(self, status: str) -> None:
        """Tell whoever listens, and write `progress.json` where something changed."""
        running, summary = self._running(), self.summary()
        now = "; ".join(f"{one['words']} {one['share']:.0%}" for one in running) or "nothing yet"
        note = summary.words + (f"; now: {now}" if status == "running" else "")
        self.report(len(self._done) + len(self.failed), len(self.tasks), note)
        value: dict[str, Any] = {
            "status": status,
            "trials": {"all": summary.trials, "finished": summary.finished, "failed": len(summary.failed)},
            "tasks": {"all": len(self.tasks), "finished": len(self._done), "failed": len(self.failed)},
            "running": running,
            "failed": [{"words": self.grid.tasks[one].words, "cause": cause} for one, cause in self.failed.items()],
        }
        text = json.dumps(value)
        if text != self._last:
            self._last = text
            times = {"started": _clock(self.started), "updated": _clock(time.time())}
            try:
                write_json(self.folder.path / PROGRESS, {**value, **times})
            except OSError:
                # A full disk is told of by whoever cannot write a result.
                return

    def _running(self) -> list[dict[str, Any]]:
        found = []
        # Only what is at work has a file; asking for each of ten thousand tasks would keep a network drive busy.
        for path in sorted((self.folder.path / RUNNING).glob("*.json")):
            task = self.tasks.get(path.stem)
            if task is None or task.digest in self._done or task.digest in self.failed:
                continue
            try:
                value = json.loads(path.read_text(encoding="utf-8"))
                if time.time() - path.stat().st_mtime > _RECENT_SECONDS:
                    continue
                share = value["done"] / value["total"] if value["total"] else 0.0
                found.append({"words": task.words, "share": round(min(share, 1.0), 2), "note": value["note"]})
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return found


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(seconds))


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
