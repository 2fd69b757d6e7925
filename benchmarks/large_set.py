"""A set of large volumes, to measure how much memory `prepare` and training take: nnU-Net raw layout, invented data.

    python benchmarks/large_set.py OUT --cases 27 --shape 512x512x600

Voxels are whole numbers of 16 bits, as a CT scan stores them: a body with a bright organ, and noise. Each case has
noise and an organ of its own, but they share the body: drawing anatomy would take longer than all that is measured.
"""

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np

from synthmed.files import atomic_folder, write_json

SLAB = 32


def main() -> None:
    """Read the command line and write the set."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--cases", type=int, default=27)
    parser.add_argument("--shape", default="512x512x600")
    arguments = parser.parse_args()
    shape = tuple(int(part) for part in arguments.shape.split("x"))
    write_set(arguments.out, cases=arguments.cases, shape=(shape[0], shape[1], shape[2]))


def write_set(out: Path, *, cases: int, shape: tuple[int, int, int], channels: int = 1) -> Path:
    """Write `cases` volumes of `shape` and their labels (1 organ) into the new folder `out`."""
    nib.openers.Opener.default_compresslevel = 1
    affine = np.diag([0.8, 0.8, 1.5, 1.0])
    with atomic_folder(out) as folder:
        for name in ("imagesTr", "labelsTr"):
            (folder / name).mkdir()
        for number in range(cases):
            rng = np.random.default_rng([11, number])
            images, labels = _draw(shape, rng)
            for channel in range(channels):
                image = images if channel == 0 else images[::-1]
                nib.save(
                    nib.Nifti1Image(image, affine), folder / "imagesTr" / f"large_{number:03d}_{channel:04d}.nii.gz"
                )
            nib.save(nib.Nifti1Image(labels, affine), folder / "labelsTr" / f"large_{number:03d}.nii.gz")
        description = {
            "channel_names": {str(channel): f"contrast {channel}" for channel in range(channels)},
            "labels": {"background": 0, "organ": 1},
            "numTraining": cases,
            "file_ending": ".nii.gz",
            "licence": "CC0-1.0",
        }
        write_json(folder / "dataset.json", description)
    return out


def _draw(shape: tuple[int, int, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    images, labels = np.empty(shape, np.int16), np.empty(shape, np.uint8)
    x, y = np.meshgrid(*(np.linspace(-1, 1, extent, dtype=np.float32) for extent in shape[:2]), indexing="ij")
    body = np.where((x / 0.8) ** 2 + (y / 0.6) ** 2 < 1, 40, -1000).astype(np.int16)
    centre, radius = rng.uniform(-0.3, 0.3, 3), rng.uniform(0.15, 0.35)
    noise = rng.normal(0, 12, (*shape[:2], SLAB)).astype(np.int16)
    for plane, z in enumerate(np.linspace(-1, 1, shape[2])):
        organ = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2 < radius**2
        images[:, :, plane] = body + np.int16(80) * organ + np.roll(noise[:, :, plane % SLAB], plane, axis=0)
        labels[:, :, plane] = organ
    return images, labels


if __name__ == "__main__":
    main()
