"""A phantom data set: an invented anatomy, imaged in several contrasts."""

import math
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from synthmed.errors import UserError
from synthmed.files import atomic_folder, write_json
from synthmed.progress import Progress, silent

TISSUES = ("air", "scalp", "skull", "csf", "grey", "white", "oedema", "lesion")
CLASSES = ("background", "brain", "ventricle", "lesion")

# Intensity of each tissue in the contrasts that channels imitate, 0..1; values by eye, after textbook images.
CONTRASTS = {
    "T1": (0.02, 0.85, 0.10, 0.18, 0.48, 0.72, 0.46, 0.34),
    "T2": (0.02, 0.55, 0.06, 0.95, 0.58, 0.40, 0.70, 0.80),
    "FLAIR": (0.02, 0.60, 0.06, 0.14, 0.55, 0.45, 0.80, 0.92),
    "T1 post-contrast": (0.02, 0.85, 0.10, 0.18, 0.50, 0.72, 0.48, 0.98),
}

# Cells of the noise lattices, which repeat; more than the head spans at the finest noise.
_LATTICE = 26


@dataclass(frozen=True)
class Anatomy:
    """One drawn head.

    Attributes:
        tissues: Share of each of `TISSUES` in each voxel, float32 `[X, Y, Z, tissues]`, summing to 1.
        labels: Index into `CLASSES`, uint8 `[X, Y, Z]`.
    """

    tissues: np.ndarray
    labels: np.ndarray


def draw_anatomy(rng: np.random.Generator, grid: np.ndarray, softness: float) -> Anatomy:
    """Draw a head on a grid.

    Args:
        rng: Which head; the same state draws the same head on every grid.
        grid: Coordinates, float32 `[X, Y, Z, 3]`.
        softness: Width of a border in coordinates, about half a voxel.
    """
    p = _warp(rng, grid)
    radii = np.array([0.70, 0.86, 0.90]) * rng.uniform(0.93, 1.06, 3)
    head = _ellipsoid(p, np.zeros(3), radii)
    skull = head - rng.uniform(0.055, 0.085)
    inner = skull - rng.uniform(0.045, 0.07)
    brain = inner - 0.03 + 0.02 * _noise(rng, p, 0.35)
    sulci = _sulci(rng, p, brain)
    ventricles = _ventricles(rng, p)
    nuclei = _nuclei(rng, p)
    lesion, halo = _lesion(rng, p, inner)

    shares = np.zeros((*grid.shape[:3], len(TISSUES)), np.float32)
    shares[..., 0] = 1.0
    ribbon = np.minimum(sulci, brain) - rng.uniform(0.032, 0.045)
    for tissue, field in (
        ("scalp", head),
        ("skull", skull),
        ("csf", inner),
        ("grey", np.minimum(brain, sulci)),
        ("white", ribbon),
        ("grey", nuclei),
        ("csf", ventricles),
        ("oedema", np.minimum(halo, np.minimum(brain, -ventricles))),
        ("lesion", np.minimum(lesion, brain)),
    ):
        _paint(shares, TISSUES.index(tissue), field, softness)
    labels = np.zeros(grid.shape[:3], np.uint8)
    labels[brain > 0] = 1
    labels[ventricles > 0] = 2
    labels[np.minimum(lesion, brain) > 0] = 3
    return Anatomy(tissues=shares, labels=labels)


def contrasts(rng: np.random.Generator, channels: int) -> list[tuple[str, np.ndarray]]:
    """Return name and tissue intensities of each channel; beyond the four imitated ones they are drawn at random."""
    table = [(name, np.array(values)) for name, values in CONTRASTS.items()]
    for number in range(len(table), channels):
        values = rng.uniform(0.1, 1.0, len(TISSUES))
        values[0] = 0.02
        table.append((f"contrast {number}", values))
    return table[:channels]


def _warp(rng: np.random.Generator, grid: np.ndarray) -> np.ndarray:
    """Deform coordinates smoothly, turn and shift the head a little."""
    angle = rng.normal(0, 0.06)
    turned = grid.copy()
    turned[..., 0] = math.cos(angle) * grid[..., 0] - math.sin(angle) * grid[..., 1]
    turned[..., 1] = math.sin(angle) * grid[..., 0] + math.cos(angle) * grid[..., 1]
    turned += rng.normal(0, 0.02, 3)
    shift = [0.024 * _noise(rng, turned, 0.7) for _ in range(3)]
    return turned + np.stack(shift, axis=-1)


def _noise(rng: np.random.Generator, p: np.ndarray, scale: float) -> np.ndarray:
    """Return smooth noise of unit variance (about) whose features are `scale` wide, at points `p`."""
    lattice = rng.standard_normal((_LATTICE,) * 3)
    position = np.moveaxis(p / scale % _LATTICE, -1, 0)
    return 1.5 * ndimage.map_coordinates(lattice, position, output=p.dtype, order=3, mode="grid-wrap")


def _ellipsoid(p: np.ndarray, centre: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Return the signed distance to an ellipsoid's surface, to first order; positive inside."""
    radii = radii.astype(p.dtype)
    scaled = (p - centre.astype(p.dtype)) / radii
    radius = np.linalg.norm(scaled, axis=-1)
    gradient = np.linalg.norm(scaled / radii, axis=-1)
    return (1.0 - radius) * radius / np.maximum(gradient, 1e-6)


def _sulci(rng: np.random.Generator, p: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Return the distance from the nearest furrow: winding sheets that reach from the surface inwards."""
    mirrored = np.concatenate([np.abs(p[..., :1]), p[..., 1:]], axis=-1)
    field = 0.75 * _noise(rng, mirrored, 0.12) + 0.6 * _noise(rng, p, 0.12)
    deep = np.clip((brain - rng.uniform(0.14, 0.2)) / 0.1, 0.0, 1.0)
    # Zero crossings of noise are winding lines; deeper than the cortex the field is lifted until none is left.
    furrows = 0.06 * np.abs(field) + 0.3 * deep - 0.010
    fissure = np.abs(p[..., 0] + 0.012 * _noise(rng, p, 0.5)) - 0.012 + 0.3 * (np.abs(p[..., 2] + 0.05) < 0.22)
    return np.minimum(furrows, fissure)


def _ventricles(rng: np.random.Generator, p: np.ndarray) -> np.ndarray:
    """Return both lateral ventricles, bowed outwards at their horns, and the third one; their size varies most."""
    width = rng.uniform(0.055, 0.12)
    length = rng.uniform(0.30, 0.42)
    bow = rng.uniform(0.35, 0.6)
    x, y, z = np.abs(p[..., 0]), p[..., 1] + 0.03, p[..., 2] - 0.10
    lateral = np.stack([x - 0.06 - 0.9 * width - bow * y**2, y, z + 0.25 * y**2], axis=-1)
    sides = _ellipsoid(lateral, np.zeros(3), np.array([width, length, 1.7 * width + 0.04]))
    third = _ellipsoid(p, np.array([0.0, -0.02, -0.08]), np.array([0.25 * width + 0.012, 0.15, 0.13]))
    return np.maximum(sides, third)


def _nuclei(rng: np.random.Generator, p: np.ndarray) -> np.ndarray:
    """Return the grey nuclei beside the ventricles."""
    mirrored = np.concatenate([np.abs(p[..., :1]), p[..., 1:]], axis=-1)
    scale = rng.uniform(0.9, 1.1)
    thalamus = _ellipsoid(mirrored, np.array([0.12, -0.09, -0.03]), scale * np.array([0.085, 0.15, 0.12]))
    putamen = _ellipsoid(mirrored, np.array([0.30, 0.06, -0.03]), scale * np.array([0.06, 0.19, 0.13]))
    return np.maximum(thalamus, putamen)


def _lesion(rng: np.random.Generator, p: np.ndarray, inner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return an irregular lesion somewhere in the white matter, and the oedema around it."""
    angle = rng.uniform(0, 2 * np.pi)
    away = rng.uniform(0.24, 0.42)
    centre = np.array([1.0 * away * np.cos(angle), 1.25 * away * np.sin(angle), rng.uniform(-0.05, 0.4)])
    radii = rng.uniform(0.12, 0.24) * rng.uniform(0.8, 1.25, 3)
    lesion = _ellipsoid(p, centre, radii) + 0.03 * _noise(rng, p, 0.14)
    halo = lesion + rng.uniform(0.03, 0.09) + 0.03 * _noise(rng, p, 0.2)
    return lesion, np.minimum(halo, inner - 0.05)


def _paint(shares: np.ndarray, tissue: int, field: np.ndarray, softness: float) -> None:
    """Lay a tissue over what is there, with a soft border."""
    cover = (1.0 / (1.0 + np.exp(-np.clip(field / softness, -30, 30)))).astype(np.float32)[..., np.newaxis]
    shares *= 1.0 - cover
    shares[..., tissue] += cover[..., 0]


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

    Example:
        >>> sm.write_phantom("small", cases=2, size=32).name
        'small'
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
