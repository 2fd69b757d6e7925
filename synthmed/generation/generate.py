"""Drawing a whole set of synthetic cases into a folder."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from synthmed.data.pictures import render, save_png, tile
from synthmed.errors import UserError
from synthmed.files import atomic_folder, refuse_taken, write_json
from synthmed.generation.drawing import (
    Drawing,
    Drawn,
    RequiredSlices,
    Requirement,
    Shard,
    SliceDrawing,
    VolumeDrawing,
    case_name,
    check_volumes,
)
from synthmed.generation.generator import BATCH, ITEMS_PER_SEED, Generator, item_seeds, load_generator
from synthmed.generation.info import dataset_description, sidecar
from synthmed.generation.masks import DeformedMasks, MaskFolder, chosen_masks
from synthmed.generation.merge import merge, mergeable
from synthmed.generation.writers import FORMATS, Item, open_writer
from synthmed.progress import Progress, silent

if TYPE_CHECKING:
    from synthmed.generation.info import GeneratorInfo

OVERVIEW_ITEMS, OVERVIEW_COLUMNS = 32, 8
OVERVIEW_SIDE = 256
"""Longest side of a slice in the overview, in pixels; larger ones show every second pixel, every third, and so on."""


def generate(
    generator: Generator | Path | str | None,
    out: Path | str,
    *,
    n: int,
    unit: str = "slice",
    format: str = "nnunet",
    psi: float = 1.0,
    seed: int = 0,
    shard: Shard | None = None,
    masks: Path | str = "generated",
    require: tuple[str, ...] = (),
    merge_with: Path | None = None,
    batch: int = BATCH,
    progress: Progress = silent,
) -> Path:
    """Draw `n` cases and write them as a set; the folder appears whole or not at all.

    Case `i` depends on `seed`, `i` and what is required of it alone: not on `n`, nor on the shard that draws it. To
    the last bit this holds for one `batch` on one machine, since every slice is always drawn at the same place of the
    same block of `batch` slices, a block that begins or ends outside the shard included.

    Args:
        generator: A loaded generator, or what `load_generator` takes.
        out: Folder to make; must not exist or be empty.
        n: Cases in the whole set, 1 or more.
        unit: What a case is: `slice` or `volume`.
        format: `nnunet`, `npz` or `png`.
        psi: Truncation, 0 to 1; 1 keeps the diversity that the generator learnt.
        seed: Base seed of the set.
        shard: The part to draw; the whole set by default.
        masks: Folder of label maps to condition on, `deformed` for deformed ones of the training slices, or `generated`
            for those that the generator draws.
        require: Names or indices of classes that every case must show.
        merge_with: Real data set to write beside the synthetic cases, as one nnU-Net training set.
        batch: Slices in a block.
        progress: Told how many cases are written.

    Returns:
        `out`.

    Raises:
        UserError: If an argument is out of range, the generator cannot draw what is asked, or `out` exists.

    Example:
        >>> sm.generate("hippocampus", "synthetic", n=4, format="npz").name
        'synthetic'
    """
    out = Path(out)
    check_request(n=n, psi=psi, format=format, batch=batch, out=out)
    if not isinstance(generator, Generator):
        generator = load_generator(generator, batch=batch)
    masks = chosen_masks(str(masks))
    start, stop = (shard or Shard()).bounds(n)
    info = generator.info
    required = Requirement.parse(require, info)
    drawing = _drawing(generator, unit=unit, format=format, psi=psi, masks=masks, required=required, batch=batch)
    real = None if merge_with is None else mergeable(merge_with, info, format=format, progress=progress)
    item_seeds(seed, 0, n)
    shown: list[Drawn] = []
    # Slices of a volume make their own blocks.
    block_size = batch if unit == "slice" else 1
    with atomic_folder(out) as folder:
        progress(0, 0, "compiling")
        writer = open_writer(format, folder, info)
        for block in range(start - start % block_size, stop, block_size):
            # Past the last item that a seed names there is none; that block is short and the generator pads it.
            end = min(block + block_size, ITEMS_PER_SEED)
            seeds = item_seeds(seed, block, end)
            wanted = slice(max(start, block) - block, min(stop, end) - block)
            cases = drawing.draw(block, seeds, wanted)
            for case_seed, drawn in zip(seeds[wanted], cases, strict=True):
                writer.add(_item(info, int(case_seed), drawn, psi=psi, unit=unit))
            shown.extend(cases[: OVERVIEW_ITEMS - len(shown)])
            progress(min(stop, end) - start, stop - start, case_name(int(seeds[0])))
        writer.finish()
        if real is not None:
            merge(real, folder, progress=progress)
        _write_overview(folder, info, shown)
        description = dataset_description(info, count=stop - start, seed=seed, psi=psi, unit=unit)
        if required is not None:
            description["GeneratedBy"][0] |= required.record()
        write_json(folder / "dataset_description.json", description)
    return out


def check_request(*, n: int, psi: float, format: str, batch: int, out: Path | None) -> None:
    """Refuse what no generator can do, before a model is loaded or a server asked.

    Raises:
        UserError: If a value is out of range.
    """
    if n < 1:
        raise UserError(f"--n must be at least 1, got {n}")
    if not 0.0 <= psi <= 1.0:
        raise UserError(f"--psi must be between 0 and 1, got {psi:g}")
    if format not in FORMATS:
        raise UserError(f"--format must be one of {', '.join(FORMATS)}, got {format!r}")
    if batch < 1:
        raise UserError(f"--batch must be at least 1, got {batch}")
    if out is not None:
        refuse_taken(out)


def check_drawable(
    generator: Generator, *, unit: str, format: str, masks: Path | str, require: tuple[str, ...]
) -> None:
    """Refuse what this generator cannot draw, before anything is drawn.

    Raises:
        UserError: If it cannot.
    """
    required = Requirement.parse(require, generator.info)
    _drawing(generator, unit=unit, format=format, psi=1.0, masks=masks, required=required, batch=BATCH)


def default_folders(name: str = "generated") -> Iterator[Path]:
    """Yield `name`, `name-2`, `name-3` ... in the current folder: where a set goes that was given no place."""
    yield Path(name)
    for number in itertools.count(2):
        yield Path(f"{name}-{number}")


def _drawing(
    generator: Generator,
    *,
    unit: str,
    format: str,
    psi: float,
    masks: Path | str,
    required: Requirement | None,
    batch: int,
) -> Drawing:
    if unit == "volume":
        if masks != "generated":
            raise UserError("--unit volume draws its own label maps: leave out --masks")
        check_volumes(generator.info, format=format)
        return VolumeDrawing(generator, psi, required)
    if unit != "slice":
        raise UserError(f"--unit must be slice or volume, got {unit!r}")
    if masks == "generated":
        return SliceDrawing(generator, psi) if required is None else RequiredSlices(generator, psi, required, batch)
    if masks == "deformed":
        return SliceDrawing(generator, psi, DeformedMasks(generator, required))
    if required is not None:
        raise UserError("--require-class cannot change the label maps of a folder: leave out one of it and --masks")
    return SliceDrawing(generator, psi, _mask_folder(generator.info, Path(masks)))


def _mask_folder(info: "GeneratorInfo", masks: Path) -> MaskFolder:
    if info.variant != "cond":
        raise UserError(f"{info.name} is a {info.variant!r} generator and takes no --masks: use a 'cond' one")
    return MaskFolder(masks, size=(info.size[0], info.size[1]), classes=len(info.classes))


def _item(info: "GeneratorInfo", seed: int, drawn: Drawn, *, psi: float, unit: str) -> Item:
    image = drawn.image
    if image is not None:
        if not np.isfinite(image).all():
            raise UserError(f"{info.name} drew values that are not finite at seed {seed}: it is damaged")
        # Real slices end at -1 and 1; what overshoots would become intensities that the scanner cannot give.
        image = np.clip(image, -1.0, 1.0)
    record = sidecar(info, seed=seed, psi=psi, template=drawn.template, unit=unit, drawn=drawn.record)
    return Item(case_name(seed), image, drawn.label, info.templates[drawn.template], record)


def _write_overview(folder: Path, info: "GeneratorInfo", cases: list[Drawn]) -> None:
    def middle(array: np.ndarray, axes: int) -> np.ndarray:
        return array if array.ndim == axes else array[len(array) // 2]

    images = [middle(case.image, 3) for case in cases if case.image is not None]
    labels = np.stack([middle(case.label, 2) for case in cases])
    step = -(-max(labels.shape[1:]) // OVERVIEW_SIDE)
    thinned = np.stack(images)[:, ::step, ::step] if images else None
    save_png(folder / "overview.png", tile(render(thinned, labels[:, ::step, ::step]), columns=OVERVIEW_COLUMNS))
