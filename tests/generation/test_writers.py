"""Pictures."""

import numpy as np
import SimpleITK

from synthmed.generation.writers import PngWriter, write_picture


def test_pictures_keep_every_grey_value(tmp_path):
    """16-bit images would be cut to 8 bits, or labels stretched to other classes."""
    for pixels in (
        np.arange(32 * 48, dtype=np.uint16).reshape(32, 48) * 40,
        np.arange(12, dtype=np.uint8).reshape(3, 4) % 3,
        np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8),
    ):
        write_picture(tmp_path / "a.png", pixels)
        assert np.array_equal(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "a.png"))), pixels)


def test_photographs_become_one_rgb_picture(tiny_info, tmp_path):
    """A viewer would show a retina photograph as three grey files."""
    from synthmed.generation.writers import Item

    info = tiny_info("base")
    template = info.templates[0].model_copy(update={"dtype": "uint8", "scale": (1.0,) * 3, "offset": (0.0,) * 3})
    image = np.random.default_rng(0).uniform(-1, 1, (32, 48, 3)).astype(np.float32)
    PngWriter(tmp_path, info).add(Item("SYN_1", image, np.zeros((32, 48), np.uint8), template, {}))
    found = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "images" / "SYN_1.png")))
    assert np.abs(found / 127.5 - 1 - image).max() < 1 / 250
