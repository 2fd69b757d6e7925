"""Which generator `--model` means, and which one is meant where it is not given."""

from pathlib import Path

from synthmed.backend import check_backend
from synthmed.errors import UserError
from synthmed.generation.sampler import BATCH, KerasSampler, Sampler
from synthmed.generation.savedmodel import SavedModelSampler, newest_version, shipped_models


def open_sampler(model: Path | None, *, folder: Path = Path(), batch: int = BATCH) -> tuple[Sampler, str]:
    """Return a sampler and one line that says where its generator comes from.

    Args:
        model: A run, an exported generator or one version of it; None takes the newest run below `folder`, else the
            generator that comes with synthmed.
        folder: Where runs are looked for.
        batch: Items drawn at once.

    Raises:
        UserError: If there is no such generator or it cannot be loaded.
    """
    if model is None:
        return _default(folder, batch)
    if not model.is_dir():
        raise UserError(f"{model} does not exist: --model takes a run or an exported generator")
    version = newest_version(model)
    if version is not None:
        return SavedModelSampler(version, batch=batch), f"generator: exported model {version}"
    check_backend()
    from synthmed.generation.bundle import load_bundle

    return KerasSampler(load_bundle(model), batch=batch), f"generator: run {model}"


def _default(folder: Path, batch: int) -> tuple[Sampler, str]:
    from synthmed.training.run import find_latest_run

    run = find_latest_run(folder)
    if run is not None:
        check_backend()
        from synthmed.generation.bundle import load_bundle

        return KerasSampler(load_bundle(run), batch=batch), f"generator: newest run of this folder, {run}"
    shipped = shipped_models()
    names = sorted(shipped.iterdir()) if shipped.is_dir() else []
    found = [version for version in map(newest_version, names) if version is not None]
    if not found:
        raise UserError("there is no run in this folder and no generator came with synthmed: train one or give --model")
    info = f"generator: {found[0].parent.name} {found[0].name}, which comes with synthmed (no run in this folder)"
    return SavedModelSampler(found[0], batch=batch), info
