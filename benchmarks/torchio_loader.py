"""TorchIO's side of data_pipeline.py, run by an interpreter that has TorchIO and PyTorch instead of synthmed.

    python benchmarks/torchio_loader.py FOLDER --batch 16 --seconds 10 --augmentation '{"rotation": 20, ...}'

Prints one line of JSON: augmented 2D slices a second of two set-ups, both on cases that have been prepared already.

- volumes: TorchIO's own way. The transforms change whole volumes, read from uncompressed NIfTI files; a `Queue` with
  worker processes draws as many 2D patches from each as it has slices. All slices of a volume share one change, which
  makes this cheaper than a change for each.
- slices: the same work as synthmed's. Each slice is a subject of its own in memory and is changed by itself, in the
  worker processes of a `SubjectsLoader`.

One of them a call: worker processes must not be forked from a process in which the other way has used ITK.
"""

import argparse
import json
import math
import random
import time
from pathlib import Path

import numpy as np
import SimpleITK
import torch
import torchio as tio


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--augmentation", type=json.loads, required=True)
    parser.add_argument("--way", choices=["volumes", "slices"], required=True)
    arguments = parser.parse_args()
    # ITK's threads do not survive the fork of a worker process, which then would wait for them for ever.
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    common = {
        "batch": arguments.batch,
        "seconds": arguments.seconds,
        "workers": arguments.workers,
        "changes": transforms(arguments.augmentation),
    }
    print(
        json.dumps(
            {
                "per_second": {"volumes": volumes, "slices": slices}[arguments.way](arguments.folder, **common),
                "torchio": tio.__version__,
                "torch": torch.__version__,
            }
        )
    )


def transforms(options: dict) -> tio.Transform:
    """Return what synthmed's `Augmentation` of these options does, in TorchIO's transforms."""
    factor = 1 + options["scale"]
    shift = options["translation"] * options["side_mm"]
    bend = math.sqrt(3) * options["displacement"] / 2 * options["side_mm"]
    return tio.Compose(
        [
            tio.RandomAffine(
                scales=(1 / factor, factor, 1 / factor, factor, 1, 1),
                degrees=(0, 0, options["rotation"]),
                translation=(-shift, shift, -shift, shift, 0, 0),
                p=options["geometry"],
            ),
            # Control points as far apart as synthmed's; the same standard deviation of even as of normal shifts.
            tio.RandomElasticDeformation(
                num_control_points=(8, 8, 4),
                max_displacement=(bend, bend, 0),
                locked_borders=0,
                p=options["elastic"],
            ),
            tio.RandomBlur(std=(0, options["blur"], 0, options["blur"], 0, 0), p=options["sharpness"]),
            tio.RandomAnisotropy(axes=(0, 1), downsampling=(1, 1 + options["low_resolution"]), p=options["sharpness"]),
            tio.RandomGamma(log_gamma=math.log1p(options["gamma"]), p=options["intensity"]),
            tio.Lambda(Recolour(options), types_to_apply=[tio.INTENSITY]),
            tio.RandomNoise(std=(0, options["noise"]), p=options["intensity"]),
        ]
    )


class Recolour:
    """Contrast and brightness, of which TorchIO has no change; `Lambda` is the place that it has for one's own.

    Args:
        options: Of synthmed's `Augmentation`.
    """

    def __init__(self, options: dict):
        self._options = options

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Change an image, both changes with their probability."""
        options = self._options
        limit = math.log1p(options["contrast"])
        if random.random() < options["intensity"]:
            mean = image.mean()
            image = (image - mean) * math.exp(random.uniform(-limit, limit)) + mean
        if random.random() < options["intensity"]:
            image = image + random.uniform(-1, 1) * options["brightness"]
        return image


def volumes(folder: Path, *, batch: int, seconds: float, workers: int, changes: tio.Transform) -> float:
    """Return patches a second of volumes that are read and changed as wholes."""
    subjects = [
        tio.Subject(image=tio.ScalarImage(path), label=tio.LabelMap(folder / "labels" / path.name))
        for path in sorted((folder / "images").glob("*.nii"))
    ]
    height, width, depth = subjects[0].spatial_shape
    queue = tio.Queue(
        tio.SubjectsDataset(subjects, transform=changes),
        max_length=4 * depth,
        samples_per_volume=depth,
        sampler=tio.data.UniformSampler((height, width, 1)),
        num_workers=workers,
    )
    loader = tio.SubjectsLoader(queue, batch_size=batch, num_workers=0)
    return rate(loader, batch, seconds)


def slices(folder: Path, *, batch: int, seconds: float, workers: int, changes: tio.Transform) -> float:
    """Return slices a second, each of which is a subject and is changed by itself."""
    images, labels = np.load(folder / "images.npy"), np.load(folder / "labels.npy")
    subjects = [
        tio.Subject(
            image=tio.ScalarImage(tensor=np.moveaxis(image, -1, 0)[..., np.newaxis]),
            label=tio.LabelMap(tensor=label[np.newaxis, ..., np.newaxis]),
        )
        for image, label in zip(images, labels, strict=True)
    ]
    dataset = tio.SubjectsDataset(subjects, transform=changes)
    loader = tio.SubjectsLoader(
        dataset, batch_size=batch, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
    )
    return rate(loader, batch, seconds)


def rate(loader: torch.utils.data.DataLoader, batch: int, seconds: float) -> float:
    """Return slices a second over whole epochs for at least `seconds`, after one epoch to warm up."""
    for _ in loader:
        pass
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        count += sum(len(found["label"]["data"]) for found in loader)
    return count / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
