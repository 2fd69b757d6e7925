"""Figures of scores."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from synthmed.reporting.figures import score_figure
from synthmed.reporting.page import figure_uri, picture_uri


def test_picture_survives_its_uri():
    """A sample grid that is changed on its way to the page shows other samples than were drawn."""
    picture = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    data = base64.b64decode(picture_uri(picture).partition(",")[2])
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), picture)


def test_every_finite_score_is_drawn_and_the_line_is_their_mean():
    """A dot that is left out, or a mean over other values, misleads without a trace."""
    arms = {"a": [{"x": 0.2, "y": float("nan")}, {"x": 0.6, "y": 0.9}, {"x": 0.7}], "b": [{"x": 0.1, "y": 0.3}]}
    axes = score_figure(arms, quantity="Dice").axes[0]
    drawn = sorted(float(value) for line in axes.lines for value in line.get_ydata())
    assert drawn == [0.1, 0.2, 0.3, 0.6, 0.7, 0.9]
    means = sorted(float(collection.get_segments()[0][0, 1]) for collection in axes.collections)
    assert means == pytest.approx([0.1, 0.3, 0.5, 0.9])
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["x", "y"]


def test_a_figure_with_nothing_defined_is_drawn_all_the_same():
    """An empty class must not cost the whole report."""
    assert figure_uri(score_figure({"a": [{"x": float("nan")}]}, quantity="Dice")).startswith("data:image/svg+xml")


def test_the_same_figure_gives_the_same_bytes():
    """Reports under version control would change at every run."""
    first, second = (figure_uri(score_figure({"a": [{"x": 0.5}]}, quantity="Dice")) for _ in range(2))
    assert first == second
