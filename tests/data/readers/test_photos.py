"""Tests of synthmed.data.readers.folders: pictures with masks."""

import numpy as np
import pytest
from PIL import Image

from synthmed.data.inspect import fingerprint
from synthmed.data.prepare import prepare
from synthmed.data.readers import ReadOptions, load_case, read_dataset, read_images
from synthmed.errors import UserError

# Name of the habit: (images, masks, cases).
HABITS = {
    "_mask beside": (
        [f"im{n}.png" for n in (1, 2, 10)],
        [f"im{n}_mask.png" for n in (1, 2, 10)],
        ["im1", "im2", "im10"],
    ),
    "-seg beside, other ending": ([f"k-{n}.jpg" for n in (1, 2)], [f"k-{n}-seg.png" for n in (1, 2)], ["k-1", "k-2"]),
    "folders": ([f"images/{n}.png" for n in (1, 2)], [f"masks/{n}.png" for n in (1, 2)], ["1", "2"]),
    "CHASE": (
        [f"images/Image_{n:02d}{s}.jpg" for n in (1, 2) for s in "LR"],
        [f"labels/Image_{n:02d}{s}_1stHO.png" for n in (1, 2) for s in "LR"],
        ["Image_01L", "Image_01R", "Image_02L", "Image_02R"],
    ),
    "DRIVE": (
        [f"images/{n}_training.tif" for n in (21, 22)],
        [f"1st_manual/{n}_manual1.png" for n in (21, 22)],
        ["21_training", "22_training"],
    ),
    "ISIC": (
        [f"Task1_Training_Input/ISIC_{n:07d}.jpg" for n in (3, 24)],
        [f"Task1_Training_GroundTruth/ISIC_{n:07d}_segmentation.png" for n in (3, 24)],
        ["ISIC_0000003", "ISIC_0000024"],
    ),
    "BUSI": (
        ["benign/benign (1).png", "benign/benign (2).png", "malignant/malignant (1).png"],
        ["benign/benign (1)_mask.png", "benign/benign (2)_mask.png", "malignant/malignant (1)_mask.png"],
        ["benign (1)", "benign (2)", "malignant (1)"],
    ),
    "splits": (
        ["train/images/a1.png", "train/images/a2.png", "test/images/a1.png"],
        ["train/masks/a1.png", "train/masks/a2.png", "test/masks/a1.png"],
        ["test_a1", "a2", "train_a1"],
    ),
    "img and mask before the number": (
        [f"img_{n}.bmp" for n in (1, 2, 3)],
        [f"mask_{n}.bmp" for n in (1, 2, 3)],
        ["img_1", "img_2", "img_3"],
    ),
}


@pytest.mark.parametrize("habit", HABITS)
def test_masks_are_found_as_people_name_them(tree, habit):
    """Every set of photographs would need a script that renames its files, or get another picture's mask."""
    images, masks, cases = HABITS[habit]
    folder = tree(images, masks)
    dataset = read_dataset(folder)
    assert sorted(case.case for case in dataset.cases) == sorted(cases) and not dataset.orphans
    assert dataset.classes == ("background", "foreground") and dataset.label_values == (0, 255)
    assert dataset.modalities == ("picture",) and dataset.channels == ("image",)
    for case in dataset.cases:
        index = [folder / name for name in images].index(case.images[0].path)
        assert case.label.path == folder / masks[index]
    assert not fingerprint(dataset).problems


@pytest.mark.parametrize("layout", ["beside", "parallel"])
def test_numbered_slices_of_a_folder_are_one_volume(tree, layout):
    """Slice 10 would come before slice 2, and slices of one patient be drawn into training and test."""
    stems = [(f"AB_{p}_19990101", n) for p in (5, 6) for n in (1, 2, 9, 10)]
    place = "{0}/{0}_{1}" if layout == "beside" else "{2}/{0}/{0}_{1}"
    images = [place.format(p, n, "images") + ".tif" for p, n in stems]
    masks = [place.format(p, n, "masks") + ("_mask" if layout == "beside" else "") + ".tif" for p, n in stems]
    folder = tree(images, masks, mode="RGB")
    dataset = read_dataset(folder)
    assert [case.case for case in dataset.cases] == ["AB_5_19990101", "AB_6_19990101"]
    assert dataset.channels == ("red", "green", "blue")
    case = load_case(dataset.cases[1])
    assert case.images.shape == (12, 8, 4, 3)
    for position in range(4):
        pixels = np.asarray(Image.open(folder / images[4 + position]))
        np.testing.assert_array_equal(case.images[:, :, position], pixels.swapaxes(0, 1))
        mask = np.asarray(Image.open(folder / masks[4 + position]))
        np.testing.assert_array_equal(case.labels[:, :, position], mask.swapaxes(0, 1))
    assert "8 numbered pictures of 2 folders are the slices of 2 volumes" in dataset.notes


def test_a_stack_without_all_masks_is_conditional(tree):
    """A slice without its mask would count as healthy."""
    folder = tree(
        [f"p{p}/p{p}_{n}.png" for p in (1, 2) for n in (1, 2)],
        [f"p{p}/p{p}_{n}_mask.png" for p in (1, 2) for n in (1, 2)],
    )
    (folder / "p2" / "p2_2_mask.png").unlink()
    dataset = read_dataset(folder)
    assert [problem.what for problem in fingerprint(dataset).problems] == ["image without its label"]
    assert "p2 has no label map: p2_2.png has no mask, or two" in dataset.notes


def test_a_prepared_picture_stands_as_it_did(tree, tmp_path):
    """Photographs would be trained on, and drawn, on their side."""
    folder = tree([f"e{n}.png" for n in (1, 2, 3)], [f"e{n}_mask.png" for n in (1, 2, 3)], size=(32, 48), mode="RGB")
    store = prepare(read_dataset(folder), tmp_path / "store", size=(32, 48))
    for record in store.cases():
        pixels = np.asarray(Image.open(folder / f"{record.case}.png")).astype(float)
        prepared = store.images(np.array([record.first]))[0].astype(float)
        for channel in range(3):
            assert np.corrcoef(prepared[..., channel].ravel(), pixels[..., channel].ravel())[0, 1] > 0.99
        mask = np.asarray(Image.open(folder / f"{record.case}_mask.png"))
        np.testing.assert_array_equal(store.labels(np.array([record.first]))[0], mask // 255)


def test_classes_of_coloured_masks_are_named_by_colour(tree):
    """Organs that are painted in colours would be read as grey values."""
    folder = tree(["a.png", "b.png"])
    for name, colours in (("a", [(0, 0, 0), (255, 0, 0), (0, 128, 255)]), ("b", [(0, 0, 0), (255, 255, 255)])):
        mask = np.zeros((8, 12, 3), np.uint8)
        mask[:, : len(colours)] = colours
        Image.fromarray(mask).save(folder / f"{name}_label.png")
    dataset = read_dataset(folder)
    assert dataset.classes == ("background", "#0080ff", "#ff0000", "#ffffff")
    assert dataset.label_values == (0, 0x0080FF, 0xFF0000, 0xFFFFFF)
    # White is white in a mask without other colours too.
    assert set(np.unique(load_case(dataset.cases[1]).labels)) == {0, 0xFFFFFF}
    assert not fingerprint(dataset).problems


def test_an_rgb_mask_of_greys_is_grey(tree):
    """Masks from a paint program would have classes named after colours."""
    folder = tree(["a.png", "b.png"])
    for name in "ab":
        mask = np.zeros((8, 12, 4), np.uint8)
        mask[2:4, 2:4, :3], mask[..., 3] = 255, 200
        Image.fromarray(mask).save(folder / f"{name}_mask.png")
    assert read_dataset(folder).label_values == (0, 255)


def test_lossy_masks_are_refused(tree):
    """Compression's noise would become classes."""
    folder = tree(["a.png", "b.png"])
    for name in "ab":
        Image.new("L", (12, 8)).save(folder / f"{name}_mask.jpg")
    with pytest.raises(UserError, match="JPEG mask.*save masks as PNG"):
        read_dataset(folder)


def test_smoothed_masks_are_refused(tree):
    """Every shade at a border would become a class."""
    folder = tree(["a.png"])
    Image.fromarray(np.arange(96, dtype=np.uint8).reshape(8, 12)).save(folder / "a_mask.png")
    with pytest.raises(UserError, match="96 different values.*as PNG"):
        read_dataset(folder)


def _turned(folder, name, array, orientation):
    image = Image.fromarray(array)
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(folder / name, exif=exif)


def test_photographs_are_turned_and_that_is_said(tree):
    """A photograph would lie on its side beside its mask."""
    folder = tree([], ["a_mask.png"], size=(12, 8))
    _turned(folder, "a.png", np.random.default_rng(0).integers(0, 255, (8, 12), dtype=np.uint8), 6)
    dataset = read_dataset(folder)
    assert "1 photographs turned upright as their EXIF data ask" in dataset.notes
    assert load_case(dataset.cases[0]).images.shape == (8, 12, 1, 1)


@pytest.mark.parametrize(("orientation", "size"), [(3, (8, 12)), (6, (8, 8)), (8, (8, 12))])
def test_a_doubtful_turn_is_refused(tree, orientation, size):
    """A mask would lie upside down on its photograph, and nothing would show it."""
    folder = tree([], ["a_mask.png"], size=size)
    _turned(folder, "a.png", np.zeros(size, np.uint8), orientation)
    with pytest.raises(UserError, match="asks by EXIF to be turned"):
        read_dataset(folder)


def test_alpha_that_says_nothing_is_left_out(tree):
    """Screenshots would give the networks a fourth channel that is constant."""
    folder = tree([])
    folder.mkdir()
    for name, alpha in (("a", 255), ("b", 255)):
        pixels = np.random.default_rng(0).integers(0, 255, (8, 12, 4), dtype=np.uint8)
        pixels[..., 3] = alpha
        Image.fromarray(pixels).save(folder / f"{name}.png")
    dataset = read_dataset(folder)
    assert dataset.channels == ("red", "green", "blue") and load_case(dataset.cases[0]).images.shape[-1] == 3
    pixels[0, 0, 3] = 0
    Image.fromarray(pixels).save(folder / "b.png")
    assert read_dataset(folder).channels == ("red", "green", "blue", "alpha")


def test_channels_as_pictures_of_their_own(tree):
    """Stains that were photographed one by one could not be read."""
    folder = tree([f"s{n}_{stain}.png" for n in (1, 2) for stain in ("dapi", "gfp")], ["s1_mask.png", "s2_mask.png"])
    options = ReadOptions(channels=(("GFP", "*_gfp.png"), ("DAPI", "*_dapi.png")))
    dataset = read_dataset(folder, options)
    assert [case.case for case in dataset.cases] == ["s1", "s2"] and dataset.channels == ("GFP", "DAPI")
    assert not fingerprint(dataset).problems and load_case(dataset.cases[0]).images.shape == (12, 8, 1, 2)


def test_pictures_are_read_for_prediction(tree):
    """`segment predict` would take volumes alone, or predict on the masks."""
    folder = tree([f"x/IMG_{n:04d}.png" for n in (1, 2, 3)], [f"x/IMG_{n:04d}_mask.png" for n in (1, 2, 3)], mode="RGB")
    (folder / "x" / "IMG_0002.png").unlink()
    assert [case.case for case in read_images(folder / "x", ("red", "green", "blue")).cases] == ["IMG_0001", "IMG_0003"]


def test_real_photographs(test_data):
    """Two eyes of a child would lie in training and test."""
    dataset = read_dataset(test_data / "chase_db1")
    assert len(dataset.cases) == 28 and len({case.patient for case in dataset.cases}) == 14
    assert all(case.label.path.name.startswith(case.case) for case in dataset.cases) and not dataset.orphans


def test_real_slices(test_data):
    """Slices of three patients would pass for 74."""
    dataset = read_dataset(test_data / "lgg_tiff")
    assert len(dataset.cases) == 3 and len({case.patient for case in dataset.cases}) == 3
    for case in dataset.cases:
        numbers = [int(path.stem.rsplit("_", 1)[1]) for path in case.images[0].paths]
        assert numbers == list(range(1, len(numbers) + 1))
        assert [path.stem.removesuffix("_mask") for path in case.label.paths] == [
            one.stem for one in case.images[0].paths
        ]
