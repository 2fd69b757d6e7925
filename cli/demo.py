"""`synthmed demo`: the whole story on a phantom."""

from pathlib import Path

import click

from .common import console, lock_folder, progress, seed_option

COMMANDS = [
    "synthmed inspect DATASET",
    "synthmed prepare DATASET --out store",
    "synthmed train --variant cond --data store --out generator",
    "synthmed generate --n 256 --model generator --out generated",
    "synthmed segment train --data store --out unet-real",
    "synthmed segment train --data store --synthetic generated --ratio 0.5 --out unet-blended",
    "synthmed segment predict --model unet-blended store --out predicted",
    "synthmed segment score predicted DATASET",
]


@click.command(epilog="Example: synthmed demo --out demo")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Folder for all that the demo makes; the report is report.html in it.",
)
@click.option("--resume", is_flag=True, help="Go on with a demo that was stopped.")
@seed_option
def command(out: Path, resume: bool, seed: int) -> None:
    """Tell the whole story on an embedded phantom, in at most five minutes on two cores.

    Draws patients, trains a generator on some of them, draws labelled slices, trains a U-Net with and without those
    slices, scores both on the other patients, and writes a report.
    """
    from synthmed.backend import need_tensorflow

    need_tensorflow("synthmed demo")
    lock_folder(out)
    from synthmed.reporting.demo import BLENDED, REAL_ONLY, demo_verdict, write_demo_report
    from synthmed.study.demo import DemoOptions, run_demo

    with progress("demo") as report:
        result = run_demo(out, DemoOptions(seed=seed), resume=resume, progress=report)
    write_demo_report(out / "report.html", result, commands=COMMANDS)
    screen = console()
    screen.print(demo_verdict(result.scores[REAL_ONLY], result.scores[BLENDED]), soft_wrap=True)
    screen.print(f"written: {out / 'report.html'}")
