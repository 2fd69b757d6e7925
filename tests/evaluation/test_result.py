"""What is stored of an evaluation, today's files and those of earlier versions."""

import json
from pathlib import Path

import pytest

from synthmed.evaluation.memorisation.assessment import Finding
from synthmed.evaluation.result import Estimate, EvaluationSummary, Figure, read_evaluation_summary

SHIPPED = Path(__file__).parents[2] / "saved_models" / "hippocampus" / "1" / "assets.extra" / "bundle.json"
BASELINE = Estimate(value=1.0, low=0.9, high=1.1)


def figure(value, low=None, high=None, **changes):
    """Return an invented figure."""
    estimate = Estimate(value=value, low=low, high=high)
    given = {"estimate": estimate, "real_baseline": BASELINE, "better": "lower"} | changes
    return Figure(name="kid", label="KID", definition="What it is.", **given)


@pytest.mark.parametrize(
    ("found", "standing"),
    [
        (figure(1.3, 1.1, 1.5), "like real"),
        (figure(1.3, 1.2, 1.4), "worse than real"),
        (figure(1.3, 1.2, 1.4, better="higher"), "better than real"),
        (figure(0.5, 0.4, 0.6), "better than real"),
        (figure(0.5, 0.4, 0.6, better="real_baseline"), "unlike real"),
        (figure(1.3, real_baseline=Estimate(value=1.0)), "no interval"),
        (figure(1.0, real_baseline=Estimate(value=1.0)), "like real"),
        (figure(1.3, real_baseline=None), "no baseline"),
    ],
)
def test_a_figure_is_apart_from_real_slices_only_where_the_intervals_do_not_meet(found, standing):
    """Noise would be reported as a difference, or a difference as noise."""
    assert found.standing == standing


def test_files_of_earlier_versions_are_read(tmp_path):
    """A run that was evaluated before the keys were renamed would lose its figures and its audit."""
    old = figure(1.3, better="real_baseline").model_dump()
    old["floor"], old["better"] = old.pop("real_baseline"), "floor"
    assert Figure.model_validate_json(json.dumps(old)) == figure(1.3, better="real_baseline")
    summarised = {"label": "KID", "estimate": {"value": 1.3}, "floor": BASELINE.model_dump(), "reads": "like real"}
    summary = {"figures": [summarised], "samples": 9, "held_out": 8, "patients": 7, "model_hash": "ab"}
    (tmp_path / "evaluation.json").write_text(json.dumps(summary))
    read = read_evaluation_summary(tmp_path / "evaluation.json", "ab")
    assert read.figures[0].real_baseline == BASELINE
    assert EvaluationSummary.model_validate_json(read.model_dump_json()) == read
    finding = {name: 0 for name in ("near_distance", "usual_distance", "far_distance", "near_ratio", "copy_below")}
    finding |= {"space": "images", "label": "Images", "definition": "d", "expected": {"value": 0.01}, "compared": 9}
    finding |= dict.fromkeys(("nearest", "distance", "ratio", "near", "copies"), [])
    assert Finding.model_validate({**finding, "passed": True, "words": "no copy"}).summary == "no copy"


@pytest.mark.skipif(not SHIPPED.is_file(), reason="needs a checkout")
def test_the_shipped_generator_still_has_its_figures():
    """The model card of the generator that ships would say that nobody evaluated it."""
    found = EvaluationSummary.model_validate(json.loads(SHIPPED.read_text(encoding="utf-8"))["evaluation"])
    assert found.figures and all(one.real_baseline is not None for one in found.figures)
