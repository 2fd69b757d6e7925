"""Tests of synthmed.data.readers.nnunet: regions, the ignore label, and formats other than NIfTI."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from synthmed.data.inspect import fingerprint
from synthmed.data.prepare import prepare
from synthmed.data.readers import load_case, read_dataset, read_images, read_unlabelled
from synthmed.errors import UserError

RNG = np.random.default_rng(0)


def _describe(folder, **changes):
    path = folder / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_regions_are_classes_and_what_they_are_made_of(nnunet_set):
    """A BraTS set in nnU-Net's layout would be refused, or its regions be scored as classes."""
    folder = nnunet_set()
    labels = {"background": 0, "whole tumour": [1, 2, 3], "core": [2, 3], "enhancing": 3}
    _describe(folder, labels=labels, regions_class_order=[1, 2, 3])
    dataset = read_dataset(folder)
    assert dataset.classes == ("background", "whole tumour", "core", "enhancing")
    assert dataset.label_values == (0, 1, 2, 3) and dataset.ignore_value is None
    assert list(dataset.regions.items()) == [("whole tumour", (1, 2, 3)), ("core", (2, 3)), ("enhancing", (3,))]


def test_regions_may_come_in_any_order_of_values(nnunet_set):
    """BraTS' own values are 1 for the necrosis, 2 for the oedema, 3 for what enhances."""
    folder = nnunet_set()
    labels = {"background": 0, "whole": [1, 2, 3], "core": [1, 3], "enhancing": [3]}
    _describe(folder, labels=labels, regions_class_order=[2, 1, 3])
    dataset = read_dataset(folder)
    assert dict(zip(dataset.label_values, dataset.classes, strict=True)) == {
        0: "background",
        1: "core",
        2: "whole",
        3: "enhancing",
    }


def test_a_value_without_a_region_of_its_own_is_kept(nnunet_set):
    """Voxels with this value would be told to be no class."""
    folder = nnunet_set()
    _describe(folder, labels={"background": 0, "organ": [1, 2]}, regions_class_order=[1])
    dataset = read_dataset(folder)
    assert dataset.classes == ("background", "organ", "label 2") and dataset.label_values == (0, 1, 2)
    assert not fingerprint(dataset).problems


@pytest.mark.parametrize("regions", [False, True])
def test_the_ignore_label_is_no_class(nnunet_set, tmp_path, regions):
    """Scribbles' unlabelled voxels would be learnt as a class, or the set be refused."""
    folder = nnunet_set()
    if regions:
        _describe(folder, labels={"background": 0, "organ": [1], "ignore": 2}, regions_class_order=[1])
    else:
        _describe(folder, labels={"background": 0, "organ": 1, "ignore": 2})
    dataset = read_dataset(folder)
    assert dataset.classes == ("background", "organ") and dataset.label_values == (0, 1) and dataset.ignore_value == 2
    store = prepare(dataset, tmp_path / "store")
    assert set(np.unique(store.labels(np.arange(len(store))))) == {0, 1, 255}


def _converted(folder, ending):
    for file in [*folder.glob("*/*.nii.gz")]:
        sitk.WriteImage(sitk.ReadImage(str(file)), str(file).removesuffix(".nii.gz") + ending)
        file.unlink()
    _describe(folder, file_ending=ending)


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".nii"])
def test_other_formats_hold_the_same_cases(nnunet_set, ending):
    """Sets that nnU-Net reads with SimpleITK would have to be converted."""
    plain = nnunet_set(codes="LPS", name="plain")
    other = nnunet_set(codes="LPS", name="other")
    _converted(other, ending)
    one, two = fingerprint(read_dataset(plain)), fingerprint(read_dataset(other))
    assert not two.problems and [case.hash for case in one.cases] == [case.hash for case in two.cases]
    for first, second in zip(one.cases, two.cases, strict=True):
        np.testing.assert_allclose(first.geometry.affine, second.geometry.affine, atol=1e-5)
        assert first.orientation == second.orientation and first.voxels == second.voxels


def _pictures(tmp_path, ending, channels):
    for part in ("imagesTr", "labelsTr"):
        (tmp_path / "set" / part).mkdir(parents=True)
    for number in range(3):
        pixels = RNG.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "set" / "imagesTr" / f"p_{number}_0000{ending}")
        mask = np.zeros((12, 16), np.uint8)
        mask[3:6, 4:8] = 1
        Image.fromarray(mask).save(tmp_path / "set" / "labelsTr" / f"p_{number}{ending}")
    content = {
        "channel_names": dict(zip("012", channels, strict=True)),
        "labels": {"background": 0, "vessel": 1},
        "file_ending": ending,
    }
    (tmp_path / "set" / "dataset.json").write_text(json.dumps(content))
    return tmp_path / "set"


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tif"])
def test_pictures_in_colour_are_three_channels_in_one_file(tmp_path, ending):
    """nnU-Net's 2D sets of photographs would not be read."""
    dataset = read_dataset(_pictures(tmp_path, ending, ["red", "green", "blue"]))
    assert dataset.modalities == ("picture",) * 3 and not fingerprint(dataset).problems
    assert load_case(dataset.cases[0]).images.shape == (16, 12, 1, 3)


def test_spacing_beside_tiff_files_is_taken(tmp_path):
    """Voxels of a microscope would be taken for cubes of unknown size."""
    folder = tmp_path / "set"
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
        volume = sitk.GetImageFromArray(np.ones((4, 12, 16), np.uint8))
        name = "a_0000" if part == "imagesTr" else "a"
        sitk.WriteImage(volume, str(folder / part / f"{name}.tif"))
        (folder / part / "a.json").write_text('{"spacing": [7.6, 0.7, 0.5]}')
    content = {"channel_names": {"0": "stain"}, "labels": {"background": 0, "nucleus": 1}, "file_ending": ".tif"}
    (folder / "dataset.json").write_text(json.dumps(content))
    found = fingerprint(read_dataset(folder))
    assert not found.problems and found.cases[0].geometry.zooms == (0.5, 0.7, 7.6)
    assert found.cases[0].geometry.xyzt_units[0] == "mm"
    (folder / "imagesTr" / "a.json").write_text('{"spacing": 3}')
    with pytest.raises(UserError, match="a.json must hold"):
        read_dataset(folder)


def test_images_of_every_format_are_taken_without_labels(nnunet_set, tmp_path):
    """`prepare --unlabelled-for` and `segment predict` would take NIfTI files alone."""
    folder = nnunet_set(cases=3)
    store = prepare(read_dataset(folder), tmp_path / "store")
    _converted(folder, ".nrrd")
    (folder / "dataset.json").unlink()
    cases = read_unlabelled(folder, store.manifest).cases
    assert [case.case for case in cases] == ["case_0", "case_1", "case_2"] and all(
        len(case.images) == 2 for case in cases
    )
    assert [case.case for case in read_images(folder / "imagesTr", ("T1", "T2")).cases] == [
        "case_0",
        "case_1",
        "case_2",
    ]
    assert load_case(read_images(folder / "imagesTr", ("T1", "T2")).cases[2]).images.shape[-1] == 2


def test_a_gap_in_the_numbers_of_channels_is_conditional(nnunet_set):
    """Channel 2 would be read as channel 1, and every slice be wrong without a word."""
    folder = nnunet_set(channels=3)
    (folder / "imagesTr" / "case_1_0001.nii.gz").unlink()
    (folder / "imagesTr" / "case_2_0000.nii.gz").unlink()
    problems = fingerprint(read_dataset(folder)).problems
    assert [Path(one.file).name for one in problems] == ["case_1_0001.nii.gz", "case_2_0000.nii.gz"]
    (folder / "dataset.json").unlink()
    with pytest.raises(UserError, match="case_1_0001.nii.gz is missing"):
        read_images(folder / "imagesTr", ("T1", "T2"))


def test_photographs_with_numbers_are_no_channels(tmp_path):
    """Two photographs would be read as two channels of one."""
    for number in (1, 2):
        Image.fromarray(np.full((6, 8), number, np.uint8)).save(tmp_path / f"IMG_{number:04d}.png")
    assert [case.case for case in read_images(tmp_path, ("grey", "alpha")).cases] == ["IMG_0001", "IMG_0002"]


@pytest.mark.parametrize("spacing", ["[NaN, 1, 1]", "[1, Infinity, 1]", "[1, 0, 1]"])
def test_an_impossible_spacing_beside_tiff_is_conditional(tmp_path, spacing):
    """A prepared store would hold slices of nothing."""
    folder = _pictures(tmp_path, ".tif", ["red", "green", "blue"])
    for image in (folder / "imagesTr").glob("*.tif"):
        image.with_name(image.name.replace("_0000.tif", ".json")).write_text(f'{{"spacing": {spacing}}}')
    with pytest.raises(UserError, match="spacing that is not above 0"):
        read_dataset(folder)


def test_a_set_without_images_is_revealed_by_its_layout(nnunet_set, decathlon_set):
    """Users of the Decathlon's layout would look for files of nnU-Net's names."""
    folder = nnunet_set()
    for image in (folder / "imagesTr").iterdir():
        image.rename(image.with_name(image.name.replace("_000", "_")))
    with pytest.raises(UserError, match="imagesTr holds no .nii.gz image named CASE_0000.nii.gz"):
        read_dataset(folder)
    folder = decathlon_set()
    content = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**content, "training": []}))
    with pytest.raises(UserError, match='"training" in dataset.json lists none'):
        read_dataset(folder)
