"""Label maps that are deformed ones of the training patients."""

import shutil

import numpy as np
import pytest
from scipy import ndimage

from synthmed.data.store import Store
from synthmed.data.synthetic import SyntheticSet
from synthmed.errors import UserError
from synthmed.generation.generate import generate
from synthmed.generation.generator import RunGenerator
from synthmed.generation.masks import DeformedMasks, deformed
from synthmed.training.options import TrainOptions, resolve
from synthmed.training.run import DataSummary, Run


@pytest.fixture
def generator(store, tmp_path, monkeypatch):
    """A generator of a `cond` run of which nothing is needed but where its store was; its images are grey."""
    from synthmed.generation.info import GeneratorInfo

    shutil.copytree(store.path, tmp_path / "store")
    data = DataSummary.of_store(Store.open(tmp_path / "store"))
    run = Run.create(tmp_path / "run", resolve(TrainOptions(variant="cond"), size=data.size), data)
    fields = {name: getattr(data, name) for name in GeneratorInfo.model_fields if name in DataSummary.model_fields}
    info = GeneratorInfo(name="run", variant="cond", z_dim=4, kimg=1, model_hash="0", options={}, **fields)

    class Grey(RunGenerator):
        def __init__(self, path):
            self.info, self.batch, self.run = info, 8, path

        def _draw(self, seed, psi, mask, **told):
            self.told = told
            return {"image": np.zeros((*mask.shape, 2), np.float32), "mask": mask, "template": seed % 2}

    monkeypatch.chdir(tmp_path)
    return Grey(run.path), Grey(None)


def test_masks_are_deformed_ones_of_training_slices(generator, store, tmp_path):
    """A set would repeat patients' masks as they are, or show none of them any more."""
    generate(generator[0], tmp_path / "set", n=24, format="npz", masks="deformed", seed=1)
    found = SyntheticSet.open(tmp_path / "set")
    own = {label.tobytes() for label in store.labels(np.arange(len(store))) if label.any()}
    labels = found.labels()
    assert not own & {label.tobytes() for label in labels} and len({label.tobytes() for label in labels}) > 12
    assert set(np.unique(labels)) <= set(range(len(store.classes)))
    assert all(sidecar["mask_source"].startswith("deformed:") for sidecar in found.sidecars)
    text = "".join(path.read_text() for path in (tmp_path / "set").glob("*.json"))
    assert not any(case.case in text for case in store.cases())


def test_a_mask_depends_on_its_seed_alone(generator):
    """Another shard would draw other masks."""
    source = DeformedMasks(generator[0])
    together, alone = source.take(0, np.arange(7)), source.take(5, np.array([5]))
    assert np.array_equal(together.maps[5], alone.maps[0])
    assert together.conditioning["position"][5] == alone.conditioning["position"][0]


def test_required_classes_are_in_every_deformed_mask(generator, store, tmp_path):
    """Rare lesions could not be oversampled from real masks."""
    name = store.classes[-1]
    generate(generator[0], tmp_path / "set", n=9, format="npz", masks="deformed", require=(name,))
    labels = SyntheticSet.open(tmp_path / "set").labels()
    assert (labels == len(store.classes) - 1).any(axis=(1, 2)).all()


def test_without_the_store_it_is_refused(generator, painter, tmp_path):
    """Masks of other patients would be deformed, or an export would be thought to hold masks."""
    ours, exported = generator
    for other in (exported, painter("cond")):
        with pytest.raises(UserError, match="no exported generator"):
            generate(other, tmp_path / "set", n=1, masks="deformed")
    with pytest.raises(UserError, match="takes no --masks"):
        generate(painter("base"), tmp_path / "set", n=1, masks="deformed")
    manifest = tmp_path / "store" / "manifest.json"
    hash_ = ours.run and Store.open(tmp_path / "store").content_hash
    manifest.write_text(manifest.read_text().replace(hash_, "0" * 64))
    with pytest.raises(UserError, match="not the store any more"):
        generate(ours, tmp_path / "set", n=1, masks="deformed")
    shutil.move(tmp_path / "store", tmp_path / "elsewhere")
    with pytest.raises(UserError, match="put it back"):
        generate(ours, tmp_path / "set", n=1, masks="deformed")


def test_a_deformation_is_smooth_and_moderate():
    """Organs would be torn to pieces, or vanish."""
    disc = (np.hypot(*np.indices((64, 96)) - np.array([[[32]], [[48]]])) < 16).astype(np.uint8)
    areas = []
    for seed in range(50):
        label = deformed(disc, np.random.default_rng(seed))
        assert label.dtype == np.uint8 and ndimage.label(label)[1] == 1
        areas.append(label.sum() / disc.sum())
        centre = np.array(ndimage.center_of_mass(label)) - [32, 48]
        assert (np.abs(centre) < 0.2 * np.array([64, 96])).all()
    assert 0.5 < min(areas) < 0.9 and 1.1 < max(areas) < 2.0
