"""Trees of small image files, written by their names."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

Tree = Callable[..., Path]


def _write(path: Path, number: int, *, mask: bool, size: tuple[int, int], mode: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(number)
    if path.suffix in (".png", ".jpg", ".tif", ".bmp"):
        array = np.zeros(size, np.uint8)
        if mask:
            array[2:5, 3 : 6 + number % 3] = 255
        else:
            array = rng.integers(0, 256, (*size, 3) if mode == "RGB" else size, dtype=np.uint8)
        Image.fromarray(array).save(path)
        return
    volume = np.zeros((3, *size), np.int16)
    if mask:
        volume[1, 2:5, 3 : 6 + number % 3] = 1
    else:
        volume[:] = rng.integers(0, 1000, volume.shape)
    sitk.WriteImage(sitk.GetImageFromArray(volume), str(path))


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Return a writer of a tree: `write(images, masks, size=, mode=)`, paths with their endings; returns the folder."""

    def write(
        images: Iterable[str], masks: Iterable[str] = (), *, size: tuple[int, int] = (8, 12), mode: str = "L"
    ) -> Path:
        folder = tmp_path / "tree"
        for number, name in enumerate(images):
            _write(folder / name, number, mask=False, size=size, mode=mode)
        for number, name in enumerate(masks):
            _write(folder / name, number, mask=True, size=size, mode=mode)
        return folder

    return write
