"""Writing synthetic cases: nnU-Net raw with geometry, NPZ, PNG. Each case comes with a JSON sidecar."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from synthmed.errors import UserError

if TYPE_CHECKING:
    from synthmed.data.geometry import Template
    from synthmed.generation.info import GeneratorInfo

FORMATS = ("nnunet", "npz", "png")
FOLDS = 5
FEWEST_STEPS = 32


@dataclass(frozen=True)
class Item:
    """One synthetic case to write."""

    case: str
    image: np.ndarray | None
    """float32 [H, W, C] in [-1, 1], of a volume [n, H, W, C]; None for a generator of masks alone."""
    label: np.ndarray
    """uint8 [H, W] of class indices, of a volume [n, H, W]."""
    template: "Template"
    sidecar: dict[str, Any]


class Writer(Protocol):
    """Writes items into a folder that exists and is empty."""

    def add(self, item: Item) -> None:
        """Write one case."""
        ...

    def finish(self) -> None:
        """Write what describes the whole set."""
        ...


def open_writer(fmt: str, folder: Path, info: "GeneratorInfo") -> Writer:
    """Return the writer of a format.

    Raises:
        UserError: If the format is unknown.
    """
    writers: dict[str, type[NnUnetWriter] | type[NpzWriter] | type[PngWriter]] = {
        "nnunet": NnUnetWriter,
        "npz": NpzWriter,
        "png": PngWriter,
    }
    if fmt not in writers:
        raise UserError(f"--format must be one of {', '.join(FORMATS)}, got {fmt!r}")
    return writers[fmt](folder, info)


class NpzWriter:
    """One `CASE.npz`: `image` float32 [H, W, C] in store domain and `label` uint8 [H, W]; of a volume [n, ...]."""

    def __init__(self, folder: Path, info: "GeneratorInfo"):
        self.folder = folder

    def add(self, item: Item) -> None:
        """Write one case."""
        arrays = {"label": item.label} if item.image is None else {"image": item.image, "label": item.label}
        np.savez_compressed(self.folder / f"{item.case}.npz", **arrays)  # type: ignore[arg-type]
        _write_json(self.folder / f"{item.case}.json", {**item.sidecar, "format": "npz"})

    def finish(self) -> None:
        """Nothing describes the set but its sidecars."""


class NnUnetWriter:
    """nnU-Net raw v2: `imagesTr/CASE_0000.nii.gz` in source units, `labelsTr/CASE.nii.gz`, `dataset.json`, splits."""

    def __init__(self, folder: Path, info: "GeneratorInfo"):
        self.folder = folder
        self.info = info
        self.cases: list[str] = []
        for name in ("imagesTr", "labelsTr", "sidecars"):
            (folder / name).mkdir()

    def add(self, item: Item) -> None:
        """Write one case."""
        channels = () if item.image is None else tuple(np.moveaxis(item.image, -1, 0))
        for channel, values in enumerate(channels):
            source = as_stored(source_units(values, item.template, channel), item.template, channel)
            _write_nifti(self.folder / "imagesTr" / f"{item.case}_{channel:04d}.nii.gz", source, item.template)
        _write_nifti(self.folder / "labelsTr" / f"{item.case}.nii.gz", item.label, item.template)
        _write_json(self.folder / "sidecars" / f"{item.case}.json", {**item.sidecar, "format": "nnunet"})
        self.cases.append(item.case)

    def finish(self) -> None:
        """Write `dataset.json` and `splits_final.json`."""
        _write_json(self.folder / "dataset.json", nnunet_dataset_json(self.info, len(self.cases)))
        # There is no real case here to validate on, and a synthetic one must never be validated on.
        _write_json(self.folder / "splits_final.json", [{"train": self.cases, "val": []}] * FOLDS)


class PngWriter:
    """`images/CASE.png` and `labels/CASE.png`, whose grey values are class indices.

    Images keep the depth of the source: 8 bits where the training images had 8, else 16. Three channels of 8 bits make
    one RGB picture; any other number of channels makes one grey picture each, `CASE_0000.png` and so on.
    """

    def __init__(self, folder: Path, info: "GeneratorInfo"):
        self.folder = folder
        for name in ("images", "labels", "sidecars"):
            (folder / name).mkdir()

    def add(self, item: Item) -> None:
        """Write one case."""
        depth = 8 if item.template.dtype == "uint8" else 16
        if item.image is not None:
            picture = _quantise(item.image, depth)
            if picture.shape[-1] == 1 or (picture.shape[-1] == 3 and depth == 8):
                grey_or_rgb = picture[..., 0] if picture.shape[-1] == 1 else picture
                write_picture(self.folder / "images" / f"{item.case}.png", grey_or_rgb)
            else:
                for channel in range(picture.shape[-1]):
                    path = self.folder / "images" / f"{item.case}_{channel:04d}.png"
                    write_picture(path, picture[..., channel])
        write_picture(self.folder / "labels" / f"{item.case}.png", item.label)
        _write_json(self.folder / "sidecars" / f"{item.case}.json", {**item.sidecar, "format": "png", "bits": depth})

    def finish(self) -> None:
        """Nothing describes the set but its sidecars."""


def source_units(channel_image: np.ndarray, template: "Template", channel: int) -> np.ndarray:
    """Return float32 of the same shape in the units of the source from store domain [-1, 1]."""
    return (channel_image.astype(np.float64) * template.scale[channel] + template.offset[channel]).astype(np.float32)


def as_stored(values: np.ndarray, template: "Template", channel: int) -> np.ndarray:
    """Return intensities in source units in the type of the source: whole numbers where it has them, else float32.

    A channel whose range has less than `FEWEST_STEPS` whole numbers stays float32: the type is that of the case's first
    channel, and another may hold fractions.
    """
    kind = np.dtype(template.dtype)
    if kind.kind not in "iu" or 2 * template.scale[channel] < FEWEST_STEPS:
        return values
    # NIfTI readers refuse 64-bit whole numbers; no scanner needs them.
    kind = np.dtype(np.int32) if kind.itemsize > 4 else kind
    limits = np.iinfo(kind)
    return np.clip(np.rint(values.astype(np.float64)), limits.min, limits.max).astype(kind)


def nnunet_dataset_json(info: "GeneratorInfo", count: int) -> dict[str, Any]:
    """Return nnU-Net's `dataset.json` for `count` synthetic cases."""
    return {
        "channel_names": {str(index): name for index, name in enumerate(info.channels)},
        "labels": {name: index for index, name in enumerate(info.classes)},
        "numTraining": count,
        "file_ending": ".nii.gz",
        "name": info.dataset,
        "licence": info.licence,
        "description": f"Synthetic cases drawn from {info.name}; for research only, not for diagnosis",
    }


def write_picture(path: Path, pixels: np.ndarray) -> None:
    """Write uint8 or uint16 [H, W], or uint8 [H, W, 3], as PNG."""
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(pixels), isVector=pixels.ndim == 3)
    try:
        SimpleITK.WriteImage(image, str(path))
    except RuntimeError as error:
        # SimpleITK reports a full disk as it reports everything: many lines of C++.
        raise OSError(f"cannot write {path.name} (is the disk full?)") from error


def _write_nifti(path: Path, slices: np.ndarray, template: "Template") -> None:
    """Write `[H, W]` as a volume of one slice, or all slices `[n, H, W]` of a case."""
    import nibabel

    if slices.ndim == 2:
        volume, affine = template.volume(slices)
    else:
        volume, affine = template.volume(np.moveaxis(slices, 0, 2), whole=True)
    image = nibabel.Nifti1Image(volume, affine)
    image.header.set_xyzt_units(*template.xyzt_units)
    image.set_sform(affine, code=template.sform_code)
    image.set_qform(affine, code=template.qform_code)
    nibabel.save(image, path)


def _quantise(image: np.ndarray, depth: int) -> np.ndarray:
    top = 2**depth - 1
    levels = np.rint((np.clip(image, -1.0, 1.0) + 1.0) * (top / 2))
    return levels.astype(np.uint8 if depth == 8 else np.uint16)


def _write_json(path: Path, value: Any) -> None:
    # A plain write: the set's folder is renamed as a whole, and syncing each sidecar would cost more than its case.
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
