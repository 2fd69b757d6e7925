"""The page of an evaluation: every number of metrics.json, nothing from outside, no patient."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from synthmed.evaluation.evaluate import EvaluationResult, LabelledSlices
from synthmed.evaluation.memorisation.audit import Audit
from synthmed.evaluation.result import (
    About,
    Count,
    Estimate,
    Evaluation,
    Figure,
    Means,
    Section,
    Selected,
    Verdict,
)
from synthmed.reporting.evaluation import write_evaluation_report

CLASSES = ("background", "<core>", "rim")


def figure(name, **changes):
    """Return an invented figure."""
    values = {
        "name": name,
        "label": f"{name} of <core>",
        "estimate": Estimate(value=1 / 3, low=0.25, high=0.41),
        "real_baseline": Estimate(value=1e-5, low=0.0, high=2e-5),
        "better": "lower",
        "definition": f"What {name} is (Somebody 2020).",
    }
    return Figure(**(values | changes))


def invented_result(images=True, passed=True):
    """Return a small invented invented_result."""
    random = np.random.default_rng(0)
    pictures = random.uniform(-1, 1, (9, 16, 12, 2)).astype(np.float32) if images else None
    slices = LabelledSlices(pictures, random.integers(0, 3, (9, 16, 12), dtype=np.uint8), np.arange(9))
    count = Count(slices=9, units=3)
    about = About(
        dataset="T1 & T2",
        store_hash="ab" * 32,
        licence="CC0",
        models=("cd" * 32,),
        variant="images" if images else "masks",
        channels=("T1", "T2") if images else (),
        classes=CLASSES,
        size=(16, 12),
        synthetic=count,
        training=count,
        held_out=count,
        space="offline" if images else "",
        space_identity="1234" if images else "",
        seed=0,
    )
    sections = (
        Section(
            name="fidelity",
            title="Fidelity",
            figures=(figure("kid", warning="few slices"), figure("fd", real_baseline=None)),
        ),
        Section(name="masks_place", title="Place", figures=(figure("position", unit="real IQR"),), notes=("A note.",)),
    )
    evaluation = Evaluation(
        about=about,
        summary=("So many slices.",),
        sections=sections,
        means=(Means(label="<core>: area", synthetic=0.123456789, training=12345.678, held_out=None),),
        audit=Verdict(passed=passed, sentence="passed: no sign of copies" if passed else "failed: copies are likely"),
        selection=Selected(asked=5, kept=4, dropped={"copy": 2}, ranked_by="adherence"),
        warnings=("Mind this.",),
    )
    maps = {kind: random.uniform(size=(2, 16, 12)) for kind in ("synthetic", "training", "held_out")}
    audit = Audit(verdict=evaluation.audit, section=sections[0])
    return EvaluationResult(evaluation, slices, slices, maps, audit=audit, closest=(slices, slices))


class Page(HTMLParser):
    """Collects numbers by row, addresses, headings, pictures without words, and tags left open."""

    def __init__(self):
        super().__init__()
        self.rows, self.addresses, self.headings, self.mute, self.open = {}, [], [], [], []
        self.row = None

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "action")]
        if tag == "tr":
            self.row = found.get("data-figure") or found.get("data-mean")
        if tag == "data":
            self.rows.setdefault(self.row, []).append(float(found["value"]))
        if tag == "img" and not found.get("alt"):
            self.mute.append(found)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in ("meta", "img", "hr", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(tmp_path, found):
    """Return the page and what it holds."""
    write_evaluation_report(tmp_path / "report.html", found)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    return text, page


def numbers(one):
    """Return the numbers of an estimate in the order of the page."""
    return [] if one is None else [value for value in (one.value, one.low, one.high) if value is not None]


def test_the_page_shows_the_numbers_of_the_record(tmp_path):
    """A reviewer who reads the page and one who reads metrics.json would argue about different figures."""
    found = invented_result()
    _, page = parsed(tmp_path, found)
    expected = {key: numbers(one.estimate) + numbers(one.real_baseline) for key, one in found.evaluation.figures()}
    for row in found.evaluation.means:
        expected[row.label] = [value for value in (row.synthetic, row.training, row.held_out) if value is not None]
    assert page.rows == expected


@pytest.mark.parametrize("images", [True, False])
def test_the_page_stands_alone_and_can_be_read_by_everybody(tmp_path, images):
    """A report that is mailed on would show empty frames; one without words for its pictures excludes readers."""
    text, page = parsed(tmp_path, invented_result(images))
    assert page.open == [] and page.mute == []
    assert page.addresses and all(address.startswith("data:image/") for address in page.addresses)
    assert "<script" not in text and not re.search(r"url\((?!['\"]?data:)|@import|https?://", text)
    assert page.headings[0] == 1 and page.headings.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(page.headings, page.headings[1:], strict=False))
    assert len(text) < 3_000_000


def test_names_are_escaped_and_definitions_are_at_hand(tmp_path):
    """A class named `<core>` would vanish; a figure nobody can explain is no figure."""
    text, _ = parsed(tmp_path, invented_result())
    assert "&lt;core&gt;" in text and "<core>" not in text and "T1 &amp; T2" in text
    for words in ("What kid is (Somebody 2020).", "few slices", "A note.", "Mind this.", "copy", "not present"):
        assert words in text


@pytest.mark.parametrize(("passed", "words"), [(True, "no sign of copies"), (False, "copies are likely")])
def test_the_verdict_stands_at_the_top(tmp_path, passed, words):
    """A data-protection officer would have to search for the one sentence that counts."""
    text, _ = parsed(tmp_path, invented_result(passed=passed))
    assert words in text[: text.index("<h2>Samples")]


def test_large_slices_do_not_make_a_large_page(tmp_path):
    """Reports of large pictures could not be mailed."""
    found = invented_result()
    random = np.random.default_rng(0)
    large = LabelledSlices(
        random.uniform(-1, 1, (12, 700, 600, 2)).astype(np.float32),
        np.zeros((12, 700, 600), np.uint8),
        np.arange(12),
    )
    maps = {kind: np.zeros((2, 700, 600)) for kind in found.maps}
    parsed(tmp_path, EvaluationResult(found.evaluation, large, large, maps, audit=found.audit, closest=(large, large)))
    assert (tmp_path / "report.html").stat().st_size < 3_000_000
