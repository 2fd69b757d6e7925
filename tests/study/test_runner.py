"""A study that is disturbed in every way ends as an undisturbed one; its tasks take milliseconds here."""

import errno
import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from fakes import TEXT, configuration, done, faking, table

from synthmed.errors import UserError
from synthmed.files import read_json, write_json
from synthmed.study.folder import PROGRESS, STUDY, StudyFolder
from synthmed.study.runner import run_study

TRIALS, TASKS = 24, 36


@pytest.fixture(scope="module")
def undisturbed(scheduler, tmp_path_factory) -> Path:
    """A study that nothing happened to."""
    out = tmp_path_factory.mktemp("undisturbed") / "study"
    summary = run_study(configuration(), out, scheduler=scheduler, work=faking())
    assert (summary.trials, summary.finished, summary.failed, summary.done) == (TRIALS, TRIALS, {}, TASKS)
    return out


def test_every_task_is_done_once_and_those_that_others_need_come_first(undisturbed):
    """A trial would begin before its generator is trained, or a generator be trained for each of its trials."""
    tasks = done(undisturbed)
    assert Counter(kind for _, kind, _ in tasks) == {"store": 4, "generator": 4, "slices": 4, "trial": TRIALS}
    study = read_json(undisturbed / STUDY)
    order = [digest for _, _, digest in tasks]
    for digest, needs in study["tasks"].items():
        assert all(order.index(need) < order.index(digest) for _, need in needs)
    assert set(study["trials"]) == {path.parent.name for path in undisturbed.glob("trials/*/trial.json")}
    assert read_json(undisturbed / PROGRESS)["trials"] == {"all": TRIALS, "finished": TRIALS, "failed": 0}
    assert not any(undisturbed.glob("work/*"))


def test_a_finished_study_does_nothing(undisturbed):
    """Hours of training would be spent again on what is known; no worker is even started."""
    before = done(undisturbed), table(undisturbed)
    summary = run_study(configuration(), undisturbed, scheduler="tcp://nobody:1", work=faking())
    assert (summary.finished, summary.done) == (TRIALS, 0)
    assert (done(undisturbed), table(undisturbed)) == before


def test_a_wider_study_runs_what_is_new_and_a_renamed_model_nothing(scheduler, tmp_path):
    """Another seed would cost as much as the whole study; a report would show a name that nobody uses any more."""
    small = TEXT.replace("patients: [2, 4]", "patients: 2", 1).replace("draws: 2", "draws: 1")
    run_study(configuration(small), tmp_path, scheduler=scheduler, work=faking())
    assert len(done(tmp_path)) == 9
    wider = small.replace("seeds: 2", "seeds: 3")
    run_study(configuration(wider), tmp_path, scheduler=scheduler, work=faking())
    assert [kind for _, kind, _ in done(tmp_path)[9:]] == ["trial"] * 3
    renamed = wider.replace("name: base", "name: unconditional")
    assert run_study(configuration(renamed), tmp_path, scheduler="tcp://nobody:1", work=faking()).done == 0
    assert {trial["model"]["name"] for trial in table(tmp_path)} == {"real", "unconditional"}
    run_study(configuration(small), tmp_path, scheduler="tcp://nobody:1", work=faking())
    assert len(read_json(tmp_path / STUDY)["trials"]) == 6 and len(table(tmp_path)) == 9


def test_what_fails_is_listed_with_its_cause_and_the_rest_goes_on(scheduler, tmp_path, undisturbed):
    """One trial that crashes at night would cost all that was to come after it."""
    said: list[str] = []
    fail = {
        "draw 1: real, seed 1": ValueError("no\nsuch thing"),
        "generator base of phantom, 2 patients, draw 0": UserError("the loss is not finite: lower the rate"),
    }
    summary = run_study(configuration(), tmp_path, scheduler=scheduler, work=faking(fail=fail), say=said.append)
    assert (summary.finished, len(summary.failed)) == (TRIALS - 2 - 4, 6)
    causes = Counter(summary.failed.values())
    assert causes == {
        "ValueError: no such thing": 2,
        "generator base of phantom, 2 patients, draw 0 failed: the loss is not finite: lower the rate": 4,
    }
    assert len(said) == 6 and any("2 patients, draw 1: real, seed 1: ValueError" in line for line in said)
    failed = [read_json(path) for path in tmp_path.glob("trials/*/failed.json")]
    assert len(failed) == 6
    assert {one["status"] for one in failed} == {"failed"} and all(one["model"]["name"] for one in failed)
    assert read_json(tmp_path / PROGRESS)["trials"] == {"all": TRIALS, "finished": 18, "failed": 6}
    again = run_study(configuration(), tmp_path, scheduler=scheduler, work=faking())
    assert (again.finished, again.done) == (TRIALS, 8)
    assert not list(tmp_path.glob("trials/*/failed.json"))
    assert table(tmp_path) == table(undisturbed)


def test_workers_that_are_killed_change_nothing(tmp_path, undisturbed):
    """A machine of a cluster that is lost would take the study with it, or be counted twice."""
    killed: list[int] = []

    def kill(finished, total, note):
        # The process that began a task last is in the middle of it.
        begun = done(tmp_path)
        if begun and finished in (3, 20) and len(killed) < 2 and int(begun[-1][0]) not in killed:
            killed.append(int(begun[-1][0]))
            os.kill(killed[-1], signal.SIGKILL)

    summary = run_study(configuration(), tmp_path, workers=2, work=faking(seconds=0.2), progress=kill)
    assert killed, "nobody was killed"
    assert (summary.trials, summary.finished, summary.failed) == (TRIALS, TRIALS, {})
    assert table(tmp_path) == table(undisturbed)
    begun = Counter(digest for _, _, digest in done(tmp_path))
    assert TASKS <= sum(begun.values()) <= TASKS + len(killed), "finished tasks were begun again"


def test_a_full_disk_stops_the_study_in_one_line_and_it_goes_on(scheduler, tmp_path, undisturbed):
    """Every task would fail one after the other, and be listed as if it were wrong."""
    full = {"draw 1: base +4, seed 0": OSError(errno.ENOSPC, "No space left on device")}
    with pytest.raises(UserError, match="is full .* of 24 trials are finished and saved.*prune"):
        run_study(configuration(), tmp_path, scheduler=scheduler, work=faking(fail=full))
    assert not list(tmp_path.glob("trials/*/failed.json"))
    assert read_json(tmp_path / PROGRESS)["status"] == "stopped"
    assert run_study(configuration(), tmp_path, scheduler=scheduler, work=faking()).finished == TRIALS
    assert table(tmp_path) == table(undisturbed)


def test_a_lost_scheduler_is_conditional_and_the_study_goes_on_with_another(scheduler, tmp_path, undisturbed):
    """The study would wait for ever for a cluster that was shut down."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, processes=False, threads_per_worker=1, dashboard_address=":0", silence_logs=50
    ) as other:

        def lose(finished, total, note):
            if finished == 5:
                other.close()

        with pytest.raises(UserError, match="the scheduler .* is lost .* start it again and give the same command"):
            run_study(configuration(), tmp_path, scheduler=other.scheduler_address, work=faking(), progress=lose)
    assert 5 <= len(done(tmp_path)) < TASKS
    assert run_study(configuration(), tmp_path, scheduler=scheduler, work=faking()).finished == TRIALS
    assert table(tmp_path) == table(undisturbed)


def test_a_study_that_is_interrupted_goes_on(scheduler, tmp_path, undisturbed):
    """Ctrl-C would cost what was finished, or leave workers at work for nobody."""

    def interrupt(finished, total, note):
        if finished == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(configuration(), tmp_path, scheduler=scheduler, work=faking(), progress=interrupt)
    assert not (tmp_path / "running.json").exists()
    assert run_study(configuration(), tmp_path, scheduler=scheduler, work=faking()).finished == TRIALS
    assert table(tmp_path) == table(undisturbed)


def test_two_studies_on_one_folder_are_refused_with_whose_it_is(tmp_path, elsewhere):
    """Two commands would write into each other's trials; a dead one must not lock its heir out."""
    folder = StudyFolder(tmp_path)
    with elsewhere(folder.locked) as token:
        assert folder.wanted_by(token) and not folder.wanted_by("another")
        with pytest.raises(UserError, match=rf"being worked on by process {os.getpid()} on \S+ since 20"):
            run_study(configuration(), tmp_path)
    assert not folder.wanted_by(token)
    # What a process leaves that was killed.
    write_json(tmp_path / "running.json", {"pid": 1, "host": "gone", "since": "1999", "token": "old"})
    with folder.locked() as token:
        assert folder.wanted_by(token) and not folder.wanted_by("old")


def test_folders_of_something_else_and_of_older_versions_are_refused(tmp_path):
    """Somebody's folder would be filled, or trials of two formats meet in one table."""
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(UserError, match="holds something else than a study"):
        run_study(configuration(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    write_json(tmp_path / STUDY, {"format": "synthmed-study", "format_version": 0, "synthmed": "0.0.1"})
    with pytest.raises(UserError, match=r"study of synthmed 0.0.1 \(format 0, this one writes 1\): go on with that"):
        run_study(configuration(), tmp_path)
    with pytest.raises(UserError, match="is a file"):
        run_study(configuration(), tmp_path / "thesis.txt")


def test_data_that_disappears_or_changes_between_runs(scheduler, tmp_path):
    """A traceback of a reader would not say what is missing; changed images would be mixed with old scores."""
    from synthmed.data.phantom import write_phantom

    text = TEXT.replace("phantom: {cases: 8, size: 16, channels: 1}", f"path: {tmp_path / 'mri'}")
    text = text.replace("patients: [2, 4]", "patients: 2", 1).replace("draws: 2", "draws: 1")
    write_phantom(tmp_path / "mri", cases=8, size=16, channels=1)
    assert run_study(configuration(text), tmp_path / "out", scheduler=scheduler, work=faking()).done == 9
    (tmp_path / "mri").rename(tmp_path / "moved")
    with pytest.raises(UserError, match="data set phantom: the folder .*mri is not there .*--data phantom=FOLDER"):
        run_study(configuration(text), tmp_path / "out", scheduler=scheduler, work=faking())
    (tmp_path / "moved").rename(tmp_path / "mri")
    (tmp_path / "mri").rename(tmp_path / "before")
    write_phantom(tmp_path / "mri", cases=8, size=16, channels=1, seed=1)
    assert run_study(configuration(text), tmp_path / "out", scheduler=scheduler, work=faking()).done == 9


def test_nobody_at_the_address_is_conditional_in_one_line(tmp_path, monkeypatch):
    """A cluster that is not up would look like a fault of the study."""
    from synthmed.study import runner as workers

    monkeypatch.setattr(workers, "CONNECT_SECONDS", 1)
    with pytest.raises(UserError, match="no Dask scheduler answers at tcp://127.0.0.1:1"):
        run_study(configuration(), tmp_path, scheduler="tcp://127.0.0.1:1", work=faking())
    with pytest.raises(UserError, match="leave out one"):
        run_study(configuration(), tmp_path, scheduler="tcp://127.0.0.1:1", workers=2, work=faking())
