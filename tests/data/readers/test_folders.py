"""Tests of synthmed.data.readers.folders: volumes without a description."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from synthmed.data.formats import PictureSource
from synthmed.data.inspect import fingerprint
from synthmed.data.prepare import prepare
from synthmed.data.readers import ReadOptions, load_case, read_dataset
from synthmed.errors import UserError

# Name of the habit: (images, label maps, case: {channel: file}, channels).
HABITS = {
    "BraTS": (
        [f"BraTS_{n:03d}/BraTS_{n:03d}_{kind}.nii.gz" for n in (1, 2, 10) for kind in ("flair", "t1", "t1ce", "t2")],
        [f"BraTS_{n:03d}/BraTS_{n:03d}_seg.nii.gz" for n in (1, 2, 10)],
        ("flair", "t1", "t1ce", "t2"),
        ["BraTS_001", "BraTS_002", "BraTS_010"],
    ),
    "plain names": (
        [f"P{n}/{kind}.nrrd" for n in (1, 2, 3) for kind in ("T1", "T2")],
        [f"P{n}/label.nrrd" for n in (1, 2, 3)],
        ("T1", "T2"),
        ["P1", "P2", "P3"],
    ),
    "one channel": (
        [f"p{n}/image.mha" for n in (1, 2)],
        [f"p{n}/mask.mha" for n in (1, 2)],
        ("image",),
        ["p1", "p2"],
    ),
    "image named as its folder": (
        [f"A{n}/A{n}.nii.gz" for n in (1, 2, 3)],
        [f"A{n}/A{n}_seg.nii.gz" for n in (1, 2, 3)],
        ("image",),
        ["A1", "A2", "A3"],
    ),
    "channels that end alike": (
        [f"{n}/{n}_{kind}_reg.nii.gz" for n in ("u7", "u8") for kind in ("T1", "FLAIR")],
        [f"{n}/{n}_manualseg.nii.gz" for n in ("u7", "u8")],
        ("FLAIR", "T1"),
        ["u7", "u8"],
    ),
    "flat": (
        [f"pat-{n}_{kind}.nii.gz" for n in (1, 2) for kind in ("adc", "t2")],
        [f"pat-{n}_roi.nii.gz" for n in (1, 2)],
        ("adc", "t2"),
        ["pat-1", "pat-2"],
    ),
    "flat, one channel": (
        [f"scan{n}.mha" for n in (1, 2, 11)],
        [f"scan{n}_gt.mha" for n in (1, 2, 11)],
        ("image",),
        ["scan1", "scan2", "scan11"],
    ),
    "LiTS": (
        [f"volume-{n}.nii.gz" for n in (0, 1, 2)],
        [f"segmentation-{n}.nii.gz" for n in (0, 1, 2)],
        ("image",),
        ["volume-0", "volume-1", "volume-2"],
    ),
    "parallel folders": (
        [f"images/c{n}.nii.gz" for n in (1, 2)],
        [f"labels/c{n}.nii.gz" for n in (1, 2)],
        ("image",),
        ["c1", "c2"],
    ),
    "nnU-Net without its description": (
        [f"imagesTr/c_{n}_000{c}.nii.gz" for n in (1, 2) for c in (0, 1)],
        [f"labelsTr/c_{n}.nii.gz" for n in (1, 2)],
        ("channel 0", "channel 1"),
        ["c_1", "c_2"],
    ),
    "folders of splits": (
        ["train/k1_ct.nrrd", "train/k2_ct.nrrd", "test/k3_ct.nrrd"],
        ["train/k1_seg.nrrd", "train/k2_seg.nrrd", "test/k3_seg.nrrd"],
        ("ct",),
        ["k3", "k1", "k2"],
    ),
    "folders in folders": (
        [
            f"sub-{n:02d}/ses-{s}/anat/sub-{n:02d}_ses-{s}_{k}.nii.gz"
            for n in (1, 2)
            for s in (1, 2)
            for k in ("T1w", "T2w")
        ],
        [f"sub-{n:02d}/ses-{s}/anat/sub-{n:02d}_ses-{s}_label.nii.gz" for n in (1, 2) for s in (1, 2)],
        ("T1w", "T2w"),
        ["sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1", "sub-02_ses-2"],
    ),
    "thyroids are no regions of interest": (
        [f"thyroid{n}_us.nii.gz" for n in (1, 2)],
        [f"thyroid{n}_us_mask.nii.gz" for n in (1, 2)],
        ("image",),
        ["thyroid1_us", "thyroid2_us"],
    ),
}


@pytest.mark.parametrize("habit", HABITS)
def test_files_are_brought_together_as_people_name_them(tree, habit):
    """A folder that a person would understand at a glance would need a script, or be read wrongly without a word."""
    images, masks, channels, cases = HABITS[habit]
    dataset = read_dataset(tree(images, masks))
    assert [case.case for case in dataset.cases] == cases and dataset.channels == channels
    assert dataset.classes == ("background", "foreground") and dataset.label_values == (0, 1)
    assert sorted(path.path for case in dataset.cases for path in case.images) == sorted(
        dataset.path / p for p in images
    )
    assert sorted(case.label.path for case in dataset.cases) == sorted(dataset.path / path for path in masks)
    for case in dataset.cases:
        assert len(case.images) == len(channels)
        # The image and its label map were written with one number.
        number = {tuple(dataset.path / p for p in images).index(one.path) // len(channels) for one in case.images}
        assert number == {tuple(dataset.path / path for path in masks).index(case.label.path)}
    assert not dataset.orphans and not fingerprint(dataset).problems
    assert "label values 0, 1 found in" in " ".join(dataset.notes)


def test_modalities_follow_the_names(tree):
    """CT would be scaled as MRI is."""
    folder = tree([f"a{n}_{kind}.nii.gz" for n in (1, 2) for kind in ("CT", "T1Gd", "perfusion")])
    assert read_dataset(folder).modalities == ("CT", "MRI", "other")


def test_without_labels_images_are_prepared_alone(tree, tmp_path):
    """A set without labels would be refused, or its empty label maps be taken for truth."""
    folder = tree([f"{n}/{n}_{kind}.nii.gz" for n in ("x1", "x2", "x3") for kind in ("t1", "t2")])
    dataset = read_dataset(folder)
    assert not dataset.labelled and dataset.classes == ("background",) and dataset.label_values == (0,)
    assert "no label maps found" in dataset.notes[0]
    store = prepare(dataset, tmp_path / "store")
    assert not store.labelled and len(store) == 9 and not store.labels(np.arange(9)).any()


def test_given_patterns_come_first(tree):
    """A user whose names are unusual would have to rename hundreds of files."""
    images = [f"{n}/{kind}.nii.gz" for n in ("x1", "x2") for kind in ("before", "after", "pick")]
    folder = tree(images, [f"{n}/drawn.nii.gz" for n in ("x1", "x2")])
    options = ReadOptions(channels=(("post", "after.nii.gz"), ("pre", "before.nii.gz")), label="drawn.*")
    dataset = read_dataset(folder, options)
    assert dataset.channels == ("post", "pre") and [case.case for case in dataset.cases] == ["x1", "x2"]
    assert [one.path.name for one in dataset.cases[0].images] == ["after.nii.gz", "before.nii.gz"]
    assert dataset.cases[1].label.path.name == "drawn.nii.gz"
    for options, message in [
        (ReadOptions(label="*_seg*"), "--label .* matches no file"),
        (ReadOptions(channels=(("T1", "*_t1.mha"),)), "--channel T1=.* matches no image"),
    ]:
        with pytest.raises(UserError, match=message):
            read_dataset(folder, options)


def test_given_patterns_find_cases_in_one_folder(tree):
    """Stars would not tell one case from another."""
    folder = tree(
        [f"{kind}_of_{n}.nii.gz" for n in ("x1", "x2") for kind in ("b", "a")], ["drawn-x1.nii.gz", "drawn-x2.nii.gz"]
    )
    options = ReadOptions(channels=(("A", "a_of_*.nii.gz"), ("B", "b_of_*.nii.gz")), label="drawn-*")
    dataset = read_dataset(folder, options)
    assert [case.case for case in dataset.cases] == ["x1", "x2"]
    for case in dataset.cases:
        assert [one.path.name for one in case.images] == [f"{kind}_of_{case.case}.nii.gz" for kind in "ab"]
        assert case.label.path.name == f"drawn-{case.case}.nii.gz"


def test_what_cannot_be_decided_is_asked(tree):
    """One of two raters would be taken by chance."""
    folder = tree(
        ["a1/a1.nii.gz", "a2/a2.nii.gz"], [f"a{n}/a{n}_seg_{who}.nii.gz" for n in (1, 2) for who in ("anna", "ben")]
    )
    with pytest.raises(UserError, match="both label maps of a1: say which to take with --label"):
        read_dataset(folder)
    dataset = read_dataset(folder, ReadOptions(label="*_anna.nii.gz", channels=(("image", "a?.nii.gz"),)))
    assert [case.label.path.name for case in dataset.cases] == ["a1_seg_anna.nii.gz", "a2_seg_anna.nii.gz"]


def test_a_missing_channel_is_conditional(tree):
    """The channel would be dropped from all cases, or the case left out without a word."""
    images = [f"b{n}/b{n}_{kind}.nii.gz" for n in (1, 2, 3) for kind in ("t1", "t2")]
    folder = tree(images, [f"b{n}/b{n}_seg.nii.gz" for n in (1, 2, 3)])
    (folder / images[3]).unlink()
    dataset = read_dataset(folder)
    assert dataset.channels == ("t1", "t2")
    assert ["b2 has 1 channels" in problem.what for problem in fingerprint(dataset).problems] == [True]


def test_a_missing_label_and_a_spare_one_are_told(tree):
    """A case would vanish, or be trained on as if nothing were in it."""
    folder = tree([f"images/c{n}.mha" for n in (1, 2, 3)], [f"labels/c{n}.mha" for n in (1, 2, 4)])
    problems = {problem.file.split("/")[-1]: problem.what for problem in fingerprint(read_dataset(folder)).problems}
    assert problems == {"c3.mha": "image without its label", "c4.mha": "label without an image"}


def test_channels_inside_one_file_are_counted(tree, tmp_path):
    """A four-dimensional file would be one channel of slices."""
    folder = tmp_path / "4d"
    folder.mkdir()
    for name in ("a", "b"):
        nib.save(nib.Nifti1Image(np.random.default_rng(0).random((6, 7, 3, 2)), np.eye(4)), folder / f"{name}.nii.gz")
    dataset = read_dataset(folder)
    assert dataset.channels == ("channel 0", "channel 1") and load_case(dataset.cases[0]).images.shape == (6, 7, 3, 2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.arange(40), "40 different values"),
        (np.array([0, -1]), "the value -1"),
        (np.array([0, 0.5]), "no whole numbers"),
        (np.array([0, 0]), "nothing but 0"),
    ],
)
def test_values_that_are_no_classes_are_refused(tree, values, message):
    """A probability map would be cut into forty classes."""
    folder = tree(["s1.nrrd", "s2.nrrd"])
    volume = np.resize(values, (3, 8, 12)).astype(np.float32 if values.dtype.kind == "f" else np.int16)
    for name in ("s1", "s2"):
        sitk.WriteImage(sitk.GetImageFromArray(volume), str(folder / f"{name}_mask.nrrd"))
    with pytest.raises(UserError, match=message) as error:
        read_dataset(folder)
    assert "\n" not in str(error.value)


def test_gaps_between_values_are_kept(tree):
    """Label values would be renumbered in the output."""
    folder = tree(["s1.nrrd", "s2.nrrd"])
    for name, high in (("s1", 4), ("s2", 200)):
        volume = np.resize([0, 2, high], (3, 8, 12)).astype(np.uint8)
        sitk.WriteImage(sitk.GetImageFromArray(volume), str(folder / f"{name}_mask.nrrd"))
    dataset = read_dataset(folder)
    assert dataset.label_values == (0, 2, 4, 200)
    assert dataset.classes == ("background", "class 2", "class 4", "class 200")


def test_damaged_label_maps_are_left_to_the_inspection(tree):
    """The first damaged file would hide all further problems."""
    folder = tree([f"s{n}.nrrd" for n in (1, 2)], [f"s{n}_seg.nrrd" for n in (1, 2)])
    (folder / "s1_seg.nrrd").write_bytes(b"NRRD0004\n")
    (folder / "s2.nrrd").write_bytes(b"")
    assert len(fingerprint(read_dataset(folder)).problems) == 2


def test_options_that_a_description_makes_needless_are_refused(nnunet_set):
    """A pattern that is not used would seem to be."""
    with pytest.raises(UserError, match="leave out --label"):
        read_dataset(nnunet_set(), ReadOptions(label="*_seg.nii.gz"))


def test_pictures_beside_volumes_are_said_to_be_left_out(tree):
    """Previews would be taken for cases, or photographs be passed over without a word."""
    dataset = read_dataset(tree(["a1.nrrd", "a2.nrrd", "preview.png"], ["a1_seg.nrrd", "a2_seg.nrrd"]))
    assert len(dataset.cases) == 2 and "pictures left out, since there are volumes: 1" in dataset.notes


def test_an_image_and_a_label_map_of_one_name_are_both_watched(tree, tmp_path):
    """A changed image would be told as "up to date", since its label map's hash stood in its place."""
    cases = [f"p{n}/vol.nii.gz" for n in range(1, 5)]
    folder = tree([f"images/{name}" for name in cases], [f"labels/{name}" for name in cases])
    files = read_dataset(folder).cases[0].files
    assert {path.relative_to(folder).parts[0] for path in files.values()} == {"images", "labels"}
    store = prepare(folder, tmp_path / "store", size=(32, 32))
    assert all(len(case.files) == 2 and len(set(case.files.values())) == 2 for case in store.cases())
    image = sitk.ReadImage(str(folder / "images" / cases[0]))
    sitk.WriteImage(image + 1, str(folder / "images" / cases[0]))
    with pytest.raises(UserError, match="p1"):
        prepare(folder, tmp_path / "store", size=(32, 32))


def test_channels_of_one_name_in_folders_of_their_own_are_all_watched(tree):
    """One channel of three would be hashed, and the others be changed without a word."""
    folder = tree([f"{channel}/p{n}/vol.mha" for channel in ("t1", "t2") for n in (1, 2)])
    options = ReadOptions(channels=(("T1", "t1/*/vol.mha"), ("T2", "t2/*/vol.mha")))
    for case in read_dataset(folder, options).cases:
        assert len(case.files) == len(case.images)


def test_files_of_a_stack_keep_names_of_their_own(tmp_path):
    """Slices with one name in two folders would pass for one file."""
    paths = tuple(tmp_path / side / "masks" / "1.png" for side in ("a", "b"))
    assert PictureSource(paths).files == {"a/masks/1.png": paths[0], "b/masks/1.png": paths[1]}
    assert PictureSource((Path("1.png"),)).files == {"1.png": Path("1.png")}


def test_one_image_a_case_may_be_called_anything(tree):
    """A traceback would be all that the user of `p1_abc` and `p2_def` gets."""
    folder = tree(
        ["p1_abc.nii.gz", "p2_def.nii.gz", "p3_xyz.nii.gz"], [f"p{n}_seg.nii.gz" for n in (1, 2, 3)], size=(8, 12)
    )
    dataset = read_dataset(folder)
    assert len(dataset.cases) == 3 and dataset.channels == ("image",)
    assert all(case.label is not None and len(case.images) == 1 for case in dataset.cases)


def test_several_images_a_case_must_have_a_channel_in_common(tree):
    """A traceback would be all that the user gets, or one of two images be taken by chance."""
    folder = tree(
        [f"{case}_{own}.nii.gz" for case, own in (("p1", "a"), ("p1", "b"), ("p2", "c"), ("p3", "d"))],
        [f"p{n}_seg.nii.gz" for n in (1, 2, 3)],
    )
    with pytest.raises(UserError, match="no channel alike in half of the cases.*--channel") as caught:
        read_dataset(folder)
    assert "\n" not in str(caught.value)
