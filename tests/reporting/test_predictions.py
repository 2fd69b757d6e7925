"""Pictures of predictions beside the reference."""

import numpy as np
from PIL import Image

from synthmed.data.pictures import render_outlines
from synthmed.reporting import predictions
from synthmed.reporting.predictions import prediction_figure, typical_cases, write_predictions
from synthmed.segmentation.score_table import Score


def score(case, dice):
    """Return a score of one class."""
    return Score(case=case, patient=case, label=1, name="x", dice=dice, hd95=None, predicted=0, reference=0)


def test_neither_the_best_patients_alone_are_shown_nor_the_worst(store):
    """A reader would take the picture of a lucky patient for what the network does."""
    names = [case.case for case in store.cases()][:6]
    rows = [score(name, place / 10) for place, name in enumerate(reversed(names))]
    rows += [score(names[0], None)]
    assert [case.case for case in typical_cases(store, rows)] == [names[place] for place in (5, 4, 3, 0)]
    assert [case.case for case in typical_cases(store, rows[:1])] == [names[5]]


def test_columns_show_the_reference_and_each_network(store, tmp_path, monkeypatch):
    """A reader would compare outlines that stand under the wrong name."""
    cases = store.cases("test")
    nothing = np.eye(len(store.classes), dtype=np.float32)[0]
    monkeypatch.setattr(
        predictions, "load_predictor", lambda *_, **__: lambda images: np.broadcast_to(nothing, (*images.shape[:3], 4))
    )
    figure = prediction_figure(store, cases, {"empty": None})
    assert [axes.get_title() for axes in figure.axes[:2]] == ["reference", "empty"]
    number = cases[0].first + int(
        store.class_counts[cases[0].first : cases[0].first + cases[0].slices, 1:].sum(1).argmax()
    )
    image = store.images(np.array([number]))
    for axes, labels in zip(
        figure.axes[:2], (store.labels(np.array([number])), np.zeros((1, *store.size), np.uint8)), strict=True
    ):
        np.testing.assert_array_equal(axes.images[0].get_array(), render_outlines(image, labels, enlarge=4)[0])
    write_predictions(figure, tmp_path / "predictions.png")
    assert Image.open(tmp_path / "predictions.png").size[0] > 300
