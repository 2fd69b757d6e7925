"""Tests of synthmed.data.formats.pictures and picture_files."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from synthmed.data.formats import PictureSource, picture_header, source_of
from synthmed.data.geometry import axis_codes
from synthmed.errors import UserError

RNG = np.random.default_rng(0)


def _voxels(path, **others):
    """Return what is read of a picture as rows, columns, slices, channels."""
    return PictureSource((Path(path),), **others).open().voxels().swapaxes(0, 1)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_pixels_are_read_as_stored(tmp_path, data):
    """16-bit pictures would lose half of their bits, colours or rows be swapped."""
    ending = data.draw(st.sampled_from([".png", ".tif", ".bmp"]))
    channels = data.draw(st.sampled_from([1, 3] if ending == ".bmp" else [1, 3, 4]))
    dtype = np.uint8 if ending == ".bmp" else data.draw(st.sampled_from([np.uint8, np.uint16]))
    rows, columns = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    pixels = RNG.integers(0, np.iinfo(dtype).max, (rows, columns, channels), endpoint=True).astype(dtype)
    path = tmp_path / f"a{ending}"
    sitk.WriteImage(
        sitk.GetImageFromArray(pixels if channels > 1 else pixels[..., 0], isVector=channels > 1), str(path)
    )
    volume = source_of(path).open()
    assert volume.geometry.shape == (columns, rows, 1) and volume.channels == channels
    assert volume.geometry.dtype == np.dtype(dtype).name and volume.geometry.xyzt_units == ("unknown", "unknown")
    assert axis_codes(np.asarray(volume.geometry.affine)) == "LPS"
    voxels = _voxels(path)
    assert voxels.dtype == dtype
    np.testing.assert_array_equal(voxels[:, :, 0], pixels)


def test_jpeg_is_as_pillow_decodes_it(tmp_path):
    """The commonest photographs would be refused."""
    Image.fromarray(RNG.integers(0, 255, (9, 7, 3), dtype=np.uint8)).save(tmp_path / "a.jpg")
    np.testing.assert_array_equal(_voxels(tmp_path / "a.jpg")[:, :, 0], np.asarray(Image.open(tmp_path / "a.jpg")))


def test_one_bit_masks_are_0_and_1(tmp_path):
    """Truth values would be no class numbers."""
    mask = RNG.random((9, 7)) > 0.5
    Image.fromarray(mask).save(tmp_path / "a.png")
    voxels = _voxels(tmp_path / "a.png", mask=True)
    assert voxels.dtype == np.uint8
    np.testing.assert_array_equal(voxels[..., 0, 0], mask)


def test_the_index_of_a_palette_is_the_class(tmp_path):
    """Classes that an annotation tool paints in colours would be colours."""
    index = RNG.integers(0, 4, (9, 7), dtype=np.uint8)
    image = Image.fromarray(index)
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(_voxels(tmp_path / "a.png", mask=True)[..., 0, 0], index)
    assert PictureSource((tmp_path / "a.png",)).open().channels == 3
    expected = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    np.testing.assert_array_equal(_voxels(tmp_path / "a.png")[:, :, 0], expected)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(colour=st.tuples(*[st.integers(0, 255)] * 3), alpha=st.booleans())
def test_coloured_masks_give_the_colour(tmp_path, colour, alpha):
    """Two colours would fall together, or alpha become a class."""
    mask = np.full((4, 5, 4 if alpha else 3), 17, np.uint8)
    mask[1, 1, :3] = colour
    mask[0, 0, :3] = (1, 2, 3)
    Image.fromarray(mask).save(tmp_path / "a.png")
    red, green, blue = colour
    voxels = _voxels(tmp_path / "a.png", mask=True)
    assert (
        voxels.shape == (4, 5, 1, 1) and voxels[1, 1] == red * 65536 + green * 256 + blue and voxels[0, 0] == 0x010203
    )


@pytest.mark.parametrize("ending", [".png", ".tif", ".jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation, ending):
    """A photograph would be mirrored or lie on its side."""
    image = Image.fromarray(RNG.integers(0, 255, (16, 24, 3), dtype=np.uint8))
    exif = image.getexif()
    exif[0x0112] = orientation
    path = tmp_path / f"a{ending}"
    image.save(path, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    np.testing.assert_array_equal(_voxels(path)[:, :, 0], expected)
    header = picture_header(path)
    assert header.orientation == orientation and (header.rows, header.columns) == expected.shape[:2]


def test_pages_and_stacks_are_slices(tmp_path):
    """A volume that a microscope saved as TIFF would be its first slice."""
    slices = RNG.integers(0, 60000, (5, 4, 6)).astype(np.uint16)
    pages = [Image.fromarray(page) for page in slices]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    for number, page in enumerate(pages):
        page.save(tmp_path / f"{number}.png")
    stack = PictureSource(tuple(tmp_path / f"{number}.png" for number in range(5)))
    for source in (PictureSource((tmp_path / "pages.tif",)), stack):
        volume = source.open()
        assert volume.geometry.shape == (6, 4, 5)
        np.testing.assert_array_equal(volume.voxels()[..., 0], slices.transpose(2, 1, 0))
    assert stack.path == tmp_path and len(stack.files) == 5


def test_slices_must_be_alike(tmp_path):
    """A scout among the slices would end in a traceback."""
    Image.new("L", (4, 5)).save(tmp_path / "1.png")
    Image.new("L", (5, 5)).save(tmp_path / "2.png")
    with pytest.raises(UserError, match="slices of one stack must be alike"):
        PictureSource((tmp_path / "1.png", tmp_path / "2.png")).open()
    first = Image.new("L", (4, 5))
    first.save(tmp_path / "p.tif", save_all=True, append_images=[Image.new("L", (2, 3))])
    with pytest.raises(UserError, match="pages of different sizes"):
        source_of(tmp_path / "p.tif").open().voxels()


def test_bombs_are_refused(tmp_path, monkeypatch):
    """A small file would fill all memory."""
    Image.new("1", (400, 400)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UserError, match="more than 2000 pixels") as error:
        source_of(tmp_path / "a.png").open()
    assert "\n" not in str(error.value)


def test_a_header_that_claims_too_much_is_refused(tmp_path):
    """A damaged header would make Pillow take memory for pixels that are not there."""
    Image.new("L", (4, 5)).save(tmp_path / "a.bmp")
    raw = bytearray((tmp_path / "a.bmp").read_bytes())
    raw[18:26] = (8000).to_bytes(4, "little") * 2
    (tmp_path / "a.bmp").write_bytes(raw)
    with pytest.raises(UserError, match="shorter than its header says"):
        source_of(tmp_path / "a.bmp").open()


@pytest.mark.parametrize("part", [0.95, 0.6, 0.2])
def test_a_cut_stack_is_conditional(tmp_path, part):
    """The last slices of a broken download would be missing without a word."""
    slices = RNG.integers(0, 60000, (5, 40, 60)).astype(np.uint16)
    path = tmp_path / "pages.tif"
    sitk.WriteImage(sitk.GetImageFromArray(slices), str(path), useCompression=True)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * part)])
    with pytest.raises(UserError, match="truncated or damaged|is damaged"):
        source_of(path).open().voxels()


@pytest.mark.parametrize(
    ("name", "message"), [("a.png", "does not exist"), ("b.png", "is damaged, or no PNG"), ("c.gif", "in no format")]
)
def test_what_is_no_picture_is_conditional(tmp_path, name, message):
    """A wrong file would end in a traceback."""
    (tmp_path / "b.png").write_text("no picture")
    with pytest.raises(UserError, match=message):
        source_of(tmp_path / name).open()


def test_an_orientation_that_is_not_applied_is_no_damage(tmp_path):
    """A user would download a sound picture again and again."""
    path = tmp_path / "a.png"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((6, 8, 3), np.uint16), isVector=True), str(path))
    exif = Image.Exif()
    exif[0x0112] = 6
    data = path.read_bytes()
    content = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(content)) + b"eXIf" + content + struct.pack(">I", zlib.crc32(b"eXIf" + content))
    # Behind the signature (8 bytes) and the header's chunk (25).
    path.write_bytes(data[:33] + chunk + data[33:])
    assert picture_header(path).orientation == 6
    with pytest.raises(UserError, match="save it turned upright") as caught:
        _voxels(path)
    assert "damaged" not in str(caught.value)
