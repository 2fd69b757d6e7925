"""`synthmed train`: train a generator."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from synthmed.errors import UserError

from .common import console, emit_json, json_option, lock_first_free, lock_folder, progress, say

if TYPE_CHECKING:
    from synthmed.data.store import Store
    from synthmed.training.plan import TrainingPlan
    from synthmed.training.run import Run

RUNS = Path("runs")


@click.command()
@click.option("--variant", type=click.Choice(["base", "mask", "cond"]), required=True, help="Which generator.")
@click.option("--data", type=click.Path(path_type=Path), help="Store to train on.  [default: prepared last here]")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder.  [default: runs/NNNNN-VARIANT]")
@click.option("--kimg", type=float, help="Stop after so many thousand real images, for each generator trained.")
@click.option("--minutes", type=float, help="Stop after so many minutes in all.  [default: 20, on the phantom 5]")
@click.option("--masks-from", type=click.Path(path_type=Path), help="cond: take the mask generator of this run.")
@click.option("--batch", type=int, help="Images a step.  [default: 8]")
@click.option("--precision", type=click.Choice(["auto", "float32", "bfloat16"]), help="Number format.  [default: auto]")
@click.option(
    "--augment",
    type=click.Choice(["none", "diff", "ada"]),
    help="What the discriminator sees is augmented: never, always, or as much as it takes.  [default: diff]",
)
@click.option("--loss", type=click.Choice(["logistic", "relativistic"]), help="[default: logistic]")
@click.option("--init-from", type=click.Path(), help="Start from the weights of this run, as far as shapes allow.")
@click.option("--unlabelled", type=click.Path(), help="base: a store whose images alone are learnt from, too.")
@click.option(
    "--strategy",
    type=click.Choice(["one", "mirrored", "workers"]),
    help="One device, all of this machine, or the workers of TF_CONFIG.  [default: one]",
)
@click.option("--config", type=click.Path(path_type=Path), help="YAML file of options.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="One option; see --dry-run for all.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out, or the last of this variant here.")
@click.option("--dry-run", is_flag=True, help="Print options, sizes and estimates; train nothing.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Same seed, same machine: same run.  [default: 0]")
@json_option
def command(
    variant: str,
    data: Path | None,
    out: Path | None,
    masks_from: Path | None,
    config: Path | None,
    assignments: tuple[str, ...],
    resume: bool,
    dry_run: bool,
    as_json: bool,
    **values: Any,
) -> None:
    """Train a generator of slices on a store.

    A cond generator that is given no mask generator trains one first, in the same run. Ctrl-C saves and stops;
    --resume goes on exactly where it stopped.

    \b
    Example:
      synthmed train --variant cond --data stores/hippocampus --minutes 60
    """
    from synthmed.backend import check_backend

    # First: what follows imports Keras, which cannot be imported where its backend is missing.
    check_backend()
    from synthmed.training.options import read_options
    from synthmed.training.run import Run, find_latest_run, next_run_paths

    if resume and out is None:
        out = find_latest_run(Path(), variant=variant, with_checkpoint=False)
    existing_run = Run.open(out) if resume and out and (out / "run.json").is_file() else None
    given = {"variant": variant, **values}
    options = read_options(
        given, existing_run=existing_run.options if existing_run else None, config=config, assignments=assignments
    )
    # Before Keras is imported, which takes long; of several workers the chief alone locks the run.
    path = _locked(out, next_run_paths(RUNS, variant), lock=not dry_run and options.strategy != "workers")
    from synthmed.training.backends import make_devices
    from synthmed.training.devices import describe
    from synthmed.training.plan import execute, plan_training

    if options.strategy == "workers" and (out is None or (data is None and existing_run is None)):
        raise UserError("--strategy workers needs --out and --data: every worker has to name the same run and store")
    # Before all else that may touch TensorFlow: it takes part in a cluster from its start or not at all.
    devices = None if dry_run else make_devices(options.strategy)
    store = _store(data, existing_run, dry_run=dry_run)
    plan = plan_training(path, options, store, masks_from=masks_from, existing_run=existing_run)
    if devices is None:
        _print_plan(plan, as_json=as_json)
        return
    shared = f", {describe(options, devices.replicas)}" if options.strategy != "one" else ""
    console(stderr=True).print(f"training {variant} on {store.path} ({store.dataset}), run {path}{shared}")
    with progress(f"train {variant}") if devices.chief else nullcontext() as report:
        finished = execute(plan, resume=resume, devices=devices, progress=report, say=say("train"))
    if as_json:
        emit_json({"run": str(path), "finished": finished})
    elif finished:
        console().print(f"{path} is trained; next: synthmed generate --n 100 --model {path}")
    else:
        raise UserError(
            f"stopped; {path} is saved: go on with `synthmed train --variant {variant} --out {path} --resume`"
        )


def _locked(out: Path | None, candidates: Iterator[Path], *, lock: bool) -> Path:
    if not lock:
        return out or next(candidates)
    if out is None:
        return lock_first_free(candidates)
    lock_folder(out)
    return out


def _store(data: Path | None, existing_run: "Run | None", *, dry_run: bool) -> "Store":
    from synthmed.data.store import Store, find_latest_store

    if data is not None:
        return Store.open(data)
    if existing_run is not None:
        return Store.open(existing_run.data.store)
    latest = find_latest_store(Path())
    if latest is not None:
        return Store.open(latest)
    if dry_run:
        raise UserError("there is no store in this folder: make one with `synthmed prepare DATASET --out STORE`")
    return _phantom_store()


def _phantom_store() -> "Store":
    from synthmed.data.phantom import write_phantom
    from synthmed.data.prepare import prepare
    from synthmed.data.readers import read_dataset
    from synthmed.data.store import Store

    dataset, store = Path("phantom"), Path("phantom-store")
    console(stderr=True).print(
        f"there is no store in this folder: drawing the phantom into {dataset} and preparing it as {store}; "
        "for your own data run `synthmed prepare DATASET --out STORE` first"
    )
    if not (dataset / "dataset.json").is_file():
        with progress("phantom") as report:
            write_phantom(dataset, progress=report)
    with progress("prepare") as report:
        prepare(read_dataset(dataset), store, progress=report)
    return Store.open(store)


def _print_plan(plan: "TrainingPlan", *, as_json: bool) -> None:
    from synthmed.training.backends import count_replicas
    from synthmed.training.devices import check_share
    from synthmed.training.plan import estimate

    replicas = count_replicas(plan.options.strategy)
    check_share(plan.options, replicas)
    shared = {"replicas": replicas, "batch_a_replica": plan.options.batch // replicas}
    stages = [stage for stage in (plan.mask, plan) if stage is not None]
    details = [
        {"options": stage.options.model_dump(mode="json"), "devices": shared, "estimate": estimate(stage)}
        for stage in stages
    ]
    if as_json:
        emit_json([{"run": str(stage.path), **detail} for stage, detail in zip(stages, details, strict=True)])
        return
    for stage, detail in zip(stages, details, strict=True):
        console().print(f"run {stage.path}")
        for title, values in detail.items():
            console().print(f"  {title}")
            for name, value in values.items():
                console().print(f"    {name}: {value}")
