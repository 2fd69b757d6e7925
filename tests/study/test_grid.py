"""Which tasks a configuration is, and what a change of it makes anew."""

import json

import pytest
from fakes import TEXT, configuration

from synthmed.errors import UserError
from synthmed.study.folder import StudyFolder
from synthmed.study.grid import make_grid
from synthmed.study.sources import open_sources


@pytest.fixture(scope="module")
def grid_of(tmp_path_factory):
    """Return a function from a configuration's text to its grid; all share the phantom."""
    folder = StudyFolder(tmp_path_factory.mktemp("study"))

    def make(text=TEXT):
        one = configuration(text)
        return make_grid(one, open_sources(one, folder))

    return make


def kinds(grid) -> dict[str, int]:
    found: dict[str, int] = {}
    for task in grid.tasks.values():
        found[task.kind] = found.get(task.kind, 0) + 1
    return found


def test_a_generator_is_trained_once_for_all_that_share_it(grid_of):
    """A study would train the same generator for each amount, augmentation, seed and recipe: days instead of hours."""
    assert kinds(grid_of()) == {"store": 4, "generator": 4, "slices": 4, "trial": 2 * 2 * 2 * 3}
    more = (
        TEXT
        + "    augmentation: [true, false]\n  - {name: late, variant: base, added_patients: 3, recipe: {ratio: 1}}\n"
    )
    assert kinds(grid_of(more)) == {"store": 4, "generator": 4, "slices": 4, "trial": 2 * 2 * 2 * 6}
    cond = TEXT + "  - {name: cond, variant: cond, added_patients: 2, generator: {mask_kimg: 5}}\n"
    cond += "  - {name: deformed, variant: cond, added_patients: 2, masks: deformed, generator: {mask_kimg: 5}}\n"
    assert kinds(grid_of(cond)) == {"store": 4, "generator": 8, "slices": 12, "trial": 2 * 2 * 2 * 5}


def test_a_model_may_be_left_out_of_combinations(grid_of):
    """Forty real patients alone, to tell what twenty more gain, would cost a generator that nobody asked for."""
    grid = grid_of(TEXT.replace("variant: base", "variant: base\n    patients: 2"))
    assert kinds(grid) == {"store": 4, "generator": 2, "slices": 2, "trial": 2 * 2 * (3 + 1)}
    assert set(grid.trials) < set(grid_of().trials)
    assert {cell["combination"]["patients"] for cell in grid.trials.values() if cell["model"]["name"] == "base"} == {2}
    with pytest.raises(UserError, match=r"model base: no data set has 3 training patients: \[2, 4\]"):
        grid_of(TEXT.replace("variant: base", "variant: base\n    patients: 3"))


def test_larger_combinations_may_have_fewer_seeds(grid_of):
    """Repetitions are dearest where they tell least: with many patients trainings hardly differ."""
    grid = grid_of(TEXT.replace("seeds: 2", "seeds: 2\nfewer_seeds: {4: 1}"))
    assert set(grid.trials) < set(grid_of().trials)
    seeds = {2: set(), 4: set()}
    for cell in grid.trials.values():
        seeds[cell["combination"]["patients"]].add(cell["seed"])
    assert seeds == {2: {0, 1}, 4: {0}}
    few = grid_of(TEXT.replace("variant: base", "variant: base\n    seeds: 1"))
    assert set(few.trials) < set(grid_of().trials) and len(few.trials) == 2 * 2 * (2 + 2)
    with pytest.raises(UserError, match=r"fewer_seeds: no data set has 7 training patients"):
        grid_of(TEXT.replace("seeds: 2", "seeds: 2\nfewer_seeds: {7: 1}"))


def test_another_hospitals_generator_is_taught_by_patients_whom_no_unet_knows(grid_of):
    """A gain of more patients would be taken for one of synthesis, and each draw would pay for a generator."""
    other = "  - {name: other, variant: base, patients: 2, added_patients: 9, generator: {patients: others}}\n"
    grid = grid_of(TEXT + other)
    assert kinds(grid) == {"store": 5, "generator": 5, "slices": 5, "trial": 2 * 2 * 2 * 3 + 2 * 2}
    assert set(grid_of().trials) < set(grid.trials) and set(grid_of().tasks) < set(grid.tasks)
    store = next(task for task in grid.tasks.values() if "patients of no draw of 2" in task.words)
    taught = {entry[2] for entry in store.identity["cases"].values() if entry[1] == "train"}
    ours = {digest: cell for digest, cell in grid.trials.items() if cell["model"]["name"] == "other"}
    assert {cell["model"]["other_patients"] for cell in ours.values()} == {len(taught)} and taught
    for digest in ours:
        own = grid.tasks[grid.tasks[digest].of("store")]
        assert own is not store and not taught & {entry[2] for entry in own.identity["cases"].values()}
    everywhere = other.replace("patients: 2, ", "", 1)
    with pytest.raises(UserError, match=r"2 draws of 4 training patients leave no others to teach a generator"):
        grid_of(TEXT + everywhere)


def test_what_did_not_change_keeps_its_hash(grid_of):
    """A study that is widened by a model, a seed or an amount would run everything again."""
    before = set(grid_of().trials)
    for old, new in (
        ("seeds: 2", "seeds: 3"),
        ("added_patients: [2, 4]", "added_patients: [2, 4, 9]"),
        ("name: base", "name: unconditional"),
        ("name: fake", "name: other"),
    ):
        assert before <= set(grid_of(TEXT.replace(old, new)).trials), new
    assert set(grid_of(TEXT.replace("draws: 2", "draws: 1")).trials) < before
    for old, new in (
        ("seeds: 2", "seeds: 2\ntraining: {steps: 7}"),
        ("seeds: 2", "seeds: 2\nthreads: 2"),
        ("channels: 1}", "channels: 1, seed: 3}"),
        ("seeds: 2", "seeds: 2\nscoring: {split: test, flips: both}"),
    ):
        assert not before & set(grid_of(TEXT.replace(old, new)).trials), new
    kimg = grid_of(TEXT + "    generator: {kimg: 3}\n")
    same = [kimg.trials[digest] for digest in before & set(kimg.trials)]
    assert {cell["model"]["variant"] for cell in same} == {"real"} and len(same) == 8


def test_draws_are_nested_and_test_patients_are_never_trained_on(grid_of):
    """Fifteen patients that are not the ten and five others are another experiment; a leak is none at all."""
    for draw in range(2):
        stores = [
            next(task.identity["cases"] for task in grid_of().tasks.values() if words in task.words)
            for words in (f"slices of phantom, 2 patients, draw {draw}", f"slices of phantom, 4 patients, draw {draw}")
        ]
        two, four = ({entry[2] for entry in cases.values() if entry[1] == "train"} for cases in stores)
        tested = {entry[2] for entry in stores[0].values() if entry[1] == "test"}
        assert len(two) == 2 and len(four) == 4 and len(tested) == 2
        assert two < four and not tested & four


def test_hashes_are_the_same_in_every_process(grid_of):
    """A study that is resumed would find nothing of what it has done."""
    task = next(task for task in grid_of().tasks.values() if task.kind == "trial")
    assert json.loads(json.dumps(task.identity)) == task.identity


def test_the_same_trial_twice_is_refused(grid_of):
    """A model that is listed under two names would count as two independent ones."""
    with pytest.raises(UserError, match="are the same trial: take one out"):
        grid_of(TEXT + "  - {name: again, variant: real}\n")


def test_draws_that_are_the_same_patients_are_refused(grid_of):
    """Intervals would be taken over repetitions that are none."""
    with pytest.raises(UserError, match="draws 0 and 1 of 6 patients are the same of 6"):
        grid_of(TEXT.replace("patients: [2, 4]", "patients: [6]", 1))
    with pytest.raises(UserError, match="9 training patients are asked for, and there are 6"):
        grid_of(TEXT.replace("patients: [2, 4]", "patients: [9]", 1))
    with pytest.raises(UserError, match="no patient is left for test"):
        grid_of(TEXT.replace("[0.75, 0, 0.25]", "[1, 0, 0]"))


def test_a_search_without_patients_to_decide_it_is_refused(grid_of):
    """It would be said by each of its trials, after the generators were trained."""
    text = TEXT.replace("variant: base", "variant: base\n    recipe: {ratio: auto}")
    with pytest.raises(
        UserError, match="model base: ratio: auto needs 2 validation patients or more, and data set phantom has 0"
    ):
        grid_of(text)
    with_some = text.replace("[0.75, 0, 0.25]", "[0.5, 0.25, 0.25]").replace("\npatients: [2, 4]", "\npatients: 2")
    assert len(grid_of(with_some).trials) == 2 * 2 * 3
    with pytest.raises(UserError, match="ratio"):
        grid_of(text.replace("auto", "automatic"))
    with pytest.raises(UserError, match="a real model blends nothing"):
        grid_of(TEXT.replace("variant: real", "variant: real, recipe: {ratio: auto}"))
