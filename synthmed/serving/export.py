"""Writing a generator as a SavedModel that TensorFlow Serving loads unchanged."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from synthmed.errors import UserError
from synthmed.files import atomic_file, atomic_folder, first_free_folder, write_json
from synthmed.generation.audited import SAMPLES, audit_bundle
from synthmed.generation.generator import INFO_FILE
from synthmed.generation.info import record_audit
from synthmed.progress import Progress, Say, silent, unheard
from synthmed.serving.card import model_card

if TYPE_CHECKING:
    from synthmed.generation.bundle import GeneratorBundle

CARD_FILE = "MODEL_CARD.md"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def export(
    run: Path | str,
    to: Path | str = "saved_models",
    *,
    name: str | None = None,
    audit_samples: int = SAMPLES,
    allow_failed_audit: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
    say: Say | None = None,
) -> Path:
    """Export a run's generator as a SavedModel for serving, audited for copies of training slices first.

    Args:
        run: The run folder.
        to: Folder of models; the generator becomes the next version of `to/name`.
        name: Name of the model; the generator's own by default.
        audit_samples: Samples of the audit, which is made unless one on as many is there.
        allow_failed_audit: Whether a generator that copies its training slices is written all the same.
        seed: Of the audit's samples.
        progress: Called while the audit draws.
        say: Called with lines that a user should read.

    Returns:
        The folder of the version.

    Raises:
        UserError: If the run cannot be loaded, the name does not work in a server's paths, or the audit failed.

    Example:
        >>> sm.export("run", "models", name="phantom", audit_samples=8).name
        '1'
    """
    from synthmed.generation.bundle import load_bundle

    bundle, run, tell = load_bundle(run), Path(run), say or unheard
    earlier = bundle.info.audit
    # A handful of samples that evaluate happened to see says little.
    if earlier is None or (earlier.passed is not False and earlier.samples < audit_samples):
        found = audit_bundle(bundle, count=audit_samples, seed=seed, progress=progress or silent)
        if found is not None:
            record_audit(run, found)
            bundle.info = bundle.info.model_copy(update={"audit": found.verdict})
        elif earlier is None:
            tell(
                "warning: not audited for copies of training slices, since the store that the run was trained on is "
                "not there any more, was changed, or lacks some of its patients; the card says so"
            )
    version = export_bundle(bundle, to=Path(to), name=name, allow_failed_audit=allow_failed_audit)
    if bundle.info.audit is not None:
        tell(f"memorisation audit: {bundle.info.audit.sentence}")
    return version


def export_bundle(
    bundle: "GeneratorBundle", *, to: Path, name: str | None = None, allow_failed_audit: bool = False
) -> Path:
    """Write the generator as the next version of `to/name`, with its card; it appears whole or not at all.

    Args:
        bundle: The generator.
        to: Folder of models.
        name: Name of the model; the bundle's own by default.
        allow_failed_audit: Whether a generator that copies its training slices is written all the same; its card and
            description say so.

    Returns:
        The folder of the version.

    Raises:
        UserError: If the name would not work in a server's paths, or the generator's audit failed.
    """
    import keras

    from synthmed.serving.signatures import generator_signatures
    from synthmed.serving.warmup_requests import WARMUP_FILE, write_warmup

    name = bundle.info.name if name is None else name
    if _NAME.fullmatch(name) is None:
        raise UserError(f"{name!r} is no model name: use letters, digits, dot, dash and underscore (--name)")
    verdict = bundle.info.audit
    if verdict is not None and verdict.passed is False and not allow_failed_audit:
        raise UserError(
            f"the memorisation audit {verdict.sentence}: train it shorter or on more patients, "
            "or export it with --allow-failed-audit, which its card then says"
        )
    # Options name folders of the machine that trained.
    info = bundle.info.model_copy(update={"name": name, "options": {}})
    archive = keras.export.ExportArchive()
    for model in bundle.models:
        archive.track(model)
    signatures = generator_signatures(bundle, info)
    for signature in signatures:
        # The names of inputs are those of the function's arguments.
        specs = [keras.InputSpec(dtype=kind, shape=shape, name=key) for key, (kind, shape) in signature.inputs.items()]
        archive.add_endpoint(signature.name, signature.function, input_signature=specs)
    with first_free_folder(_next_versions(to / name)) as version:
        card = model_card(info.model_copy(update={"options": bundle.info.options}), version=int(version.name))
        with atomic_folder(version) as folder:
            archive.write_out(str(folder), verbose=False)
            (folder / INFO_FILE).parent.mkdir(exist_ok=True)
            write_json(folder / INFO_FILE, info.model_dump(mode="json"))
            write_warmup(folder / WARMUP_FILE, model=name, signatures=signatures)
            (folder / INFO_FILE.parent / CARD_FILE).write_text(card, encoding="utf-8")
        # Another process may have written a newer one meanwhile, whose card stays.
        if int(version.name) == max(_versions(to / name)):
            with atomic_file(to / name / CARD_FILE) as path:
                path.write_text(card, encoding="utf-8")
    return version


def _next_versions(folder: Path) -> Iterator[Path]:
    """Yield the folders of the versions after the newest: two exports at once take two of them."""
    for number in itertools.count(max(_versions(folder), default=0) + 1):
        yield folder / str(number)


def _versions(folder: Path) -> list[int]:
    return [int(child.name) for child in folder.iterdir() if child.name.isdecimal()] if folder.is_dir() else []
