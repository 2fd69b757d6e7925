"""Writing a generator as a SavedModel that TensorFlow Serving loads unchanged."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from synthmed.errors import UserError
from synthmed.files import atomic_file, atomic_folder, first_free_folder, write_json
from synthmed.generation.generator import INFO_FILE
from synthmed.serving.card import model_card

if TYPE_CHECKING:
    from synthmed.generation.bundle import GeneratorBundle

CARD_FILE = "MODEL_CARD.md"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


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
