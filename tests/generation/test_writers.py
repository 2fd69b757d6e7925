"""Files of generated cases: pictures, and NIfTI with types and geometry."""

import nibabel
import numpy as np
import pytest
import SimpleITK

from synthmed.generation.writers import Item, NnUnetWriter, PngWriter, as_stored, write_picture


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
    info = tiny_info("base")
    template = info.templates[0].model_copy(update={"dtype": "uint8", "scale": (1.0,) * 3, "offset": (0.0,) * 3})
    image = np.random.default_rng(0).uniform(-1, 1, (32, 48, 3)).astype(np.float32)
    PngWriter(tmp_path, info).add(Item("SYN_1", image, np.zeros((32, 48), np.uint8), template, {}))
    found = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "images" / "SYN_1.png")))
    assert np.abs(found / 127.5 - 1 - image).max() < 1 / 250


STRAIGHT = ((0, -1.0, 0, 5.0), (-0.5, 0, 0, -7.0), (0, 0, 2.0, 3.0), (0, 0, 0, 1.0))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "int64", "float32", "float64"])
def test_whole_numbers_stay_whole_numbers(tiny_info, dtype):
    """A CT with fractions of HU, or one that wraps from 255 to 0, is told from a real one at a glance."""
    template = tiny_info("base").templates[0].model_copy(update={"dtype": dtype, "scale": (300.0, 0.4)})
    values = np.array([-70_000.0, -3.6, 0.4, 0.6, 254.7, 300.0, 1e6], np.float32)
    stored = as_stored(values, template, 0)
    if dtype.startswith("float"):
        assert stored is values
        return
    kind = np.int32 if dtype == "int64" else np.dtype(dtype)
    limits = np.iinfo(kind)
    assert stored.dtype == kind and np.array_equal(stored, np.clip(np.rint(values), limits.min, limits.max))
    # The second channel's range is less than one: it cannot be of whole numbers.
    assert as_stored(values, template, 1) is values


def test_written_geometry_is_the_template_s(tiny_info, tmp_path):
    """Synthetic cases would lie elsewhere than the real ones that they stand beside: all pairs of codes."""
    info = tiny_info("base")
    for qform in range(5):
        for sform in range(5):
            template = info.templates[0].model_copy(
                update={"qform_code": qform, "sform_code": sform, "affine": STRAIGHT, "dtype": "int16"}
            )
            folder = tmp_path / f"{qform}{sform}"
            folder.mkdir()
            image = np.random.default_rng(0).uniform(-1, 1, (32, 48, 2)).astype(np.float32)
            NnUnetWriter(folder, info).add(Item("SYN_1", image, np.zeros((32, 48), np.uint8), template, {}))
            found = [nibabel.load(path) for path in sorted(folder.rglob("*.nii.gz"))]
            assert [one.get_data_dtype().name for one in found] == ["int16", "float32", "uint8"]
            for one in found:
                assert (one.header["qform_code"], one.header["sform_code"]) == (qform, sform)
                assert one.header.get_xyzt_units() == template.xyzt_units
                assert np.allclose(one.header.get_zooms(), (1.0, 0.5, 2.0))
                if qform or sform:
                    assert np.allclose(one.affine, template.volume(image[..., 0])[1], atol=1e-5)
