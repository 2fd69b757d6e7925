"""`synthmed demo` writes its report and says where."""

import numpy as np
from click.testing import CliRunner

from synthmed.cli.demo import command
from synthmed.reporting.demo import BLENDED, REAL_ONLY, DemoResult
from synthmed.segmentation.score import Mean, Score, Scores
from synthmed.study import demo


def test_the_command_ends_with_a_report_and_its_verdict(monkeypatch, tmp_path):
    """After five minutes of waiting its user must learn what came out and where it is written."""
    score = Score(case="a", label=1, name="core", dice=0.5, hd95=1.0, predicted=1, reference=1)
    mean = Mean(name="core", dice=0.5, hd95=1.0, cases=1, absent=0, missed=0)
    scores = Scores(scores=[score], classes=[mean], overall=mean)
    pair = np.zeros((2, 16, 16, 1), np.float32), np.zeros((2, 16, 16), np.uint8)
    result = DemoResult(
        channels=("T1",),
        train_patients=1,
        test_patients=1,
        generated=2,
        kimg=1.0,
        real=pair,
        fake=pair,
        scores={REAL_ONLY: scores, BLENDED: scores},
        seconds={"all": 1.0},
    )
    asked = {}

    def run(out, options, **keywords):
        asked.update(out=out, seed=options.seed, resume=keywords["resume"])
        return result

    monkeypatch.setattr(demo, "run_demo", run)
    target = tmp_path / "told"
    output = CliRunner().invoke(command, ["--out", str(target), "--seed", "7"], catch_exceptions=False).output
    assert asked == {"out": target, "seed": 7, "resume": False}
    assert "cannot show a difference" in output
    assert "synthmed segment score predicted DATASET" in (target / "report.html").read_text(encoding="utf-8")
