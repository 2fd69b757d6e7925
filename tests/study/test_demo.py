"""The demo, as small as it can be."""

import numpy as np
import pytest

from synthmed.errors import UserError
from synthmed.reporting.demo import BLENDED, REAL_ONLY, write_demo_report
from synthmed.study.demo import WEIGHTS, DemoOptions, run_demo

SMALL = DemoOptions(cases=5, size=32, channels=1, kimg=0.016, generated=8, steps=2)


@pytest.mark.long
def test_the_whole_story(tmp_path):
    """The demo is the first thing that most people run: if one part does not fit the next, it is the last as well.

    Told twice: the second time nothing is left to do, so that a demo that was stopped goes on and does not start again.
    """
    out = tmp_path / "demo"
    told: list[tuple[int, int]] = []
    result = run_demo(out, SMALL, progress=lambda done, total, note: told.append((done, total)))
    assert (result.train_patients, result.test_patients, result.generated) == (3, 2, 8)
    assert set(result.scores) == {REAL_ONLY, BLENDED}
    for scores in result.scores.values():
        assert {score.case for score in scores.scores} == {
            path.name[:11] for path in (out / "predicted-real").iterdir()
        }
    for images, labels in (result.real, result.fake):
        assert images.shape[1:] == (32, 32, 1) and labels.shape == images.shape[:3]
        assert np.isfinite(images).all()
    assert list(result.seconds) == list(WEIGHTS)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == told[-1][1]

    write_demo_report(out / "report.html", result, commands=[])
    written = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    again = run_demo(out, SMALL, resume=True)
    assert again.scores == result.scores
    np.testing.assert_array_equal(again.fake[0], result.fake[0])
    assert {path: path.stat().st_mtime_ns for path in written if path.suffix not in (".json", ".jsonl")} == {
        path: time for path, time in written.items() if path.suffix not in (".json", ".jsonl")
    }


def test_a_folder_with_something_in_it_is_refused(tmp_path):
    """Somebody's folder named demo must not be filled with phantoms."""
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(UserError, match="choose another --out"):
        run_demo(tmp_path, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
