"""Generated patients: as many slices as a real case, where it lies, and from one draw."""

import nibabel
import numpy as np
import pytest

from synthmed.data.synthetic import SyntheticSet
from synthmed.errors import UserError
from synthmed.generation.drawing import Shard, conditioning_along
from synthmed.generation.generate import generate
from synthmed.generation.generator import RunGenerator


@pytest.fixture
def sweeping(painter, tiny_bundle):
    """A generator that paints what it is told: its images hold the position, its labels the classes."""

    class Sweeping(type(painter())):
        def _draw(self, seed, psi, mask=None, position=None, shown=None):
            drawn = super()._draw(seed, psi)
            drawn["image"][..., 0] = 2 * position[:, None, None] - 1
            drawn["mask"] = np.zeros((self.batch, *self.info.size), np.uint8)
            for index in (1, 2):
                drawn["mask"][:, 4 * index : 4 * index + 3, 5] = (index * shown[:, index - 1])[:, None]
            return drawn

    return Sweeping(tiny_bundle("base", conditional=True).info)


@pytest.mark.parametrize("fmt", ["nnunet", "npz"])
def test_a_volume_has_the_slices_and_the_place_of_a_case(sweeping, tmp_path, fmt):
    """A 3D network would be trained on patients of wrong length, in wrong order, or beside their labels."""
    folder = generate(sweeping, tmp_path / "set", n=5, unit="volume", format=fmt, seed=2)
    found = SyntheticSet.open(folder)
    cases = sorted(set(found.cases))
    assert len(cases) == 5 and len(found) == sum(found.cases.count(case) for case in cases)
    images, labels = found.images(), found.labels()
    for case in cases:
        mine = np.array([name == case for name in found.cases])
        sidecar = found.sidecars[int(np.argmax(mine))]
        template = sweeping.info.templates[sidecar["template"]["index"]]
        assert mine.sum() == sidecar["slices"] == template.slices and sidecar["unit"] == "volume"
        position = (np.arange(template.slices) + 0.5) / template.slices
        assert np.allclose(images[mine][:, 0, 0, 0], 2 * position - 1, atol=2e-5)
        assert np.allclose(images[mine][:, 7, 9, 1], images[mine][0, 7, 9, 1], atol=2e-5), "one code for all slices"
        if fmt == "npz":
            continue
        image = nibabel.load(folder / "imagesTr" / f"{case}_0000.nii.gz")
        label = nibabel.load(folder / "labelsTr" / f"{case}.nii.gz")
        assert np.allclose(image.affine, label.affine) and image.shape == label.shape
        affine = np.asarray(template.affine)
        for number in range(template.slices):
            # The template lies at the middle slice of its case.
            world = affine @ [5, 7, number - template.slices // 2, 1]
            voxel = tuple(np.rint(np.linalg.inv(image.affine) @ world).astype(int)[:3])
            value = (2 * position[number] - 1) * template.scale[0] + template.offset[0]
            assert np.isclose(image.get_fdata()[voxel], value, atol=1e-3)
            assert label.get_fdata()[voxel] == labels[mine][number, 5, 7]


def test_patients_depend_on_their_seed_alone(sweeping, tmp_path):
    """Shards on several machines would not be the set of one machine."""
    options = {"n": 5, "unit": "volume", "format": "npz", "seed": 2}
    whole = SyntheticSet.open(generate(sweeping, tmp_path / "whole", **options))
    parts = [
        SyntheticSet.open(generate(sweeping, tmp_path / f"part{part}", shard=Shard(part, 2), **options))
        for part in (1, 2)
    ]
    assert [case for part in parts for case in part.cases] == whole.cases
    assert np.array_equal(np.concatenate([part.images() for part in parts]), whole.images())


def test_classes_come_and_go_as_in_training(sweeping):
    """Organs would flicker from slice to slice, or be where no training patient has them."""
    info = sweeping.info
    told = [conditioning_along(seed, 16, info) for seed in range(100)]
    assert all(np.allclose(one["position"], (np.arange(16) + 0.5) / 16) for one in told)
    shown = np.stack([one["shown"] for one in told])
    shares = info.attributes.shares((np.arange(16) + 0.5) / 16, 3)
    assert np.abs(shown.mean(axis=0) - shares).max() < 5 * 0.5 / np.sqrt(100)
    assert (np.abs(np.diff(shown, axis=1)).sum(axis=1) <= 2).all(), "each class is one run of slices"


def test_required_classes_are_somewhere_in_each_volume(sweeping, tmp_path):
    """Rare lesions could not be oversampled in volumes."""
    assert any(conditioning_along(seed, 3, sweeping.info)["shown"][:, 1].max() == 0 for seed in range(5))
    found = SyntheticSet.open(
        generate(sweeping, tmp_path / "set", n=5, unit="volume", format="npz", require=("posterior",))
    )
    labels = found.labels()
    for case in set(found.cases):
        assert (labels[[name == case for name in found.cases]] == 2).any()
    assert found.sidecars[0]["required_classes"] == ["posterior"]


def test_what_cannot_be_a_volume_is_conditional(painter, sweeping, tmp_path):
    """Slices that do not belong together would be stacked and taken for a patient."""
    volume = {"n": 1, "unit": "volume"}
    with pytest.raises(UserError, match="position=true"):
        generate(painter(), tmp_path / "set", **volume)
    with pytest.raises(UserError, match="png"):
        generate(sweeping, tmp_path / "set", format="png", **volume)
    with pytest.raises(UserError, match="--masks"):
        generate(sweeping, tmp_path / "set", masks=tmp_path, **volume)
    old = [template.model_copy(update={"slices": None}) for template in sweeping.info.templates]
    sweeping.info = sweeping.info.model_copy(update={"templates": old})
    with pytest.raises(UserError, match="how many slices"):
        generate(sweeping, tmp_path / "set", **volume)
    assert not any(tmp_path.iterdir())


def test_a_network_draws_a_patient_from_one_code(tiny_bundle, tmp_path, eager):
    """The slices of a patient would come from several codes, or all be the same."""
    generator = RunGenerator(tiny_bundle("cond", conditional=True), batch=4)
    found = SyntheticSet.open(generate(generator, tmp_path / "set", n=1, unit="volume", format="npz", seed=4))
    seeds = np.full(len(found), 4 * 10**9)
    drawn = generator.sample_seeds(seeds, 1.0, None, conditioning_along(int(seeds[0]), len(found), generator.info))
    assert np.array_equal(drawn.labels, found.labels())
    assert np.array_equal(np.clip(drawn.images, -1, 1), found.images())
    assert len({image.tobytes() for image in found.images()}) == len(found)
