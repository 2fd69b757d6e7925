"""`synthmed evaluate`: compare a synthetic set with real slices."""

from pathlib import Path
from typing import Any

import click

from .common import console, emit_json, json_option, seed_option


@click.command()
@click.option("--real", type=click.Path(path_type=Path), required=True, help="Store of real slices.")
@click.option("--synthetic", type=click.Path(path_type=Path), required=True, help="Folder that generate wrote.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for metrics.json and a picture.")
@seed_option
@json_option
def command(real: Path, synthetic: Path, out: Path, seed: int, as_json: bool) -> None:
    """Compare a synthetic set with the real slices of a store.

    Reports a distance to held-out real slices, the frequencies and areas of the classes, and whether samples lie
    suspiciously near to training slices. Every figure stands beside the same figure for real slices.

    \b
    Example:
      synthmed evaluate --real store --synthetic generated --out evaluation
    """
    from synthmed.data.store import Store
    from synthmed.data.synthetic import SyntheticSet
    from synthmed.evaluation.evaluate import evaluate
    from synthmed.evaluation.memorisation.audit import audit
    from synthmed.evaluation.pairs import nearest_pairs_picture
    from synthmed.files import atomic_folder, write_json
    from synthmed.generation.audited import hand_to_run

    store, drawn = Store.open(real), SyntheticSet.open(synthetic)
    with atomic_folder(out) as folder:
        report = evaluate(store, drawn, seed=seed)
        images = drawn.images() if drawn.channels else None
        hashes = {str(sidecar.get("model_hash", "")) for sidecar in drawn.sidecars}
        found = audit(store, images, drawn.labels(), model_hash=hashes.pop() if len(hashes) == 1 else "", seed=seed)
        found.write(folder / "audit.json")
        nearest_pairs_picture(store, drawn, found, folder / "nearest.png")
        report["memorisation"] = found.verdict.model_dump(mode="json")
        write_json(folder / "metrics.json", report)
    hand_to_run(found, drawn, store)
    if as_json:
        emit_json(report)
    else:
        _print(report, out)


def _print(report: dict[str, Any], out: Path) -> None:
    from rich.table import Table

    screen = console()
    table = Table("class", "set", "slices that show it", "mean area there")
    for name, groups in report["masks"].items():
        for group, values in groups.items():
            table.add_row(
                name, group.replace("_", "-"), f"{values['share_of_slices']:.1%}", f"{values['mean_area_share']:.2%}"
            )
    screen.print(table)
    if "fidelity" in report:
        fidelity = report["fidelity"]
        screen.print(
            f"distance to held-out slices: synthetic {fidelity['sliced_wasserstein']:.4f}, "
            f"training slices {fidelity['sliced_wasserstein_of_training_slices']:.4f} (the floor)"
        )
    screen.print(f"memorisation: {report['memorisation']['sentence']}")
    screen.print(f"metrics.json and pictures are in {out}")
