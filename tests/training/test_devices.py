"""Several devices, and several worker processes on loopback.

TensorFlow's functions run line by line here, too: tracing them takes ten times longer than the steps of a tiny
network."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthmed.cli.main import main
from synthmed.errors import UserError
from synthmed.training.devices import Cluster, Devices, check_share
from synthmed.training.options import TrainOptions, resolve
from synthmed.training.run import Run

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


# Two replicas of four slices each: whole groups of the minibatch standard deviation.
SMALL = {"batch": 8, "channel_base": 128, "channel_max": 16, "mapping_layers": 2, "precision": "float32", "seed": 3}
STEPS = 3
# Seconds; enough for two cores that have ten other things to do.
WAIT = 480

# What a worker runs: the command line, with a copy of what this process holds at the third step.
WORKER = """
    import sys
    import numpy as np
    import tensorflow as tf
    tf.config.run_functions_eagerly(True)
    from synthmed.cli.main import main
    from synthmed.training.trainer import Trainer
    save = Trainer._save
    def save_and_copy(self):
        save(self)
        if self.progress.step == 3:
            np.savez(sys.argv[1], **self.engine.arrays())
    Trainer._save = save_and_copy
    main(sys.argv[2:])
"""

# Steps of an engine on logical devices of one processor.
MIRRORED = """
    import sys
    import numpy as np
    import tensorflow as tf
    processor = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
    tf.config.run_functions_eagerly(True)
    from synthmed.data.store import Store
    from synthmed.training.options import TrainOptions
    from synthmed.training.plan import execute, plan_training
    from synthmed.training.backends import make_devices
    from pathlib import Path
    devices = make_devices("mirrored")
    assert devices.replicas == 2
    options = TrainOptions(variant="base", kimg=0.024, augment="none", strategy="mirrored", **{small!r})
    execute(plan_training(Path(sys.argv[1]), options, Store.open(sys.argv[2])), devices=devices)
"""


STARTED: list[subprocess.Popen] = []


@pytest.fixture(autouse=True)
def end_what_was_started():
    """Leave no worker behind that waits for others."""
    yield
    while STARTED:
        process = STARTED.pop()
        process.kill()
        process.wait()


def start(script, *words, cluster=None, index=0):
    """Start a Python process, as a worker of a cluster where one is given."""
    environment = dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="")
    if cluster:
        environment["TF_CONFIG"] = json.dumps(
            {"cluster": {"worker": cluster}, "task": {"type": "worker", "index": index}}
        )
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    STARTED.append(subprocess.Popen(command, env=environment, text=True, **pipes))
    return STARTED[-1]


def start_workers(folder, *words):
    """Start `synthmed train --strategy workers` with two workers, which copy their third step into a folder."""
    sockets = [socket.socket() for _ in range(2)]
    for one in sockets:
        one.bind(("localhost", 0))
    cluster = [f"localhost:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    common = ("train", "--strategy", "workers", *words)
    return [start(WORKER, folder / f"{index}.npz", *common, cluster=cluster, index=index) for index in range(2)]


def wait_for(path_exists, *processes):
    """Wait until something is there; a process that ends before it is an error."""
    end = time.monotonic() + WAIT
    while not path_exists():
        assert time.monotonic() < end
        assert [process.poll() for process in processes] == [None] * len(processes), processes[0].communicate()[1]
        time.sleep(0.1)


def assignments(**more):
    return [word for key, value in (SMALL | more).items() for word in ("--set", f"{key}={value}")]


def train_alone(path, store, **more):
    """Train on one device in this process."""
    from synthmed.training.plan import execute, plan_training

    resume = (path / "run.json").is_file()
    options = TrainOptions(**({"variant": "base"} | SMALL | more))
    existing_run = Run.open(path) if resume else None
    return execute(plan_training(path, options, store, existing_run=existing_run), resume=resume)


def assert_alike(first, second):
    """Compare weights, average, optimisers, path length mean and augmentation probability."""
    assert first.keys() == second.keys()
    assert {"path_mean", "augment_probability", "generator/mapping/w_average"} <= first.keys()
    apart = {name: np.abs(first[name].astype(float) - second[name]).max() for name in first}
    assert {name: value for name, value in apart.items() if value > 1e-4} == {}


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
def test_two_workers_do_what_one_does_and_survive_the_loss_of_one(store, tmp_path):
    """A user would train something else on a cluster than on one machine, or hang when a machine dies."""
    run, every = tmp_path / "run", {"distance_kimg": 0.024, "distance_slices": 16, "keep_checkpoints": 1000}
    words = ("--variant", "base", "--data", store.path, "--out", run, "--kimg", "100", *assignments(**every))
    chief, other = start_workers(tmp_path, *words)
    train_alone(tmp_path / "alone", store, kimg=0.024, **every)
    wait_for(lambda: (run / "checkpoints" / "step-000000003").is_dir() and (tmp_path / "1.npz").is_file(), chief, other)
    time.sleep(0.5)
    other.send_signal(signal.SIGKILL)
    _, err = chief.communicate(timeout=WAIT)
    other.communicate()
    last = err.strip().splitlines()[-1]
    assert chief.returncode == 2, err
    assert last.startswith("synthmed: error: worker 1 (localhost:")
    assert f"synthmed train --variant base --out {run} --resume --strategy workers" in last
    assert "Traceback" not in err

    copies = [dict(np.load(tmp_path / f"{index}.npz")) for index in range(2)]
    assert all(np.array_equal(copies[0][name], copies[1][name]) for name in copies[0])
    alone = Run.open(tmp_path / "alone").last_arrays()[1]
    assert_alike(copies[0], alone)

    step = Run.open(run).checkpoints()[-1].state["step"]
    assert train_alone(run, store, kimg=(step + 1) * 8 / 1000, strategy="one", **every)
    assert Run.open(run).checkpoints()[-1].state["step"] == step + 1


@pytest.mark.long
def test_a_signal_to_one_worker_stops_all_and_all_go_on_with_both_generators(store, tmp_path):
    """A user who stops a job of a cluster would leave workers behind, or could not go on with a `cond` run."""
    run = tmp_path / "run"
    words = ("--variant", "cond", "--data", store.path, "--out", run, *assignments(distance_slices=16))
    workers = start_workers(tmp_path, *words, "--minutes", "100", "--set", "distance_kimg=0.008")
    wait_for(lambda: any((run / "mask-generator" / "checkpoints").glob("step-*")), *workers)
    workers[1].send_signal(signal.SIGTERM)
    ends = [(worker.communicate(timeout=WAIT)[1], worker.returncode) for worker in workers]
    assert [code for _, code in ends] == [2, 2], ends
    assert all("stopped" in err and "--resume" in err for err, _ in ends)
    stopped = Run.open(run / "mask-generator").checkpoints()[-1].state["step"]

    budget = str((stopped + 1) * 8 / 1000)
    workers = start_workers(tmp_path, *words, "--resume", "--kimg", budget, "--set", "distance_kimg=1")
    ends = [(worker.communicate(timeout=WAIT)[1], worker.returncode) for worker in workers]
    assert [code for _, code in ends] == [0, 0], ends
    for path in (run, run / "mask-generator"):
        assert Run.open(path).checkpoints()[-1].state["step"] == stopped + 1
        lines = [json.loads(line)["step"] for line in (path / "log.jsonl").read_text().splitlines()]
        assert lines == sorted(set(lines))


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
def test_two_devices_of_one_machine_do_what_one_does(store, tmp_path):
    """A user with two GPUs would train something else than with one."""
    process = start(MIRRORED.replace("{small!r}", repr(SMALL)), tmp_path / "two", store.path)
    train_alone(tmp_path / "one", store, kimg=0.024, augment="none")
    _, err = process.communicate(timeout=WAIT)
    assert process.returncode == 0, err
    assert_alike(*(Run.open(tmp_path / name).last_arrays()[1] for name in ("one", "two")))


class Thread(Devices):
    """One of several workers that are threads of this process."""

    def __init__(self, index, count, barrier, rows):
        super().__init__(None, Cluster(tuple(f"host{place}:1" for place in range(count)), index, {"worker": count}))
        self.barrier, self.rows = barrier, rows

    def _table(self, first, second):
        self.rows[self.index] = first, second
        self.barrier.wait(10)
        table = np.array(self.rows)
        self.barrier.wait(10)
        return table


def on_workers(work, count=3):
    """Return what `work` returns or raises on each of several workers."""
    barrier, rows = threading.Barrier(count), [(0.0, 0.0)] * count

    def run(index):
        try:
            return work(Thread(index, count, barrier, rows))
        except UserError as error:
            return str(error)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


@settings(max_examples=20, deadline=None)
@given(paces=st.lists(st.floats(1e-4, 3.0), min_size=3, max_size=3), who=st.integers(0, 2), when=st.integers(1, 150))
def test_workers_with_different_clocks_stop_after_the_same_step(paces, who, when):
    """A user would see a cluster hang: one worker left, the others wait for its gradients."""

    def loop(devices):
        agreement = devices.agreement(0)
        for step in range(1, 400):
            mine = devices.index == who and step >= when
            if agreed := agreement.ask(step, step * paces[devices.index], mine):
                seconds, stop = agreed
                if stop:
                    return step, seconds
        return None

    first, *others = on_workers(loop)
    assert first is not None
    assert others == [first, first]
    # The clock is that of worker 0, and nobody waits longer than the pause between two questions.
    assert first[1] == pytest.approx(first[0] * paces[0])
    assert when <= first[0] <= when + max(1, min(100, 0.5 / paces[0]))


def test_workers_that_differ_are_refused_on_all_of_them():
    """A user would average the gradients of two different trainings."""
    same = on_workers(lambda devices: devices.check_same("weights", {"a": np.arange(3.0)}))
    assert same == [None] * 3
    apart = on_workers(lambda devices: devices.check_same("weights", {"a": np.arange(3.0) + (devices.index == 2)}))
    assert all("worker 2 and worker 0 have not the same weights" in text for text in apart)


def test_what_the_chief_refuses_ends_all_workers():
    """A user would have workers that wait for a chief that has ended."""

    def refuse():
        raise UserError("the folder is not empty")

    first, *others = on_workers(lambda devices: devices.chief_first(refuse))
    assert first == "the folder is not empty"
    assert all("worker 0 (host0:1) refused" in text for text in others)
    assert on_workers(lambda devices: devices.chief_first(lambda: 5)) == [5, None, None]


@pytest.mark.parametrize(
    ("count", "index", "message", "who"),
    [
        (2, 0, "recvmsg:Connection reset by peer", "worker 1 (host1:1) is gone"),
        (3, 0, "from remote target /job:worker/replica:0/task:2 while", "worker 2 (host2:1) is gone"),
        (3, 1, "Failed to send RPC to coordination service", "worker 0 (host0:1) is gone"),
        (3, 0, "heartbeat timeout", "one of the 3 workers is gone"),
    ],
)
def test_the_loss_of_a_worker_is_conditional_with_the_command_to_go_on(count, index, message, who):
    """A user would read of collective operations and ordering tokens."""
    import tensorflow as tf

    devices = Thread(index, count, None, None)
    options = TrainOptions(variant="cond", kimg=1)
    with pytest.raises(UserError) as caught, devices.watched(Path("runs/x"), options):
        raise tf.errors.UnavailableError(None, None, message)
    assert who in str(caught.value)
    assert "synthmed train --variant cond --out runs/x --resume --strategy one" in str(caught.value)
    with pytest.raises(tf.errors.InvalidArgumentError), devices.watched(Path("runs/x"), options):
        raise tf.errors.InvalidArgumentError(None, None, "a fault of ours")


def test_mirrored_on_one_device_works_and_says_so(store, tmp_path, capsys, eager):
    """A user would think that a machine with one device has two."""
    words = ["--variant", "mask", "--data", store.path, "--out", tmp_path / "run", "--kimg", "0.008"]
    with pytest.raises(SystemExit) as end:
        main(["train", *map(str, words), *assignments(distance_slices=16), "--strategy", "mirrored"])
    err = capsys.readouterr().err
    assert end.value.code == 0, err
    assert "one device: nothing to share" in err
