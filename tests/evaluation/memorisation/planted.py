"""Copies of training slices, changed as a generator or a cunning person would change them."""

import numpy as np
from scipy import ndimage


def disguised(images: np.ndarray, kind: str, seed: int = 0) -> np.ndarray:
    """Return copies `[n, H, W, C]`: moved by up to a tenth of each side, with noise, and so on."""
    random = np.random.default_rng(seed)
    return np.stack([_disguise(image, kind, random) for image in images]).astype(np.float32)


def moved(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return label maps `[n, H, W]` moved by up to 3 pixels, 0 beyond the border."""
    random = np.random.default_rng(seed)
    return np.stack([ndimage.shift(label, random.integers(-3, 4, 2), order=0) for label in labels])


def _disguise(image: np.ndarray, kind: str, random: np.random.Generator) -> np.ndarray:
    channels = image.shape[-1]
    if kind in ("shifted", "all"):
        reach = 0.1 if kind == "shifted" else 0.05
        offset = [random.uniform(-reach, reach) * side for side in image.shape[:2]]
        image = ndimage.shift(image, (*offset, 0), order=1, mode="nearest")
    if kind in ("size", "all"):
        scale = 1 + random.uniform(-0.08, 0.08)
        centre = (np.array(image.shape[:2]) - 1) / 2
        planes = [
            ndimage.affine_transform(image[..., c], [1 / scale] * 2, centre - centre / scale, order=1, mode="nearest")
            for c in range(channels)
        ]
        image = np.stack(planes, axis=-1)
    if kind in ("intensities", "all"):
        image = image * random.uniform(0.7, 1.3, channels) + random.uniform(-0.2, 0.2, channels)
    if kind in ("noisy", "all"):
        image = image + random.normal(0, 0.08, image.shape)
    return image
