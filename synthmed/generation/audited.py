"""Audits of what a run draws, and what is handed to the run that drew a set: its audit and its evaluation."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from synthmed.data.store import Store
from synthmed.data.synthetic import SyntheticSet
from synthmed.errors import UserError
from synthmed.evaluation.memorisation.audit import Audit, audit
from synthmed.evaluation.result import EvaluationSummary
from synthmed.generation.generator import item_seeds
from synthmed.generation.info import EVALUATION_FILE, record_audit
from synthmed.progress import Progress, silent

if TYPE_CHECKING:
    from synthmed.generation.bundle import GeneratorBundle

SAMPLES = 500
_BLOCK = 64


def audit_bundle(
    bundle: "GeneratorBundle", *, count: int = SAMPLES, seed: int = 0, progress: Progress = silent
) -> Audit | None:
    """Draw samples from a run's generator and compare them with the slices that it was trained on.

    Args:
        bundle: As `load_bundle` returns it.
        count: Samples to draw.
        seed: Base seed of the samples, and of the audit.
        progress: Told how many are drawn.

    Returns:
        The audit; None where the store is gone, has changed, or was not all that the generator was taught by.

    Raises:
        UserError: If `count` is below 1.
    """
    from synthmed.generation.generator import RunGenerator

    if count < 1:
        raise UserError(f"--audit-n must be at least 1, got {count}")
    store = _training_store(bundle)
    if store is None:
        return None
    generator = RunGenerator(bundle)
    seeds = item_seeds(seed, 0, count)
    drawn = []
    for first in range(0, count, _BLOCK):
        drawn.append(generator.sample_seeds(seeds[first : first + _BLOCK], 1.0))
        progress(min(first + _BLOCK, count), count, "drawn for the audit")
    images = [one.images for one in drawn if one.images is not None]
    return audit(
        store,
        np.concatenate(images) if images else None,
        np.concatenate([one.labels for one in drawn]),
        model_hash=bundle.info.model_hash,
        seed=seed,
    )


def hand_to_run(
    result: Audit,
    synthetic: SyntheticSet,
    store: Store,
    folder: Path = Path(),
    *,
    summary: EvaluationSummary | None = None,
) -> Path | None:
    """Keep what was found of a set beside the run that drew it, where it speaks of all that the run was taught by.

    Args:
        result: The audit.
        synthetic: The set.
        store: The store that it was compared with.
        folder: Runs are looked for at most two levels below it.
        summary: The figures; None for the audit alone.

    Returns:
        The run; None where there is none, where it would draw other label maps by itself, or where the store does not
        hold all patients that it was taught by.
    """
    if not synthetic.training_hashes <= set(store.training_hashes):
        return None
    run = _run_of(synthetic, folder)
    if run is not None:
        record_audit(run, result)
        if summary is not None:
            summary.write(run / EVALUATION_FILE)
    return run


def _run_of(synthetic: SyntheticSet, folder: Path) -> Path | None:
    """Return the run whose generator drew a set, label maps included; given or deformed ones say nothing of it."""
    from synthmed.generation.bundle import load_bundle
    from synthmed.training.run import RUN_FILE, Run

    hashes = {sidecar.get("model_hash") for sidecar in synthetic.sidecars}
    own = all(sidecar.get("mask_source") == "generated" for sidecar in synthetic.sidecars)
    if len(hashes) != 1 or not own:
        return None
    first = synthetic.sidecars[0]
    for file in sorted([*folder.glob(f"*/{RUN_FILE}"), *folder.glob(f"*/*/{RUN_FILE}")]):
        try:
            run = Run.open(file.parent)
            # Loading each run that is there to compare its weights would take long.
            taught = set(run.data.training_patients) <= set(first.get("training_patients", ()))
            if (
                run.options.variant == first.get("variant")
                and taught
                and load_bundle(run.path).info.model_hash in hashes
            ):
                return file.parent
        except UserError:
            continue
    return None


def _training_store(bundle: "GeneratorBundle") -> Store | None:
    from synthmed.training.run import Run

    if bundle.run is None:
        return None
    data = Run.open(bundle.run).data
    try:
        store = Store.open(data.store)
    except UserError:
        return None
    # Patients of a second store (unlabelled images, another set's mask generator) could not be searched.
    whole = set(bundle.info.training_patients) <= set(store.training_hashes)
    return store if store.content_hash == data.store_hash and whole else None
