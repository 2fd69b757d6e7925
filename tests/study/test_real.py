"""The real thing, as small as it can be."""

import os
import signal
import time
from collections import Counter

import numpy as np
import pytest
from fakes import table

from synthmed.data.synthetic import SyntheticSet
from synthmed.files import read_json
from synthmed.segmentation.run import SegmentationRun
from synthmed.study.config import parse_configuration, preset_text, read_configuration
from synthmed.study.runner import run_study
from synthmed.study.work import prune
from synthmed.training.run import Run

psutil = pytest.importorskip("psutil")
TINY = """
name: tiny
data: [{name: phantom, phantom: {cases: 7, size: 32, channels: 1}, size: 32x32, split: [0.44, 0.28, 0.28]}]
patients: [2]
models:
  - {name: real, variant: real}
  - {name: copies, variant: duplicated, added_patients: 1.5}
  - name: deformed
    variant: cond
    added_patients: [1, 2]
    masks: deformed
    recipe: {pretrain: 0.5}
    augmentation: false
    generator: &generator
      {kimg: 0.016, mask_kimg: 0.008, settings: {channel_base: 256, channel_max: 16, batch: 4}}
  - {name: searched, variant: cond, added_patients: 2, masks: deformed, recipe: {ratio: auto}, generator: *generator}
  - name: given
    variant: base
    added_patients: 1
    generator: {patients: others, kimg: 0.016, settings: {channel_base: 256, channel_max: 16, batch: 4}}
  - {name: judged, variant: cond, added_patients: 2, masks: deformed, recipe: {filter: 0.5}, generator: *generator}
training: {steps: 2, batch: 4, width: 4, levels: 2}
scoring: {tolerance: null}
"""


@pytest.mark.long
def test_every_part_sees_the_patients_of_its_trial_alone(tmp_path):
    """A gain would be that of patients whom the real-only U-Net was not given: the question's answer would be wrong."""
    summary = run_study(parse_configuration(TINY, "tiny.yaml"), tmp_path, workers=1)
    # What so short a training draws is noise, and no judge keeps any of it.
    assert (summary.finished, summary.trials, len(summary.failed)) == (6, 7, 1)
    assert all("leaves none of the 32 slices" in cause for cause in summary.failed.values())
    stores = [set(read_json(path)["training_patients"]) for path in tmp_path.glob("stores/*/task.json")]
    others, taught = sorted(stores, key=len)
    assert (len(others), len(taught)) == (1, 2) and not others & taught
    known = {"base": others, "cond": taught}
    generators = [Run.open(path) for path in tmp_path.glob("generators/*/run")]
    assert {run.options.variant: set(run.data.training_patients) for run in generators} == known
    sets = [SyntheticSet.open(path).training_hashes for path in tmp_path.glob("slices/*/set")]
    assert sorted(sets, key=len) == [others, taught]
    runs = [SegmentationRun.open(path) for path in tmp_path.glob("*/*/unet")]
    assert len(runs) == 7
    assert all(set(run.record.training_patients) == taught for run in runs)
    for path in tmp_path.glob("trials/*/trial.json"):
        trial, run = read_json(path), SegmentationRun.open(path.parent / "unet")
        expected = {0: (0, 0.0), 1.5: (24, 24 / 32), 1: (16, 16 / 32), 2: (32, 32 / 32)}
        if trial["model"]["name"] == "searched":
            tried = [one["ratio"] for one in trial["search"]["trials"] if one["round"] == 1]
            assert tried == [0, 0.25, 0.5, 1, 2] and trial["ratio"] in tried
            assert trial["ratio"] == trial["search"]["ratio"] == run.record.options.ratio
            assert not (path.parent / "search").exists()
        else:
            assert (trial["slices"], trial["ratio"]) == expected[trial["model"]["added_patients"]]
        assert (run.record.options.augmentation.geometry > 0) == trial["model"]["augmentation"]
        assert all(np.isfinite(list(trial["hours"].values()))) and trial["hours"]["training"] > 0
        assert len({row["case"] for row in trial["scores"]}) == 2
    assert prune(tmp_path, everything=True).size > 0
    assert run_study(parse_configuration(TINY, "tiny.yaml"), tmp_path).done == 0


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_quick_ends_the_same_when_workers_are_killed(tmp_path):
    """Two workers of the shipped preset are killed in the middle of trainings; no score may change by a digit."""
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    start = time.process_time(), time.monotonic()
    summary = run_study(read_configuration("quick"), undisturbed, workers=2)
    print(f"quick: {time.monotonic() - start[1]:.0f} s")
    assert (summary.finished, summary.trials) == (8, 8)
    killed: list[int] = []

    def kill(done, total, note):
        # A process at work is the child of a worker, which is ended with it.
        at_work = [
            child
            for child in psutil.Process().children(recursive=True)
            if "synthmed.study.process" in " ".join(_command_line(child))
        ]
        if at_work and done in (2, 6) and len(killed) < (1 if done == 2 else 2):
            worker = at_work[0].ppid()
            if worker != os.getpid():
                killed.append(worker)
                os.kill(worker, signal.SIGKILL)

    summary = run_study(read_configuration("quick"), disturbed, workers=2, progress=kill)
    assert len(killed) == 2
    assert (summary.finished, summary.failed) == (8, {})
    assert table(disturbed) == table(undisturbed)
    assert Counter(path.parent.name for path in disturbed.glob("*/*/task.json")) == Counter(
        path.parent.name for path in undisturbed.glob("*/*/task.json")
    )


def _command_line(process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_the_preset_shows_how_it_is_started():
    """Somebody who opens the file would not know what to do with it."""
    assert "synthmed study run quick --out quick" in preset_text("quick")
