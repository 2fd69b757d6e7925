"""What a study gives back."""

import pytest
from fakes import TEXT, configuration, done, faking, table

from synthmed.errors import UserError
from synthmed.study.folder import StudyFolder
from synthmed.study.runner import run_study
from synthmed.study.work import prune

SMALL = TEXT.replace("patients: [2, 4]", "patients: 2", 1).replace("draws: 2", "draws: 1")


def kinds(out) -> dict[str, int]:
    return {path.name: len(list(path.iterdir())) for path in sorted(out.iterdir()) if path.name.endswith("s")}


def test_what_finished_trials_were_made_of_goes_and_scores_stay(scheduler, tmp_path):
    """A disk would be full of slices that nobody reads again, or hours of scores be lost with them."""
    run_study(configuration(SMALL), tmp_path, scheduler=scheduler, work=faking())
    trial = next(tmp_path.glob("trials/*"))
    (trial / "unet" / "checkpoints").mkdir(parents=True)
    (trial / "unet" / "checkpoints" / "arrays.npz").write_bytes(b"0" * 1000)
    (trial / "unet" / "last.keras").write_bytes(b"0")
    (tmp_path / "work" / "of-an-earlier-configuration").mkdir(parents=True)
    before = table(tmp_path)
    promised = prune(tmp_path, dry_run=True)
    assert promised.size > 1000 and all(path.exists() for path in promised.folders)
    pruned = prune(tmp_path)
    assert pruned == promised and not any(path.exists() for path in pruned.folders)
    assert table(tmp_path) == before and (trial / "unet" / "last.keras").is_file()
    left = kinds(tmp_path)
    assert (left["stores"], left["slices"], left["generators"], left["trials"]) == (0, 0, 1, 6)
    prune(tmp_path, everything=True)
    assert table(tmp_path) == before and kinds(tmp_path)["generators"] == 0 and not (trial / "unet").exists()


def test_a_finished_study_stays_finished_and_a_wider_one_makes_again_what_it_needs(scheduler, tmp_path):
    """Whoever pruned could not add a seed, or would pay for the whole study to do so."""
    run_study(configuration(SMALL), tmp_path, scheduler=scheduler, work=faking())
    prune(tmp_path)
    assert run_study(configuration(SMALL), tmp_path, scheduler="tcp://nobody:1", work=faking()).done == 0
    before = len(done(tmp_path))
    run_study(configuration(SMALL.replace("seeds: 2", "seeds: 3")), tmp_path, scheduler=scheduler, work=faking())
    again = [kind for _, kind, _ in done(tmp_path)[before:]]
    assert sorted(again) == ["slices", "store", "trial", "trial", "trial"]


def test_what_an_unfinished_trial_needs_stays(scheduler, tmp_path):
    """A prune in the middle of a study would throw away the generator that took the night."""
    fail = {"base +4, seed 1": ValueError("x")}
    run_study(configuration(SMALL), tmp_path, scheduler=scheduler, work=faking(fail=fail))
    pruned = prune(tmp_path, everything=True)
    assert pruned.needed == 4
    left = kinds(tmp_path)
    assert (left["stores"], left["slices"], left["generators"]) == (1, 1, 1)


def test_a_study_that_runs_and_a_folder_that_is_none_are_refused(tmp_path, elsewhere):
    """Files would be removed under the hands of those who read them, or in somebody's folder."""
    with pytest.raises(UserError, match="is no study"):
        prune(tmp_path)
    folder = StudyFolder(tmp_path)
    folder.write({}, {}, {})
    with elsewhere(folder.locked), pytest.raises(UserError, match="being worked on"):
        prune(tmp_path)
