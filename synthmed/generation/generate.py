"""Drawing a whole set of synthetic cases into a folder."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from synthmed.errors import UserError
from synthmed.files import atomic_folder, write_json
from synthmed.generation.masks import MaskFolder
from synthmed.generation.merge import merge, mergeable
from synthmed.generation.preview import MAX_ITEMS, contact_sheet
from synthmed.generation.provenance import dataset_description, sidecar
from synthmed.generation.sampler import BATCH, Sampler, Samples
from synthmed.generation.seeds import ITEMS_PER_SEED, Shard, case_name, item_seeds
from synthmed.generation.writers import FORMATS, Item, Writer, open_writer, write_picture
from synthmed.progress import Progress, silent

if TYPE_CHECKING:
    from synthmed.generation.info import BundleInfo


def generate(
    sampler: Sampler,
    out: Path,
    *,
    count: int,
    fmt: str = "nnunet",
    psi: float = 1.0,
    seed: int = 0,
    shard: Shard | None = None,
    masks: Path | None = None,
    merge_with: Path | None = None,
    batch: int = BATCH,
    progress: Progress = silent,
) -> Path:
    """Draw `count` items and write them as a set; the folder appears whole or not at all.

    Item `i` depends on `seed` and `i` alone: not on `count`, nor on the shard that draws it. To the last bit this holds
    for one `batch` on one machine, since every item is always drawn at the same place of the same block of `batch`
    items, a block that begins or ends outside the shard included.

    Args:
        sampler: Where items come from.
        out: Folder to make; must not exist or be empty.
        count: Items in the whole set, 1 or more.
        fmt: `nnunet`, `npz` or `png`.
        psi: Truncation, 0 to 1; 1 keeps the diversity that the generator learnt.
        seed: Base seed of the set.
        shard: The part to draw; the whole set by default.
        masks: Folder of label maps to condition on; None lets the generator draw its own.
        merge_with: Real data set to write beside the synthetic cases, as one nnU-Net training set.
        batch: Items in a block.
        progress: Told how many items are written.

    Returns:
        `out`.

    Raises:
        UserError: If an argument is out of range, the masks do not fit the generator, or `out` exists.
    """
    check_request(count=count, psi=psi, fmt=fmt, batch=batch, out=out)
    start, stop = (shard or Shard()).bounds(count)
    info = sampler.info
    given = _mask_folder(info, masks)
    real = None if merge_with is None else mergeable(merge_with, info, fmt=fmt)
    item_seeds(seed, 0, count)
    first_images: list[Samples] = []
    with atomic_folder(out) as folder:
        writer = open_writer(fmt, folder, info)
        for block in range(start - start % batch, stop, batch):
            # Past the last item that a seed names there is none; that block is short and the sampler pads it.
            end = min(block + batch, ITEMS_PER_SEED)
            seeds = item_seeds(seed, block, end)
            conditions, hashes = (None, None) if given is None else given.take(block, end)
            samples = sampler.sample(seeds, psi, conditions)
            wanted = slice(max(start, block) - block, min(stop, end) - block)
            _write_block(writer, info, seeds, samples, hashes, psi=psi, wanted=wanted)
            if len(first_images) * batch < MAX_ITEMS:
                first_images.append(_part(samples, wanted))
            progress(min(stop, end) - start, stop - start, case_name(int(seeds[0])))
        writer.finish()
        if real is not None:
            merge(real, folder, progress=progress)
        _write_overview(folder, info, first_images)
        description = dataset_description(info, count=stop - start, seed=seed, psi=psi)
        write_json(folder / "dataset_description.json", description)
    return out


def check_request(*, count: int, psi: float, fmt: str, batch: int, out: Path | None) -> None:
    """Refuse what no generator can do, before a model is loaded or a server asked.

    Raises:
        UserError: If a value is out of range.
    """
    if count < 1:
        raise UserError(f"--n must be at least 1, got {count}")
    if not 0.0 <= psi <= 1.0:
        raise UserError(f"--psi must be between 0 and 1, got {psi:g}")
    if fmt not in FORMATS:
        raise UserError(f"--format must be one of {', '.join(FORMATS)}, got {fmt!r}")
    if batch < 1:
        raise UserError(f"--batch must be at least 1, got {batch}")
    if out is not None and (out.is_file() or (out.is_dir() and any(out.iterdir()))):
        raise UserError(f"{out} exists already: choose another --out or remove it first")


def free_folder(name: str = "generated") -> Path:
    """Return `name`, or the first of `name-2`, `name-3` ... that does not exist in the current folder."""
    path, number = Path(name), 2
    while path.exists():
        path, number = Path(f"{name}-{number}"), number + 1
    return path


def _mask_folder(info: "BundleInfo", masks: Path | None) -> MaskFolder | None:
    if masks is None:
        return None
    if info.variant != "cond":
        raise UserError(f"{info.name} is a {info.variant!r} generator and takes no --masks: use a 'cond' one")
    return MaskFolder(masks, size=(info.size[0], info.size[1]), classes=len(info.classes))


def _write_block(
    writer: Writer,
    info: "BundleInfo",
    seeds: np.ndarray,
    samples: Samples,
    hashes: list[str] | None,
    *,
    psi: float,
    wanted: slice,
) -> None:
    for place in range(wanted.start, wanted.stop):
        template = int(samples.templates[place])
        record = sidecar(
            info,
            seed=int(seeds[place]),
            psi=psi,
            template=template,
            mask_source="generated" if hashes is None else f"given:{hashes[place]}",
        )
        image = None
        if samples.images is not None:
            if not np.isfinite(samples.images[place]).all():
                raise UserError(f"{info.name} drew values that are not finite at seed {seeds[place]}: it is damaged")
            # Real slices end at -1 and 1; what overshoots would become intensities that the scanner cannot give.
            image = np.clip(samples.images[place], -1.0, 1.0)
        writer.add(Item(case_name(int(seeds[place])), image, samples.labels[place], info.templates[template], record))


def _part(samples: Samples, wanted: slice) -> Samples:
    images = None if samples.images is None else samples.images[wanted]
    return Samples(images, samples.labels[wanted], samples.templates[wanted])


def _write_overview(folder: Path, info: "BundleInfo", parts: list[Samples]) -> None:
    drawn = [part.images for part in parts if part.images is not None]
    images = np.concatenate(drawn) if drawn else None
    labels = np.concatenate([part.labels for part in parts])
    write_picture(folder / "overview.png", contact_sheet(images, labels, classes=len(info.classes)))
