"""The Python API: every name is there, light to import and silent, and the examples of its docstrings run."""

import doctest
import subprocess
import sys

import numpy as np
import pytest

import synthmed as sm
from synthmed.errors import LeakError, UserError

ROOT_NAMES = [name for name in sm.__all__ if name not in ("layers", "metrics", "models")]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """A folder with what the examples name: a phantom, a store, a run of one step and a set drawn from it."""
    folder = tmp_path_factory.mktemp("api")
    sm.write_phantom(folder / "phantom", cases=8, size=32, seed=1)
    split = (0.5, 0.25, 0.25)
    sm.prepare(folder / "phantom", folder / "store", size=(32, 32), split=split)
    sm.train_generator(folder / "store", variant="base", kimg=0.016, batch=8, out=folder / "run")
    sm.generate(folder / "run", folder / "drawn", n=12, format="npz")
    return folder


def examples() -> list[doctest.DocTest]:
    """Return the examples of every name of the API, of its public methods, and of `sm.metrics`."""
    finder = doctest.DocTestFinder(recurse=False)
    places = [(name, getattr(sm, name)) for name in ROOT_NAMES]
    places += [(f"metrics.{name}", getattr(sm.metrics, name)) for name in ("dice", "hd95", "surface_dice")]
    places += [("Store.blend", sm.Store.blend), ("Store.torch", sm.Store.torch)]
    places += [("Generator.sample", sm.Generator.sample)]
    return [test for name, thing in places for test in finder.find(thing, name, globs={"sm": sm}) if test.examples]


@pytest.mark.slow
@pytest.mark.parametrize("example", examples(), ids=lambda test: test.name)
def test_examples_run(example, workshop, monkeypatch):
    """A user who types an example of the documentation would get something else, or an error."""
    monkeypatch.chdir(workshop)
    results = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example)
    assert results.failed == 0


def test_functions_of_the_api_have_an_example():
    """A name without an example is one that a user has to guess about."""
    documented = {test.name for test in examples()}
    assert {name for name in ROOT_NAMES if name[0].islower()} <= documented


def test_the_import_is_light():
    """Every script, and each completion of a command, would wait for TensorFlow."""
    code = "import sys, synthmed as sm; dir(sm); print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert {"tensorflow", "keras", "numpy"}.isdisjoint(loaded)


@pytest.mark.slow
def test_calls_print_nothing(workshop):
    """Dozens of lines of TensorFlow's would stand around a notebook's result."""
    code = "import synthmed as sm; batch = sm.load_generator('hippocampus').sample(n=1); sm.open_store('store')"
    done = subprocess.run([sys.executable, "-c", code], cwd=workshop, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_unknown_names_are_no_part_of_it():
    """A misspelt name would be found to be something else."""
    with pytest.raises(AttributeError, match="no attribute 'prepair'"):
        _ = sm.prepair


@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0, np.inf])
def test_blended_batches_have_the_asked_ratio_and_repeat(workshop, ratio):
    """A user would train on another share of synthetic slices than asked, or could not repeat a training."""
    store = sm.open_store(workshop / "store")
    first, again = (next(iter(store.blend(workshop / "drawn", ratio=ratio, batch=12, seed=3))) for _ in range(2))
    images, labels = (np.asarray(part) for part in first)
    assert images.shape == (12, 32, 32, 2) and labels.shape == (12, 32, 32)
    np.testing.assert_array_equal(images, np.asarray(again[0]))
    real = store.images(store.indices("train"))
    own = sum(bool((image == real).all(axis=(1, 2, 3)).any()) for image in images)
    assert own == {0.0: 12, 0.5: 8, 1.0: 6, np.inf: 0}[ratio]


def test_a_leak_is_refused_by_blending(workshop, monkeypatch):
    """Scores on the store's test patients would be too good, and nobody would know why."""
    store = sm.open_store(workshop / "store")
    monkeypatch.setattr(type(store), "held_out_hashes", property(lambda self: set(self.training_hashes)))
    with pytest.raises(LeakError, match="drawn"):
        store.blend(workshop / "drawn")


def test_wrong_arguments_are_user_errors(workshop, tmp_path):
    """A notebook would show a traceback of ours where one line says what to change."""
    for call in (
        lambda: sm.open_store(tmp_path),
        lambda: sm.load_generator("nobody"),
        lambda: sm.load_generator("hippocampus").sample(n=0),
        lambda: sm.generate("hippocampus", tmp_path / "out", n=1, format="dicom"),
        lambda: sm.train_unet(workshop / "store", stepps=3, out=tmp_path / "unet"),
        lambda: sm.train_generator(workshop / "store", variant="base", kimgs=3, out=tmp_path / "run"),
        lambda: sm.open_store(workshop / "store").blend(ratio=-1.0, synthetic=workshop / "drawn"),
    ):
        with pytest.raises(UserError):
            call()
    assert not any(tmp_path.iterdir())
