"""What is said of studies whose true effects are known."""

import json

import numpy as np
import pytest

from synthmed.errors import UserError
from synthmed.study.statistics.analyse import analyse, headlines, number, pool, rank, span
from synthmed.study.statistics.significance import (
    MixedSummary,
    Observation,
    mixed_summary,
    rank_models,
    signed_rank,
)
from synthmed.study.statistics.tables import Block, make_table, read_study

FEW = 400
"""Resamples: enough for these effects."""
ONE = (("hippocampus", 10),)
SIX = tuple((dataset, patients) for dataset in ("brain", "heart", "spleen") for patients in (5, 10))


def cells(found, *, patients: int = 10):
    """Return the cells of one combination by label."""
    return {cell.model: cell for cell in found.cells if cell.patients == patients}


def test_gain_and_harm_are_reported(tmp_path, invented):
    """The few sentences that people read must give the true gain, and which amount harms."""
    found = analyse(invented.write_study(tmp_path, invented.paper_effect), resamples=FEW)
    first, second = headlines(found.cells)
    gain = cells(found)["base +20"].gain
    assert (first.block, first.verdict, first.cell.model) == (Block("hippocampus", 10), "gain", "base +20")
    assert first.harmed == ["base +40"]
    assert (second.block, second.verdict) == (Block("hippocampus", 5), "no evidence")
    assert "gain in 1, no evidence in 1" in found.answer
    assert (
        f"base +20 on hippocampus, 10 patients, {number(100 * gain.value)} Dice points [{span(gain)}]" in found.answer
    )
    assert gain.low < 0.02 < gain.high
    assert {name: cell.verdict for name, cell in cells(found).items()} == {
        "real": None,
        **{"base +10": "gain", "base +20": "gain", "base +40": "harm"},
        **{"cond +10": "no evidence", "cond +20": "no evidence", "cond +40": "no evidence"},
    }


def test_harm_alone_is_reported(tmp_path, invented):
    """A study in which everything harms must not end in the least harm as its result."""
    found = analyse(invented.write_study(tmp_path, lambda d, n, m, added: -added / 1000, combinations=ONE))
    (only,) = headlines(found.cells)
    assert only.verdict == "harm" and only.cell.added_patients == 40 and len(only.harmed) == 6
    assert f"{number(100 * only.cell.gain.value)} Dice points" in found.answer and only.cell.gain.value < -0.03


def test_no_evidence_is_reported(tmp_path, invented):
    """Praise of the best of many models that all do nothing is how such studies go wrong."""
    found = analyse(invented.write_study(tmp_path, invented.no_effect), resamples=FEW)
    assert {cell.verdict for cell in found.cells} <= {None, "no evidence", "hint of gain", "hint of harm"}
    assert {one.verdict for one in headlines(found.cells)}.isdisjoint({"gain", "harm"})
    assert "2 combinations are too few" in found.answer and "Largest gain" not in found.answer


def test_one_training_is_no_proof(tmp_path, invented):
    """With one seed an interval is over patients alone; a lucky training would be sold as a gain."""
    study = invented.write_study(tmp_path, invented.paper_effect, combinations=ONE, draws=1, seeds=1)
    found = analyse(study, resamples=FEW)
    assert cells(found)["base +20"].verdict == "hint of gain"
    assert headlines(found.cells)[0].verdict == "hint of gain" and "no proof" in found.answer
    assert any("trained once" in note for note in found.notes)
    assert cells(found)["base +20"].spread is None


def test_copies_take_the_credit(tmp_path, invented):
    """Where copies of real slices do as much, synthetic ones deserve no credit."""
    models = [invented.MODELS[0], invented.model("copies", "duplicated", 20.0), invented.MODELS[2]]
    effect = {"real": 0.0, "copies": 0.02, "base": 0.02}
    study = invented.write_study(tmp_path, lambda d, n, name, a: effect[name], combinations=ONE, models=models)
    (only,) = headlines(analyse(study, resamples=FEW).cells)
    assert only.cell.model == "base +20" and only.cell.over_copies.low < 0 < only.cell.over_copies.high


def test_knowledge_of_other_patients_is_named(tmp_path, invented):
    """The gain of a generator that knows fifty more patients would be read as one of synthesis from five."""
    models = [invented.MODELS[0], {**invented.MODELS[1], "name": "given", "other_patients": 50}, invented.MODELS[2]]
    found = analyse(invented.write_study(tmp_path, invented.no_effect, combinations=ONE, models=models), resamples=FEW)
    (note,) = [note for note in found.notes if "other patients with" in note]
    assert all(part in note for part in ("hippocampus", "50 other patients", "generator of given "))


def test_a_class_that_patients_lack_counts_for_the_others(tmp_path, invented):
    """Patients without a class would count as 0, or take their other classes with them."""
    study = invented.write_study(tmp_path, invented.no_effect, combinations=ONE, absent=range(10))
    found = analyse(study, resamples=FEW)
    table = make_table(read_study(study))
    values = np.stack(list(table.dice[table.blocks[0], "real"].values()))
    assert np.isnan(values[:, :10, 1]).all() and not np.isnan(values[:, 10:]).any()
    cell = cells(found)["real"]
    assert cell.classes["anterior"] == pytest.approx(values[:, :, 0].mean())
    assert cell.classes["<posterior>"] == pytest.approx(values[:, 10:, 1].mean())
    assert cell.dice.value == pytest.approx((values[:, :, 0].mean() + values[:, 10:, 1].mean()) / 2)
    assert cell.test is None and cells(found)["base +10"].test.pairs == 20


def test_a_class_that_nobody_has(tmp_path, invented):
    """A mean over nothing must not become a number, nor stop the report."""
    found = analyse(invented.write_study(tmp_path, invented.no_effect, combinations=ONE, absent=range(20)))
    assert cells(found)["real"].classes["<posterior>"] is None
    assert cells(found)["real"].dice.value == pytest.approx(cells(found)["real"].classes["anterior"])


def test_missing_trials_are_left_out_and_named(tmp_path, invented):
    """A half-done study must compare what both sides have, and say what is not there."""

    def skip(cell):
        model, where = cell["model"], cell["combination"]
        if where["dataset"] == "spleen" and model["name"] == "cond":
            return "missing"
        if model["added_patients"] == 40 and cell["seed"] == 2:
            return "failed"
        if model["name"] == "real" and where["dataset"] == "brain" and cell["seed"] == 0 and where["draw"] == 1:
            return "broken"
        return None

    found = analyse(invented.write_study(tmp_path, invented.no_effect, combinations=SIX, skip=skip), resamples=FEW)
    assert found.ranked.missing_blocks == ["spleen, 5 patients", "spleen, 10 patients"]
    assert found.ranked.blocks == [f"{name}, {count} patients" for name in ("brain", "heart") for count in (5, 10)]
    assert len(found.ranked.ranking.models) == 7 and found.ranked.missing_models == []
    brain = next(cell for cell in found.cells if cell.model == "base +40" and cell.dataset == "brain")
    assert (brain.planned, brain.finished, brain.failed, brain.trainings) == (6, 4, 2, 3)
    assert {one.cause for one in found.failed} > {"not enough memory"}
    assert any("trial.json cannot be read" in one.cause for one in found.failed)
    assert found.answer.startswith(f"So far {found.finished} of {found.planned} trials are finished")
    assert found.planned == 6 * 7 * 6
    pooled = next(one for one in found.pooled if one.model == "cond +10")
    assert pooled.test.pairs == 4 and pooled.missing == ["spleen, 5 patients", "spleen, 10 patients"]


def test_a_model_with_few_trials_does_not_stop_the_ranks(tmp_path, invented):
    """Friedman's test over complete rows alone would be empty until the last model has run everywhere."""
    study = invented.write_study(
        tmp_path,
        invented.no_effect,
        combinations=SIX,
        skip=lambda cell: "missing" if cell["model"]["name"] == "cond" else None,
    )
    ranked, notes = rank(make_table(read_study(study)))
    assert ranked.missing_models == ["cond +10", "cond +20", "cond +40"]
    assert ranked.missing_blocks == [] and notes == []


def test_what_is_finished_of_an_earlier_configuration_is_not_counted(tmp_path, invented):
    """A trial that the configuration no longer has would count twice under a name that is still in use."""
    study = invented.write_study(tmp_path, invented.no_effect, combinations=ONE)
    value = json.loads((study / "study.json").read_text())
    dropped = next(digest for digest, cell in value["trials"].items() if cell["model"]["name"] == "cond")
    del value["trials"][dropped]
    (study / "study.json").write_text(json.dumps(value))
    assert dropped not in read_study(study).trials


def test_nothing_finished(tmp_path, invented):
    """The live view is opened before the first trial ends."""
    study = invented.write_study(tmp_path / "made", invented.no_effect, skip=lambda cell: "missing", seeds=1)
    found = analyse(study)
    assert found.finished == 0 and "No result yet" in found.answer and found.ranked is None


def test_folders_that_are_no_study(tmp_path, invented):
    """One line says what is wrong and what to give instead."""
    with pytest.raises(UserError, match="is no study: it has no study.json"):
        analyse(tmp_path)
    (tmp_path / "study.json").write_text('{"trials": [1]}')
    with pytest.raises(UserError, match="does not list its trials"):
        analyse(tmp_path)
    twice = [invented.MODELS[0], invented.MODELS[1], {**invented.MODELS[1], "recipe": {"ratio": 2}}]
    study = invented.write_study(tmp_path / "twice", invented.no_effect, models=twice, combinations=ONE)
    with pytest.raises(UserError, match="two models of the study are called 'base \\+10'"):
        analyse(study)


def test_shared_generators_count_once(tmp_path, invented):
    """A generator of two hours that 9 trials share would be own as 18 hours."""
    found = analyse(invented.write_study(tmp_path, invented.no_effect, combinations=ONE), resamples=FEW)
    hours = found.hours["hippocampus"]
    assert hours["generator"] == pytest.approx(2 * 2 * 2.0)
    assert hours["training"] == pytest.approx(0.1 * 42)
    assert found.hours_left == 0


def test_tests_over_combinations_find_what_is_everywhere(tmp_path, invented):
    """A gain that every combination has, too small for any alone, is what such a study is run for."""
    study = invented.write_study(tmp_path, lambda d, n, m, a: 0.02 * (m == "base"), combinations=SIX)
    pooled = {one.model: one for one in pool(make_table(read_study(study)))}
    assert pooled["base +10"].test.p == pytest.approx(2 / 2**6)
    assert pooled["base +10"].test.p_holm == pytest.approx(6 * 2 / 2**6)
    assert pooled["base +10"].test.rank_biserial == 1.0


def test_models_are_compared_with_those_of_the_same_augmentation(tmp_path, invented):
    """What augmentation gives would be own as what synthetic patients give."""
    models = [
        invented.model(name, variant, added, augmentation=augmentation)
        for augmentation in (True, False)
        for name, variant, added in (("real", "real", 0.0), ("base", "base", 10.0))
    ]
    found = cells(analyse(invented.write_study(tmp_path, invented.no_effect, models=models, combinations=ONE)))
    assert found["base +10"].baseline == "real"
    assert found["base +10 without augmentation"].baseline == "real without augmentation"


def test_ties_everywhere():
    """Models that all score the same have one rank, no difference, and break nothing."""
    found = rank_models(np.full((5, 4), 0.8), "abcd")
    assert found.ranks == (2.5, 2.5, 2.5, 2.5) and found.chi2 == 0.0 and found.p == 1.0
    same = signed_rank(np.zeros(5))
    assert (same.p, same.zeros, same.dz, same.rank_biserial) == (1.0, 5, None, 0.0)
    # 0.3 - 0.2 and 0.2 - 0.1 are equal but for floating point.
    assert signed_rank(np.array([0.3 - 0.2, 0.1 - 0.2])).rank_biserial == 0.0
    assert rank_models(np.array([[0.1 + 0.2, 0.3, 0.1]] * 2), "abc").ranks == (1.5, 1.5, 3.0)


def test_ranks_of_one_mind():
    """All combinations agree: the statistic of Iman and Davenport is infinite, which JSON cannot hold."""
    found = rank_models(np.array([[0.9, 0.8, 0.7]] * 4), "abc")
    assert found.f is None and found.f_p == 0.0 and found.chi2 == pytest.approx(8.0)


def test_nested_mixed_model_finds_the_effect(invented):
    """Numbers of patients of one data set are not independent: taken for it, they make an interval too narrow."""
    random = np.random.default_rng(3)
    rows = []
    for dataset in range(6):
        level, fits = random.normal(0.8, 0.05), random.normal(0, 0.01, 3)
        for patients in (5, 10, 20):
            here = level + random.normal(0, 0.02)
            for name, effect in zip(("real", "cond", "base"), np.array([0.0, 0.05, 0.0]) + fits, strict=True):
                score = here + effect + random.normal(0, 0.002)
                rows.append(Observation(f"set {dataset}", f"set {dataset}, {patients}", name, score))
    found = mixed_summary(rows, "real")
    effects = {one.model: one for one in found.effects}
    scores = np.array([one.score for one in rows]).reshape(6, 3, 3)
    gains = scores[:, :, 1] - scores[:, :, 0]
    assert effects["cond"].value == pytest.approx(gains.mean(), abs=1e-5)
    assert effects["cond"].low < 0.05 < effects["cond"].high and effects["cond"].p < 0.001
    assert effects["cond"].error > 1.3 * gains.std(ddof=1) / np.sqrt(gains.size)
    assert found.groups == 6 and "(1 | dataset:model)" in found.formula


def test_a_mixed_model_of_too_little_is_refused_in_a_note(tmp_path, invented):
    """An option that is asked for too early must not cost the report."""
    found = analyse(invented.write_study(tmp_path, invented.no_effect, combinations=ONE), mixed=True, resamples=FEW)
    assert found.mixed is None
    assert any("mixed model needs at least two combinations" in note for note in found.notes)


@pytest.mark.parametrize(("value", "text"), [(-0.04, "0.0"), (-1.26, "-1.3"), (0.0, "0.0")])
def test_no_minus_before_a_zero(value, text):
    """A loss of "-0.0 points" is none."""
    assert number(value) == text


def test_more_real_patients_are_what_a_gain_is_measured_by(tmp_path, invented):
    """Two points are much where ten more real patients gain three, and little where they gain ten."""
    gains = {"real": {10: 0.0, 20: 0.04}, "base": {10: 0.02, 20: 0.04}}
    study = invented.write_study(
        tmp_path,
        lambda d, patients, name, a: gains[name][patients],
        combinations=(("hippocampus", 10), ("hippocampus", 20)),
        models=[invented.MODELS[0], invented.MODELS[1]],
        same_patients=True,
    )
    found = analyse(study, resamples=FEW)
    own = cells(found)
    oracle = own["more real patients +10"]
    assert oracle.gain.value == pytest.approx(0.04, abs=0.01) and oracle.verdict == "gain"
    assert oracle.gain.value == pytest.approx(cells(found, patients=20)["real"].dice.value - own["real"].dice.value)
    assert own["base +10"].oracle_share == pytest.approx(own["base +10"].gain.value / oracle.gain.value)
    assert own["base +10"].oracle == "more real patients +10"
    assert headlines(found.cells)[0].oracle == oracle
    assert "more real patients +10" not in cells(found, patients=20)
    # It is no candidate: neither Holm's correction nor the count of trials knows it.
    assert own["base +10"].test.p_holm == own["base +10"].test.p
    assert found.planned == 2 * 2 * 2 * 3 and len(found.pooled) == 1


def test_a_share_is_of_the_nearest_number_and_of_a_gain_alone(tmp_path, invented):
    """A share of what may be nothing would be any number."""
    study = invented.write_study(
        tmp_path,
        lambda d, patients, name, a: {5: 0.0, 10: 0.02, 40: 0.02}[patients] + 0.01 * (name == "base"),
        combinations=[("hippocampus", 5), ("hippocampus", 10), ("hippocampus", 40)],
        same_patients=True,
    )
    found = analyse(study, resamples=FEW)
    own = cells(found, patients=5)
    assert {name: own[name].oracle for name in ("base +10", "base +20", "base +40")} == {
        "base +10": "more real patients +5",
        "base +20": "more real patients +5",
        "base +40": "more real patients +35",
    }
    assert own["base +10"].oracle_share == pytest.approx(0.5, abs=0.15)
    assert own["real"].oracle is None and own["more real patients +5"].oracle is None
    assert cells(found)["base +10"].oracle == "more real patients +30"
    assert cells(found)["base +10"].oracle_share is None


def test_combinations_that_are_there_for_the_oracle_alone_are_not_missing(tmp_path, invented):
    """Forty real patients alone are trained to tell what twenty more gain: no model is missing there."""
    study = invented.write_study(
        tmp_path,
        invented.no_effect,
        combinations=[(one, count) for one in ("brain", "heart", "spleen") for count in (5, 10, 20)],
        skip=lambda cell: (
            "unplanned" if cell["combination"]["patients"] == 20 and cell["model"]["name"] != "real" else None
        ),
    )
    found = analyse(study, resamples=FEW)
    assert found.ranked.missing_blocks == [] and len(found.ranked.blocks) == 6
    assert all(one.missing == [] and one.test.pairs == 6 for one in found.pooled)
    alone = [cell for cell in found.cells if cell.patients == 20]
    assert {cell.model for cell in alone} == {"real"}


def test_an_oracle_on_other_test_patients_is_none(tmp_path, invented):
    """What other patients score says nothing of these."""
    study = invented.write_study(tmp_path, invented.no_effect)
    assert [cell.model for cell in analyse(study, resamples=FEW).cells if cell.variant == "oracle"]
    for file in study.glob("trials/*/trial.json"):
        text = file.read_text()
        if json.loads(text)["combination"]["patients"] == 10:
            file.write_text(text.replace('"patient07"', '"another"'))
    assert not [cell for cell in analyse(study, resamples=FEW).cells if cell.variant == "oracle"]


def test_a_mixed_model_of_an_earlier_version_is_read():
    """Figures of a study that was analysed before a key was renamed could not be read again."""
    given = {"baseline": "real", "intercept": 0.8, "effects": [], "deviations": {}, "observations": 9, "groups": 3}
    given |= {"converged": True}
    old, new = (MixedSummary.model_validate({**given, key: "score ~ model"}) for key in ("words", "formula"))
    assert old == new and new.model_dump()["formula"] == "score ~ model"
