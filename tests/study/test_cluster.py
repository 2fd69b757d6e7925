"""What docs/study.md says about clusters is what the installed Dask takes."""

import re
import shlex
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from synthmed.files import read_json

pytest.importorskip("distributed")

DOCS = Path(__file__).parents[2] / "docs" / "study.md"
ADDRESS = "127.0.0.1"
TINY = """
name: tiny
data: [{name: phantom, phantom: {cases: 4, size: 32, channels: 1}, size: 32x32, split: [0.5, 0.0, 0.5]}]
patients: [2]
models: [{name: real, variant: real}]
training: {steps: 2, batch: 4, width: 4, levels: 2}
scoring: {tolerance: null}
"""

pytestmark = pytest.mark.skipif(not DOCS.is_file(), reason="needs a checkout")


def lines(command):
    """Return the words of each line of the documentation's blocks that begins with a command."""
    found = re.findall(rf"^{command} .*$", DOCS.read_text(encoding="utf-8"), re.M)
    return [shlex.split(line.replace("ADDRESS", ADDRESS)) for line in found]


def parse(words):
    """Read a line as `dask` would, without starting anything."""
    from distributed.cli.dask_scheduler import main as scheduler
    from distributed.cli.dask_worker import main as worker

    program, command, *arguments = words
    assert program == "dask"
    return {"scheduler": scheduler, "worker": worker}[command].make_context(command, arguments).params


def test_lines_for_machines_are_taken():
    """A user would be told that there is no such command, or no such option."""
    scheduler, worker = lines("dask")
    assert (scheduler[1], worker[1]) == ("scheduler", "worker")
    # An address has to be chosen: without one the scheduler listens to everybody.
    assert parse(scheduler)["host"] == ADDRESS
    assert parse(worker)["nthreads"] == 1
    (study,) = lines("synthmed study run .*--scheduler")
    assert study[-1] == parse(worker)["scheduler"] == f"tcp://{ADDRESS}:{parse(scheduler)['port']}"


def test_pods_of_the_operator_start_dask(monkeypatch):
    """Pods would run `synthmed dask-worker`, which is no command, or run as root, or without the shared folder."""

    def make_cluster_spec(*, name, image, n_workers, worker_command):
        # What dask-kubernetes 2026.3 puts together: arguments and no command, so that the image's own is started.
        after = ["--name", "one", "--dashboard", "--dashboard-address", "8788"]
        parts = {"scheduler": ["dask-scheduler", "--host", "0.0.0.0"], "worker": [*worker_command.split(" "), *after]}
        made.update({part: {"containers": [{"image": image, "args": words}]} for part, words in parts.items()})
        return {"spec": {part: {"spec": pod} for part, pod in made.items()}}

    made: dict = {}
    module = ModuleType("dask_kubernetes.operator")
    module.make_cluster_spec = make_cluster_spec
    module.KubeCluster = lambda custom_cluster_spec: type("Cluster", (), {"scheduler_address": "tcp://study:8786"})
    monkeypatch.setitem(sys.modules, "dask_kubernetes.operator", module)
    (block,) = re.findall(r"```python\n(from dask_kubernetes.*?)```", DOCS.read_text(encoding="utf-8"), re.S)
    exec(block, {})
    for part, pod in made.items():
        (container,) = pod["containers"]
        assert parse([*container["command"], *container["args"]]) and container["args"][0] == part
        assert pod["securityContext"]["runAsNonRoot"] and container["image"] == "synthmed:study"
    (mount,) = made["worker"]["containers"][0]["volumeMounts"]
    assert mount["name"] == made["worker"]["volumes"][0]["name"]
    assert "EXTRAS=serving,study" in lines("docker build")[0]


@contextmanager
def running(words, log):
    """Have a command run in the background; it writes to a file."""
    with log.open("w") as out:
        process = subprocess.Popen([sys.executable, "-m", *words], stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.long
def test_a_study_runs_on_a_scheduler_and_workers_that_were_started_by_hand(tmp_path):
    """The documented lines would not lead to a finished study."""
    import socket

    with socket.socket() as free:
        free.bind((ADDRESS, 0))
        port = str(free.getsockname()[1])
    here = ["--dashboard-address", f"{ADDRESS}:0"]
    scheduler, worker = ([word.replace("8786", port) for word in words] for words in lines("dask"))
    worker[worker.index("--nworkers") + 1] = "2"
    (tmp_path / "tiny.yaml").write_text(TINY, encoding="utf-8")
    (study,) = ([word.replace("8786", port) for word in words] for words in lines("synthmed study run .*--scheduler"))
    study[study.index("hippocampus")] = str(tmp_path / "tiny.yaml")
    study[study.index("--out") + 1] = str(tmp_path / "out")
    with running([*scheduler, *here], tmp_path / "scheduler"), running([*worker, *here], tmp_path / "worker"):
        command = [sys.executable, "-m", "synthmed.cli.main", *study[1:]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr + (tmp_path / "worker").read_text()
    (trial,) = (tmp_path / "out").glob("trials/*/trial.json")
    assert read_json(trial)["status"] == "finished"
