"""Oversampling rare classes: only cases that show them, each still named and drawn by its seed."""

import json

import numpy as np
import pytest

from synthmed.data.attributes import AttributeTable
from synthmed.data.synthetic import SyntheticSet
from synthmed.errors import UserError
from synthmed.generation.drawing import Requirement, Shard, conditioning_rows, retry_seeds
from synthmed.generation.generate import generate
from synthmed.generation.generator import MAX_SEED

TABLE = AttributeTable(steps=4, positions=(0, 1, 2), shown=((), (1,), (1, 2)), counts=(6, 3, 1))


def _rare(painter, tiny_info, *, share=0.25, conditioning=()):
    """A generator that shows class 2 in a share of its slices, or, where it is conditioned, where it is asked to."""

    class Rare(type(painter())):
        asked: list = []

        def _draw(self, seed, psi, mask=None, position=None, shown=None):
            drawn = super()._draw(seed, psi)
            drawn["mask"] = np.minimum(drawn["mask"], 1)
            for place, one in enumerate(seed):
                if np.random.default_rng(int(one)).random() < share:
                    drawn["mask"][place, 3:5, 3:5] = 2
            self.asked.append(shown)
            return drawn

    info = tiny_info("base")
    return Rare(info.model_copy(update={"conditioning": conditioning, "attributes": TABLE}) if conditioning else info)


def test_every_case_shows_what_is_required(painter, tiny_info, tmp_path):
    """A user would train a lesion detector on a set with few lesions, or could not draw the same set elsewhere."""
    generator = _rare(painter, tiny_info)
    whole = generate(generator, tmp_path / "whole", n=21, format="npz", seed=3, require=("posterior",))
    found = SyntheticSet.open(whole)
    assert ((found.labels() == 2).any(axis=(1, 2))).all()
    cases, images = [], []
    for part in (1, 2, 3):
        options = {"n": 21, "format": "npz", "seed": 3, "require": ("2",), "shard": Shard(part, 3)}
        parts = SyntheticSet.open(generate(generator, tmp_path / f"part{part}", **options))
        cases += parts.cases
        images.append(parts.images())
    assert cases == found.cases and np.array_equal(np.concatenate(images), found.images())
    tries = [sidecar["tries"] for sidecar in found.sidecars]
    for sidecar in found.sidecars:
        assert sidecar["required_classes"] == ["posterior"]
        assert (sidecar["draw_seed"] == sidecar["seed"]) == (sidecar["tries"] == 1)
    assert 1 in tries and max(tries) > 1
    again = generator.sample_seeds(np.array([sidecar["draw_seed"] for sidecar in found.sidecars]), 1.0)
    assert np.array_equal(again.labels, found.labels())
    generated = json.loads((whole / "dataset_description.json").read_text())["GeneratedBy"][0]
    assert generated["RequiredClasses"] == ["posterior"] and generated["TriesThatShowedThem"] == 21
    assert generated["Tries"] == sum(tries)


def test_a_told_generator_is_asked_for_such_slices_alone(painter, tiny_info, tmp_path):
    """A generator that knows the classes would be asked for anything, and most of its work thrown away."""
    generator = _rare(painter, tiny_info, share=0.5, conditioning=("position", "shown"))
    generate(generator, tmp_path / "set", n=9, format="npz", require=("posterior", "anterior"))
    assert all((shown == 1).all() for shown in generator.asked)
    sidecar = SyntheticSet.open(tmp_path / "set").sidecars[0]
    assert sidecar["conditioning"] == {"position": 0.625, "shown": ["anterior", "posterior"]}


def test_what_never_shows_is_conditional(painter, tiny_info, tmp_path, monkeypatch):
    """The command would never end."""
    monkeypatch.setattr("synthmed.generation.drawing.MOST_TRIES", 17)
    for told, mend in (((), "--set shown=true"), (("shown",), "train it longer")):
        with pytest.raises(UserError, match=f"tiny-base showed posterior in 0 of 17 tries: .*{mend}"):
            generate(
                _rare(painter, tiny_info, share=0.0, conditioning=told),
                tmp_path / "set",
                n=3,
                require=("posterior",),
            )
        assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("wanted", ["tumour", "0", "3", "background", "-1", ""])
def test_classes_that_are_none_are_told(tiny_info, wanted):
    """A mistyped class would be looked for in vain."""
    with pytest.raises(UserError, match=r"draws anterior, posterior \(or 1 to 2\)"):
        Requirement.parse(("anterior", wanted), tiny_info("base"))


def test_classes_that_no_training_slice_has_together_are_told(painter, tiny_info, tmp_path):
    """The generator would be asked for what it cannot know."""
    generator = _rare(painter, tiny_info, conditioning=("shown",))
    apart = AttributeTable(steps=4, positions=(0, 1), shown=((1,), (2,)), counts=(1, 1))
    generator.info = generator.info.model_copy(update={"attributes": apart})
    with pytest.raises(UserError, match="no training slice"):
        generate(generator, tmp_path / "set", n=3, require=("1", "2"))


def test_tries_never_share_a_seed_with_an_item():
    """Two cases of a set could be the same image."""
    seeds = retry_seeds(5, 1, 1000)
    assert len(set(seeds.tolist())) == 999 and seeds.min() > MAX_SEED * 10**9 + 10**9
    assert np.array_equal(seeds[98:198], retry_seeds(5, 99, 199))
    assert not set(seeds.tolist()) & set(retry_seeds(6, 1, 1000).tolist())


def test_rows_follow_from_the_seed():
    """A case would be told other things in another shard."""
    seeds = np.arange(40)
    together, one = conditioning_rows(seeds, TABLE, classes=3), conditioning_rows(seeds[17:18], TABLE, classes=3)
    assert all(np.array_equal(together[name][17:18], one[name]) for name in one)
