"""Writing whole sets: what does not change an item, what is refused, what is left behind."""

import json

import nibabel
import numpy as np
import pytest

from synthmed.data.synthetic import SyntheticSet
from synthmed.errors import UserError
from synthmed.files import first_free_folder
from synthmed.generation.drawing import Shard
from synthmed.generation.generate import default_folders, generate


def test_items_depend_on_their_seed_alone(painter, tmp_path):
    """`generate --n 1000000` over many machines would not be the set that one machine draws."""
    whole = SyntheticSet.open(generate(painter(), tmp_path / "whole", n=21, format="npz", seed=3))
    few = SyntheticSet.open(generate(painter(), tmp_path / "few", n=5, format="npz", seed=3))
    assert few.cases == whole.cases[:5]
    assert np.array_equal(few.images(), whole.images()[:5])
    cases, images = [], []
    for part in (1, 2, 3):
        folder = generate(painter(), tmp_path / f"part{part}", n=21, format="npz", seed=3, shard=Shard(part, 3))
        cases += SyntheticSet.open(folder).cases
        images.append(SyntheticSet.open(folder).images())
    assert cases == whole.cases
    assert np.array_equal(np.concatenate(images), whole.images())


@pytest.mark.parametrize("fmt", ["nnunet", "npz", "png"])
@pytest.mark.parametrize("variant", ["base", "mask"])
def test_reading_back_gives_what_was_drawn(painter, tmp_path, fmt, variant):
    """A segmentation network would be trained on other images or labels than the generator drew."""
    generator = painter(variant)
    found = SyntheticSet.open(generate(generator, tmp_path / "set", n=3, format=fmt, seed=5))
    drawn = generator.sample_seeds(np.array([5 * 10**9 + item for item in range(3)]), 1.0)
    assert np.array_equal(found.labels(), drawn.labels) and found.labels().dtype == np.uint8
    assert found.classes == ("background", "anterior", "posterior")
    assert found.training_hashes == {"aa" * 32, "bb" * 32}
    if variant == "mask":
        with pytest.raises(UserError, match="label maps alone"):
            found.images()
        return
    assert np.abs(drawn.images).max() > 1 and np.abs(found.images()).max() <= 1 + 1e-5
    assert np.allclose(found.images(), np.clip(drawn.images, -1, 1), atol=2e-5)
    assert np.array_equal(found.images(np.array([2, 0])), found.images()[[2, 0]])


def test_nnunet_files_agree_in_geometry_and_units(painter, tmp_path):
    """A set would load with labels beside the anatomy, or with intensities that no scanner gives."""
    generator = painter()
    folder = generate(generator, tmp_path / "set", n=4, format="nnunet", seed=1)
    drawn = generator.sample_seeds(np.array([10**9 + item for item in range(4)]), 1.0)
    for item, label_path in enumerate(sorted((folder / "labelsTr").iterdir())):
        case = label_path.name.removesuffix(".nii.gz")
        label = nibabel.load(label_path)
        template = generator.info.templates[drawn.templates[item]]
        for channel in range(2):
            image = nibabel.load(folder / "imagesTr" / f"{case}_{channel:04d}.nii.gz")
            assert image.shape == label.shape and sorted(image.shape) == [1, 32, 48]
            assert np.allclose(image.affine, label.affine)
            header = image.header
            assert (int(header["qform_code"]), int(header["sform_code"])) == (1, 2)
            assert header.get_xyzt_units() == ("mm", "sec")
            # Voxel by voxel through world coordinates: where the drawn slice says row i, column j lies.
            for row, column in ((0, 0), (31, 0), (5, 47)):
                world = np.asarray(template.affine) @ [row, column, 0, 1]
                voxel = np.rint(np.linalg.inv(image.affine) @ world).astype(int)[:3]
                value = (
                    np.clip(drawn.images[item, row, column, channel], -1, 1) * template.scale[channel]
                    + template.offset[channel]
                )
                assert np.isclose(image.get_fdata()[tuple(voxel)], value, rtol=1e-5, atol=1e-4)
                assert label.get_fdata()[tuple(voxel)] == drawn.labels[item, row, column]


def test_set_says_that_it_is_synthetic(painter, tmp_path):
    """Nobody could tell later which data were synthetic, from which model and seed."""
    folder = generate(painter(), tmp_path / "set", n=2, seed=7, psi=0.5)
    sidecar = json.loads((folder / "sidecars" / "SYN_7000000001.json").read_text())
    assert sidecar["synthetic"] is True and sidecar["model_hash"] == "cc" * 32
    assert (sidecar["seed"], sidecar["psi"], sidecar["mask_source"]) == (7000000001, 0.5, "generated")
    description = json.loads((folder / "dataset_description.json").read_text())
    assert description["GeneratedBy"][0]["Name"] == "synthmed"
    assert description["License"] == "CC0"
    splits = json.loads((folder / "splits_final.json").read_text())
    assert all(fold["val"] == [] and len(fold["train"]) == 2 for fold in splits)
    dataset = json.loads((folder / "dataset.json").read_text())
    assert dataset["labels"] == {"background": 0, "anterior": 1, "posterior": 2}
    assert dataset["channel_names"] == {"0": "T1", "1": "FLAIR"} and dataset["numTraining"] == 2
    assert "somebody" not in "".join(path.read_text() for path in folder.rglob("*.json"))


def test_given_masks_are_used_in_order(painter, tmp_path):
    """A user's own label maps would come back with images of other maps."""
    maps = np.random.default_rng(0).integers(0, 3, (3, 32, 48)).astype(np.uint8)
    (tmp_path / "maps").mkdir()
    np.savez(tmp_path / "maps" / "a.npz", label=maps[0])
    nibabel.save(nibabel.Nifti1Image(maps[1][..., None], np.eye(4)), tmp_path / "maps" / "b.nii.gz")
    nibabel.save(nibabel.Nifti1Image(maps[2][None], np.eye(4)), tmp_path / "maps" / "c.nii.gz")
    folder = generate(painter("cond"), tmp_path / "set", n=7, format="npz", masks=tmp_path / "maps")
    found = SyntheticSet.open(folder)
    assert np.array_equal(found.labels(), maps[[0, 1, 2, 0, 1, 2, 0]])
    assert found.sidecars[0]["mask_source"].startswith("given:") and "a.npz" not in str(found.sidecars[0])


@pytest.mark.parametrize("fmt", ["nnunet", "png", "npz"])
def test_the_label_maps_of_a_generated_set_stand_as_they_were_drawn(painter, tmp_path, fmt):
    """Mirrored or turned on its side, a label map is not what the generator was taught, and images would not fit it."""
    first = generate(painter("cond"), tmp_path / "first", n=4, format=fmt)
    again = generate(painter("cond"), tmp_path / "again", n=4, format="npz", masks=first, seed=1)
    assert np.array_equal(SyntheticSet.open(again).labels(), SyntheticSet.open(first).labels())


def _wrong_size(folder):
    np.savez(folder / "a.npz", label=np.zeros((32, 32), np.uint8))


def _wrong_class(folder):
    np.savez(folder / "a.npz", label=np.full((32, 48), 3, np.uint8))


def _damaged(folder):
    (folder / "a.nii.gz").write_bytes(b"\x1f\x8b broken")


def _wrong_key(folder):
    np.savez(folder / "a.npz", other=np.zeros((32, 48)))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_wrong_size, "32x32"),
        (_wrong_class, "class indices"),
        (_damaged, "truncated or damaged"),
        (_wrong_key, "named label"),
        (lambda folder: None, "no label map"),
    ],
)
def test_masks_that_do_not_fit_are_told(painter, tmp_path, spoil, message):
    """The generator would draw nonsense from them, or a traceback would be all that the user gets."""
    (tmp_path / "maps").mkdir()
    spoil(tmp_path / "maps")
    with pytest.raises(UserError, match=message):
        generate(painter("cond"), tmp_path / "set", n=2, masks=tmp_path / "maps")
    assert not (tmp_path / "set").exists()


def test_masks_for_a_generator_that_takes_none_are_told(painter, tmp_path):
    """The masks would be ignored without a word."""
    with pytest.raises(UserError, match="takes no --masks"):
        generate(painter("base"), tmp_path / "set", n=2, masks=tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "--n"),
        ({"n": 1, "psi": 1.5}, "--psi"),
        ({"n": 1, "psi": float("nan")}, "--psi"),
        ({"n": 1, "format": "dicom"}, "--format"),
        ({"n": 1, "batch": 0}, "--batch"),
        ({"n": 10**9 + 1}, "one seed names"),
    ],
)
def test_impossible_requests_are_told(painter, tmp_path, options, message):
    """The user would wait for a set that cannot be."""
    with pytest.raises(UserError, match=message):
        generate(painter(), tmp_path / "set", **options)
    assert not any(tmp_path.iterdir())


def test_nothing_is_left_behind_by_a_failure(painter, tmp_path):
    """A half-written set would be taken for a whole one."""

    class Failing(type(painter())):
        def _draw(self, **inputs):
            if self.calls == 2:
                raise RuntimeError("out of memory")
            return super()._draw(**inputs)

    with pytest.raises(RuntimeError):
        generate(Failing(painter().info), tmp_path / "deep" / "set", n=100)
    assert not any(tmp_path.iterdir())


def test_not_finite_images_are_refused(painter, tmp_path):
    """A damaged generator would fill a training set with NaN."""

    class Nan(type(painter())):
        def _draw(self, **inputs):
            drawn = super()._draw(**inputs)
            drawn["image"][0, 0, 0, 0] = np.nan
            return drawn

    with pytest.raises(UserError, match="not finite"):
        generate(Nan(painter().info), tmp_path / "set", n=2)


def test_an_existing_set_is_never_overwritten(painter, tmp_path, monkeypatch):
    """A second run would destroy the first one's set."""
    monkeypatch.chdir(tmp_path)
    for name in ("generated", "generated-2"):
        with first_free_folder(default_folders()) as target:
            assert str(target) == name
            generate(painter(), target, n=1, format="npz")
    with pytest.raises(UserError, match="exists already"):
        generate(painter(), tmp_path / "generated", n=1)
