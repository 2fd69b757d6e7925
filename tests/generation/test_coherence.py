"""The figures by which generated patients are compared with real ones."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from synthmed.data.synthetic import SyntheticSet
from synthmed.errors import UserError
from synthmed.generation.coherence import coherence, generated_volumes, real_volumes, summary
from synthmed.generation.generate import generate


def test_figures_of_a_volume_that_can_be_counted_by_hand():
    """Incoherent volumes would be taken for coherent ones."""
    labels = np.zeros((6, 8, 8), np.uint8)
    labels[1, 1:3, 1:3] = labels[2, 1:3, 2:4] = 1
    labels[4, 6, 6] = 1
    labels[5, 0, 0] = 3
    found = coherence(labels, 4)
    # Pairs 0-1, 1-2, 2-3, 3-4 and 4-5 show class 1; in 1-2 two of four pixels overlap.
    assert np.isclose(found.dice[0], (0 + 2 * 2 / 8 + 0 + 0 + 0) / 5) and np.isnan(found.dice[1])
    assert found.dice[2] == 0
    assert found.components.tolist() == [2, 0, 1] and found.runs.tolist() == [2, 0, 1]
    means = summary([labels, np.zeros_like(labels)], 4)
    assert means["shown"].tolist() == [0.5, 0, 0.5] and means["components"][0] == 2 and np.isnan(means["runs"][1])


def test_shuffled_slices_are_less_coherent(store):
    """The measure could not tell a patient from a pile of slices."""
    classes = len(store.classes)
    own = summary(real_volumes(store), classes)
    rng = np.random.default_rng(0)
    pile = summary((labels[rng.permutation(len(labels))] for labels in real_volumes(store)), classes)
    assert own["dice"][0] > pile["dice"][0] and own["components"][0] < pile["components"][0]
    assert own["runs"][0] < pile["runs"][0]


def test_the_table_beside_real_patients(store, tiny_bundle, painter, tmp_path, capsys):
    """The documented command would fail, or compare slices of different patients."""
    info = tiny_bundle("base", conditional=True).info.model_copy(update={"classes": store.classes})
    generator = type(painter())(info)
    folder = generate(generator, tmp_path / "set", n=2, unit="volume", format="npz")
    volumes = list(generated_volumes(SyntheticSet.open(folder)))
    slices = [template.slices for template in info.templates]
    assert len(volumes) == 2 and all(len(volume) in slices for volume in volumes)
    script = Path(__file__).parents[2] / "examples" / "volume_coherence.py"
    runpy.run_path(str(script))["main"]([str(store.path), str(folder)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 4 * (len(store.classes) - 1) and str(folder) in lines[-1]
    generate(painter(), tmp_path / "slices", n=1, format="npz")
    with pytest.raises(UserError, match="--unit volume"):
        list(generated_volumes(SyntheticSet.open(tmp_path / "slices")))
