"""A phantom data set: heads drawn by `anatomy`, imaged with noise and bias field, in nnU-Net's raw layout."""

from pathlib import Path

import nibabel as nib
import numpy as np

from synthmed.data.anatomy import CLASSES, TISSUES, contrasts, draw_anatomy
from synthmed.errors import UserError
from synthmed.files import atomic_folder, write_json
from synthmed.progress import Progress, silent

FIELD_OF_VIEW = 224.0
"""Width of a slice in mm."""
SMALLEST_SIZE = 16
_WORD = (1 << 64) - 1
_CHANNEL_STREAM = _WORD


def write_phantom(
    out: Path | str,
    *,
    cases: int = 24,
    size: int = 64,
    channels: int = 2,
    seed: int = 0,
    progress: Progress | None = None,
) -> Path:
    """Write a phantom set; case k follows from seed, size, channels and k alone, whatever `cases` is.

    Args:
        out: Folder to make; it must not exist or be empty.
        cases: Number of cases, one patient each.
        size: Rows and columns of a slice; there are half as many slices, twice as thick.
        channels: T1, T2, FLAIR and post-contrast T1, then random contrasts.
        seed: Which set.
        progress: Told after each case.

    Returns:
        The folder.

    Raises:
        UserError: If a number is out of range or the folder exists.
    """
    if cases < 1 or channels < 1 or size < SMALLEST_SIZE:
        raise UserError(f"a phantom needs at least 1 case, 1 channel and a size of {SMALLEST_SIZE}")
    tell = progress or silent
    with atomic_folder(out) as folder:
        for name in ("imagesTr", "labelsTr"):
            (folder / name).mkdir()
        for number in range(cases):
            case = f"phantom_{number:03d}"
            images, labels, affine = draw_case(number, size=size, channels=channels, seed=seed)
            for channel in range(channels):
                _save(images[..., channel], affine, folder / "imagesTr" / f"{case}_{channel:04d}.nii.gz")
            _save(labels, affine, folder / "labelsTr" / f"{case}.nii.gz")
            tell(number + 1, cases, "drawn")
        write_json(folder / "dataset.json", _description(cases, channels, seed))
    return Path(out)


def draw_case(number: int, *, size: int, channels: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return one case: images int16 `[X, Y, Z, C]`, labels uint8 `[X, Y, Z]`, affine.

    Axes point left, posterior and up, slightly oblique, as scanners deliver them.
    """
    rng = _generator(seed, number)
    slices = max(8, size // 2)
    anatomy = draw_anatomy(rng, _grid(size, slices), softness=0.4 * 2.0 / size)
    table = contrasts(_generator(seed, _CHANNEL_STREAM), channels)
    images = np.stack([_image(rng, anatomy.tissues, values) for _, values in table], axis=-1)
    return images, anatomy.labels, _affine(rng, size, slices)


def _generator(seed: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=np.array([seed & _WORD, stream & _WORD], np.uint64)))


def _grid(size: int, slices: int) -> np.ndarray:
    """Return voxel centres in the anatomy's coordinates: x to the left, y to the front, z upwards."""
    across = (np.arange(size) + 0.5) / size * 2.0 - 1.0
    up = (np.arange(slices) + 0.5) / slices * 1.35 - 0.55
    return np.stack(np.meshgrid(across, -across, up, indexing="ij"), axis=-1).astype(np.float32)


def _image(rng: np.random.Generator, tissues: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return what a scanner would show: tissue contrast and texture, bias field, gain and Rician noise."""
    # Tissues differ a little between people, beyond the gain that normalisation takes away.
    signal = tissues @ (values * rng.normal(1.0, 0.04, len(TISSUES))).astype(np.float32)
    axes = np.meshgrid(*(np.linspace(-1, 1, extent) for extent in signal.shape), indexing="ij", sparse=True)
    slope, curve = rng.normal(0, 0.10, 3), rng.normal(0, 0.08, 3)
    bias = sum((slope[axis] * axes[axis] + curve[axis] * axes[axis] ** 2 for axis in range(3)), start=np.zeros(()))
    signal = signal * np.exp(bias)
    noise = rng.uniform(0.015, 0.03)
    real, imaginary = rng.normal(0.0, noise, (2, *signal.shape))
    gain = 1000.0 * rng.uniform(0.7, 1.4)
    return np.round(gain * np.hypot(signal + real, imaginary)).astype(np.int16)


def _affine(rng: np.random.Generator, size: int, slices: int) -> np.ndarray:
    """Return voxel to RAS: first two axes to the left and the back, tilted about the left-right axis."""
    pixel = FIELD_OF_VIEW / size
    tilt = rng.normal(0.0, 0.08)
    rotation = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag([-pixel, -pixel, 2.0 * pixel])
    centre = affine[:3, :3] @ ((np.array([size, size, slices]) - 1) / 2)
    affine[:3, 3] = rng.normal(0.0, 8.0, 3) - centre
    return affine


def _save(array: np.ndarray, affine: np.ndarray, path: Path) -> None:
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    nib.save(image, path)


def _description(cases: int, channels: int, seed: int) -> dict[str, object]:
    table = contrasts(_generator(seed, _CHANNEL_STREAM), channels)
    return {
        "name": "synthmed phantom",
        "description": "Heads drawn by `synthmed phantom`; no patient was imaged",
        "licence": "CC0-1.0",
        "channel_names": {str(number): name for number, (name, _) in enumerate(table)},
        "labels": {name: value for value, name in enumerate(CLASSES)},
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
