"""The demo's page: one file, readable, and honest."""

import base64
import re

import numpy as np
import pytest

from synthmed.reporting.demo import BLENDED, REAL_ONLY, DemoResult, demo_verdict, write_demo_report
from synthmed.segmentation.score import Mean, Score, Scores


def scores(*dice: float | None) -> Scores:
    """Return scores of one class, a case for each value."""
    rows = [
        Score(case=f"case{i}", label=1, name="<core>", dice=value, hd95=2.0, predicted=9, reference=9)
        for i, value in enumerate(dice)
    ]
    known = [value for value in dice if value is not None]
    mean = Mean(
        name="<core>",
        dice=float(np.mean(known)) if known else None,
        hd95=2.0,
        cases=len(known),
        absent=len(dice) - len(known),
        missed=0,
    )
    return Scores(scores=rows, classes=[mean], overall=mean.model_copy(update={"name": "mean"}))


@pytest.fixture
def page(tmp_path) -> str:
    """Return the page of a small invented result."""
    rng = np.random.default_rng(0)
    pictures = rng.uniform(-1, 1, (9, 16, 12, 2)).astype(np.float32), rng.integers(0, 2, (9, 16, 12), dtype=np.uint8)
    result = DemoResult(
        channels=("T1 & T2", "PD"),
        train_patients=14,
        test_patients=3,
        generated=200,
        kimg=2.25,
        real=pictures,
        fake=pictures,
        scores={REAL_ONLY: scores(0.5, 0.6, 0.7), BLENDED: scores(0.6, 0.7, 0.8)},
        seconds={"phantom": 2.0, "generator": 120.4},
    )
    write_demo_report(tmp_path / "report.html", result, commands=["synthmed inspect DATASET"])
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_page_loads_nothing_from_outside(page, read_links):
    """A report that is mailed on or opened without a network must still show its pictures."""
    links = read_links(page)
    assert links.open == []
    assert len(links.addresses) == 3
    assert all(address.startswith("data:image/") for address in links.addresses)
    assert not re.search(r"url\((?!['\"]?data:)|@import", page)


def test_pictures_are_pictures(page):
    """A data URI that no browser can decode shows an empty frame."""
    for kind, data in re.findall(r'src="data:image/(png|svg\+xml);base64,([^"]+)"', page):
        start = base64.b64decode(data)[:100]
        assert start.startswith(b"\x89PNG" if kind == "png" else b"<?xml")


def test_names_are_escaped(page):
    """A class named `<core>` would vanish from the page, or a name could run a script in the reader's browser."""
    assert "&lt;core&gt;" in page and "<core>" not in page
    assert "T1 &amp; T2" in page


def test_the_page_says_what_it_does_not_show(page):
    """Without these words a reader takes a phantom's figure for evidence about patients."""
    assert "not for diagnosis" in page
    assert "Nothing here says what generated slices will do for your data" in page
    assert "the first ones\n  drawn, not chosen" in page


def test_the_page_carries_the_verdict(page):
    """The one sentence that answers the question must stand in the page, with its numbers."""
    assert "0.600 to 0.700 (+0.100; 3 of 3 patients gained" in page
    assert "helped here" in page


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ((0.5, 0.6), (0.6, 0.7), "helped here"),
        ((0.5, 0.6), (0.4, 0.5), "harmed"),
        ((0.5, 0.6), (0.7, 0.5), "cannot show a difference"),
        ((0.5, 0.6), (0.501, 0.601), "cannot show a difference"),
        ((None,), (None,), "no result"),
    ],
)
def test_the_verdict_says_what_the_numbers_carry(before, after, words):
    """A verdict that praises chance, or hides harm, is worse than none."""
    assert words in demo_verdict(scores(*before), scores(*after))
