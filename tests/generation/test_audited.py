"""The verdict of the audit lies beside the weights that it is of, and travels with them."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from synthmed.errors import UserError
from synthmed.evaluation.memorisation.audit import audit
from synthmed.evaluation.result import Estimate, EvaluationSummary, SummaryFigure, Verdict, read_evaluation_summary
from synthmed.generation.audited import audit_bundle
from synthmed.generation.bundle import GeneratorBundle
from synthmed.generation.info import EVALUATION_FILE, dataset_description, read_verdict, record_audit
from synthmed.serving.card import model_card
from synthmed.serving.export import export_bundle

FAILED = Verdict(passed=False, sentence="failed: copies are likely; 7 of 9 samples", samples=9, copies=7)


@pytest.fixture(scope="module")
def found(store):
    """An audit of a few strangers."""
    numbers = store.indices("val")[:8]
    return audit(store, store.images(numbers), store.labels(numbers), model_hash="ab")


def changed(found, **changes):
    return found.model_copy(update={"verdict": found.verdict.model_copy(update=changes)})


def test_a_verdict_is_that_of_its_weights_alone(found, tmp_path):
    """A run that was trained on would keep the good name of younger weights."""
    record_audit(tmp_path, found)
    assert read_verdict(tmp_path, "ab") == found.verdict
    assert read_verdict(tmp_path, "cd") is None
    (tmp_path / "audit.json").write_text("{")
    assert read_verdict(tmp_path, "ab") is None


def test_fewer_samples_do_not_whitewash(found, tmp_path):
    """A failed audit could be mended by drawing three samples."""
    record_audit(tmp_path, changed(found, passed=False, samples=100))
    record_audit(tmp_path, changed(found, passed=True, samples=10))
    assert read_verdict(tmp_path, "ab").passed is False
    record_audit(tmp_path, changed(found, passed=True, samples=200))
    assert read_verdict(tmp_path, "ab").passed is True


def test_a_failed_audit_is_refused_in_one_line_unless_allowed(tiny_bundle, tmp_path):
    """A generator that copies patients would be handed out, or its card would hide it."""
    whole = tiny_bundle("base")
    bundle = GeneratorBundle(whole.info.model_copy(update={"audit": FAILED}), whole.generator)
    with pytest.raises(UserError, match="--allow-failed-audit") as caught:
        export_bundle(bundle, to=tmp_path)
    assert "\n" not in str(caught.value) and not any(tmp_path.iterdir())
    version = export_bundle(bundle, to=tmp_path, allow_failed_audit=True)
    card = (version / "assets.extra" / "MODEL_CARD.md").read_text()
    assert "exported with `--allow-failed-audit`" in card and "copies are likely" in card
    assert json.loads((version / "assets.extra" / "bundle.json").read_text())["audit"]["passed"] is False


def test_card_and_set_tell_the_verdict(tiny_info):
    """Who is given images would not know whether they were compared with patients."""
    info = tiny_info("base")
    assert "not audited" in model_card(info, version=1).lower()
    entry = dataset_description(info, count=1, seed=0, psi=1.0, unit="slice")["GeneratedBy"][0]
    assert entry["MemorisationAudit"]["Passed"] is None
    good = info.model_copy(update={"audit": Verdict(passed=True, sentence="passed: fine", membership_auc=0.5)})
    assert "Passed: fine" in model_card(good, version=1) and "AUC of 0.50" in model_card(good, version=1)
    entry = dataset_description(good, count=1, seed=0, psi=1.0, unit="slice")["GeneratedBy"][0]
    assert entry["MemorisationAudit"] == {"Passed": True, "Verdict": "passed: fine"}


def test_figures_beside_a_run_reach_its_card(tiny_info, tmp_path):
    """A card would be silent on what was measured, or tell figures of younger weights."""
    info = tiny_info("base")
    assert "Not measured" in model_card(info, version=1)
    kid = SummaryFigure(
        label="KID of a|b",
        estimate=Estimate(value=0.125, low=0.1, high=0.15),
        real_baseline=None,
        reads="worse than real",
    )
    summary = EvaluationSummary(
        figures=(kid,), samples=600, held_out=99, patients=7, psi=(0.7,), space="offline", model_hash="ab"
    )
    summary.write(tmp_path / EVALUATION_FILE)
    assert read_evaluation_summary(tmp_path / EVALUATION_FILE, "ab") == summary
    assert read_evaluation_summary(tmp_path / EVALUATION_FILE, "cd") is None
    assert read_evaluation_summary(tmp_path / "gone.json", "ab") is None
    card = model_card(info.model_copy(update={"evaluation": summary}), version=1)
    assert "| KID of a/b | 0.125 [0.1 to 0.15] | none | worse than real |" in card
    assert all(words in card for words in ("600 synthetic", "psi 0.7", "7 patients", "offline"))


def test_a_generator_is_audited_against_its_own_store_alone(tiny_bundle, store, tmp_path, monkeypatch):
    """A verdict would be given by slices that the generator has never seen."""
    from synthmed.training import run as runs

    whole = tiny_bundle("mask")
    hashes = store.training_hashes
    info = whole.info.model_copy(update={"training_patients": hashes})
    bundle = GeneratorBundle(info, whole.generator, run=tmp_path)
    data = SimpleNamespace(store=str(store.path), store_hash=store.content_hash)
    monkeypatch.setattr(runs.Run, "open", lambda path: SimpleNamespace(data=data))
    monkeypatch.setattr("synthmed.generation.generator.RunGenerator", lambda bundle: Drawn(store))
    found = audit_bundle(bundle, count=5)
    assert found.verdict.samples == 5 and found.verdict.model_hash == info.model_hash
    assert audit_bundle(GeneratorBundle(whole.info, whole.generator, run=tmp_path), count=5) is None
    data.store_hash = "other"
    assert audit_bundle(bundle, count=5) is None
    assert audit_bundle(GeneratorBundle(info, whole.generator), count=5) is None
    with pytest.raises(UserError, match="--audit-n"):
        audit_bundle(bundle, count=0)


class Drawn:
    """Draws the label maps of held-out slices."""

    def __init__(self, store):
        self._labels = store.labels(store.indices("val"))

    def sample_seeds(self, seeds, psi):
        return SimpleNamespace(images=None, labels=self._labels[np.arange(len(seeds))])
