"""Trainings that die before a change to their folder, are resumed, and are compared with undisturbed ones.

    python benchmarks/kill_training.py OUT --rounds 50            # killed by SIGKILL, a process each
    python benchmarks/kill_training.py OUT --copies --rounds 500  # resumed from copies of the folder, one process

Trainings of tiny networks on a phantom: `base`, `cond` with its mask generator, a `base` that diverges once and goes
back, and a U-Net (in rounds of its own, a fifth as many). Each is done once undisturbed, where all changes to its
folder are counted (files opened, renames, removals); the rounds spread over them. In every second round the file that
is being written is cut in half. Weights, best weights, log (without times), pictures and drawn samples have to be the
same to the bit. What was done is in OUT/rounds.jsonl: the same command goes on after it.

With signals, in every third round the resumed training is killed, too. With copies, the undisturbed training leaves a
copy of its folder before every change, which is what its death would leave; networks are compiled once for all rounds,
and samples are drawn in every tenth of them.
"""

import argparse
import json
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from kills import Changes, differences, outcome

BATCH = 4
OPTIONS: dict[str, Any] = {
    "batch": BATCH,
    "precision": "float32",
    "channel_base": 32,
    "channel_max": 16,
    "mapping_layers": 1,
    "path_every": 3,
    "r1_every": 3,
    "distance_kimg": 2 * BATCH / 1000,
    "snapshot_kimg": 3 * BATCH / 1000,
    "distance_slices": 16,
    # A checkpoint after every step but a process's first, unless something is due there.
    "checkpoint_seconds": 1e-6,
    "seed": 5,
}
# Variant, steps, and the step whose report is made to run away once.
CASES: dict[str, tuple[str, int, int | None]] = {
    "base": ("base", 5, None),
    "cond": ("cond", 3, None),
    "diverging": ("base", 4, 2),
}
SHARES = {"base": 0.36, "cond": 0.52, "diverging": 0.12, "unet": 0.2}
UNET = {"steps": 7, "batch": 4, "width": 4, "levels": 2, "log_every": 3, "precision": "float32", "validate_every": 2}
SAMPLES = "samples.npz"


def train(case: str, run: Path, store: Path, *, eager: bool = True, samples: bool = True) -> None:
    """Train a case from where it is, and draw from it."""
    import numpy as np
    import tensorflow as tf

    from synthmed.data.store import Store
    from synthmed.generation.bundle import load_bundle
    from synthmed.training.options import TrainOptions
    from synthmed.training.plan import execute, plan_training
    from synthmed.training.run import Run

    # A few steps of a tiny network take less time than their compilation.
    tf.config.run_functions_eagerly(eager)
    if case == "unet":
        _train_unet(run, store)
        return
    variant, steps, bad = CASES[case]
    _poison(bad)
    options = TrainOptions(variant=variant, kimg=steps * BATCH / 1000, **OPTIONS)
    begun = Run.open(run) if (run / "run.json").is_file() else None
    if not execute(plan_training(run, options, Store.open(store), existing_run=begun), resume=True):
        raise SystemExit("it did not end")
    if samples:
        tf.config.run_functions_eagerly(True)
        drawn = load_bundle(run).sample(np.arange(4, dtype=np.int64), np.ones(4, np.float32))
        np.savez(run / SAMPLES, **{name: np.asarray(value) for name, value in drawn.items()})


def _train_unet(run: Path, store: Path) -> None:
    import numpy as np
    import tensorflow as tf

    from synthmed.data.store import Store
    from synthmed.segmentation.options import check_options
    from synthmed.segmentation.train import train as train_unet

    tf.config.run_functions_eagerly(True)
    done = train_unet(Store.open(store), run, check_options({**UNET, "checkpoint_seconds": 0}), resume=True)
    weights = {
        which: np.concatenate([one.ravel() for one in done.load(which).get_weights()]) for which in ("last", "best")
    }
    np.savez(run / SAMPLES, **weights)


def _poison(bad: int | None) -> None:
    """Let a step's loss run away as long as the learning rate is that of the options; no step's for None."""
    from synthmed.training.tensorflow_backend import TensorFlowEngine

    plain = getattr(TensorFlowEngine.steps, "plain", TensorFlowEngine.steps)
    whole = getattr(TensorFlowEngine.scale_learning_rate, "plain", TensorFlowEngine.scale_learning_rate)

    def scale(engine: Any, factor: float) -> None:
        engine.poisoned = factor == 1.0
        whole(engine, factor)

    def steps(engine: Any, number: int, batches: Any) -> list[dict[str, Any]]:
        (report,) = plain(engine, number, batches)
        return [report | {"loss_generator": float("nan")} if number == bad and engine.poisoned else report]

    scale.plain, steps.plain = whole, plain  # type: ignore[attr-defined]
    TensorFlowEngine.scale_learning_rate, TensorFlowEngine.steps = scale, steps  # type: ignore[method-assign]


def compile_once() -> None:
    """Let all trainings of a variant share networks and compiled phases, with the weights that they begin with."""
    from synthmed.training import trainer

    make_networks, make_engine = trainer.make_networks, trainer.make_engine
    known: dict[str, tuple[Any, dict[str, Any]]] = {}

    def networks(options: Any, **shape: Any) -> Any:
        return known[options.variant][0].networks if options.variant in known else make_networks(options, **shape)

    def engine(networks: Any, options: Any, devices: Any) -> Any:
        if options.variant not in known:
            made = make_engine(networks, options, devices)
            known[options.variant] = made, made.arrays()
        made, arrays = known[options.variant]
        for name, variable in made.state().items():
            variable.assign(arrays[name])
        return made

    trainer.make_networks, trainer.make_engine = networks, engine


def rounds_of_copies(case: str, count: int, out: Path, store: Path, done: set[int]) -> Iterator[dict[str, Any]]:
    """Train a case, leaving copies, and yield what came of going on from each n-th of them."""
    run, copies, again = out / "whole" / case, out / "copies" / case, out / "again" / case
    for folder in (run, copies):
        shutil.rmtree(folder, ignore_errors=True)
    copies.mkdir(parents=True)
    changes = Changes(run, copies=copies)
    train(case, run, store, eager=False, samples=False)
    changes.active = False
    drawn = outcome(run)
    train(case, run, store, eager=False)
    whole, seen = outcome(run), changes.seen
    for place in range(min(count, len(seen))):
        number = 1 + place * (len(seen) - 1) // max(1, min(count, len(seen)) - 1)
        if place in done:
            continue
        start, samples = time.monotonic(), place % 10 == 0
        shutil.rmtree(again, ignore_errors=True)
        shutil.copytree(copies / str(number), again)
        train(case, again, store, eager=False, samples=samples)
        yield {
            "case": case,
            "place": place,
            "number": number,
            "points": [seen[number - 1]],
            "torn": number % 2 == 0,
            "samples": samples,
            "different": differences(whole if samples else drawn, outcome(again)),
            "seconds": round(time.monotonic() - start, 1),
        }


def in_child(work: Callable[[], None], log: Path) -> int:
    """Do some work in a copy of this process, which has imported all and computed nothing, and return how it ended."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            with open(log, "a") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            work()
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed(case: str, run: Path, store: Path, number: int, *, torn: bool, log: Path) -> str | None:
    """Train until the process dies before a change; return which, or None where the training ended before it."""
    where = run.with_name("where.json")
    where.unlink(missing_ok=True)

    def work() -> None:
        def die() -> None:
            where.write_text(json.dumps(changes.seen[-1]))
            os.kill(os.getpid(), signal.SIGKILL)

        changes = Changes(run, deadly=number, die=die, torn=torn)
        train(case, run, store)

    code = in_child(work, log)
    if code not in (0, -signal.SIGKILL):
        raise SystemExit(f"{run}: a training failed, see {log}")
    return json.loads(where.read_text()) if where.exists() else None


def undisturbed(case: str, out: Path, store: Path, log: Path) -> list[str]:
    """Train a case once without a disturbance and return all changes that it made."""
    run, listing = out / "whole" / case, out / "whole" / f"{case}.json"
    if not listing.exists():
        shutil.rmtree(run, ignore_errors=True)

        def work() -> None:
            changes = Changes(run)
            train(case, run, store)
            changes.active = False
            listing.write_text(json.dumps(changes.seen))

        if in_child(work, log):
            raise SystemExit(f"{run}: the undisturbed training failed, see {log}")
    return json.loads(listing.read_text())


def one_round(case: str, place: int, number: int, whole: dict[str, Any], out: Path, store: Path) -> dict[str, Any]:
    """Kill, resume and compare; return what was found."""
    run, log, start = out / "cut", out / "rounds.log", time.monotonic()
    shutil.rmtree(run, ignore_errors=True)
    points = [killed(case, run, store, number, torn=place % 2 == 1, log=log)]
    if place % 3 == 2:
        points.append(killed(case, run, store, 10 + 7 * place % 60, torn=False, log=log))
    if in_child(lambda: train(case, run, store), log):
        raise SystemExit(f"{run}: the resumed training failed, see {log}")
    different = differences(whole, outcome(run))
    return {
        "case": case,
        "place": place,
        "number": number,
        "points": [point for point in points if point],
        "torn": place % 2 == 1,
        "different": different,
        "seconds": round(time.monotonic() - start, 1),
    }


def make_store(path: Path) -> None:
    """Prepare a phantom."""
    from synthmed.data.phantom import write_phantom
    from synthmed.data.prepare import prepare
    from synthmed.data.readers import read_dataset

    if not path.exists():
        shutil.rmtree(path.with_name("phantom"), ignore_errors=True)
        write_phantom(path.with_name("phantom"), cases=6, size=32, channels=2, seed=1)
        dataset = read_dataset(path.with_name("phantom"))
        prepare(dataset, path, size=(32, 32), split=(0.5, 0.25, 0.25), seed=1)


def print_table(rounds: list[dict[str, Any]]) -> None:
    """Print how many rounds killed which training before which kind of change, and in how many all was the same."""
    kinds: Counter[tuple[str, str]] = Counter()
    good: Counter[tuple[str, str]] = Counter()
    for one in rounds:
        event, _, name = one["points"][0].partition(" ")
        file = name.split("/")[-1].removesuffix(".partial")
        kind = (
            one["case"],
            f"{event} {'checkpoint' if file.startswith(('.step', 'step')) else file or 'temporary file'}",
        )
        kinds[kind] += 1
        good[kind] += not one["different"]
    print("| training | killed before | rounds | all the same |\n|---|---|---|---|")
    for case, kind in sorted(kinds):
        print(f"| `{case}` | {kind} | {kinds[case, kind]} | {good[case, kind]} |")
    print(f"| all | | {len(rounds)} | {sum(good.values())} |")


def rounds_of_signals(case: str, count: int, out: Path, store: Path, done: set[int]) -> Iterator[dict[str, Any]]:
    """Train a case and yield what came of killing it before each n-th change."""
    seen = undisturbed(case, out, store, out / "rounds.log")
    whole = outcome(out / "whole" / case)
    for place in range(count):
        if place not in done:
            number = 1 + round(place * (len(seen) - 1) / max(1, count - 1))
            yield one_round(case, place, number, whole, out, store)


def main() -> None:
    """Do the rounds that are not done yet and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--copies", action="store_true")
    arguments = parser.parse_args()
    out = arguments.out.absolute()
    (out / "whole").mkdir(parents=True, exist_ok=True)
    store, results = out / "store", out / "rounds.jsonl"
    make_store(store)
    # Imported once for all trainings; nothing is computed before a fork, after which TensorFlow would not work.
    import synthmed.generation.bundle
    import synthmed.training.plan
    import synthmed.training.tensorflow_backend  # noqa: F401

    if arguments.copies:
        compile_once()
    how = rounds_of_copies if arguments.copies else rounds_of_signals
    rounds = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    for case, share in SHARES.items():
        done = {one["place"] for one in rounds if one["case"] == case}
        for found in how(case, round(arguments.rounds * share), out, store, done):
            rounds.append(found)
            with open(results, "a") as file:
                file.write(json.dumps(found) + "\n")
            print(f"{len(rounds)}: {found}", flush=True)
    print_table(rounds)


if __name__ == "__main__":
    main()
