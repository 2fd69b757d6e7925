"""The page of a study and the numbers beside it: whole, readable, the same again, at any time of a study."""

import csv
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from synthmed.errors import UserError
from synthmed.reporting.figures import amounts, gains_figure, lines
from synthmed.reporting.study import write_study_report
from synthmed.study.statistics.analyse import analyse

INVENTED = Path(__file__).parents[1] / "study" / "statistics" / "invented.py"
FEW = 200
SIX = tuple((dataset, patients) for dataset in ("brain", "heart", "spleen") for patients in (5, 10))


@pytest.fixture(scope="module")
def invented():
    """Return the module that writes invented studies."""
    specification = importlib.util.spec_from_file_location("invented", INVENTED)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def half_done(cell) -> str | None:
    """Let a study be half done, with failures."""
    if cell["combination"]["dataset"] == "spleen" and cell["model"]["name"] == "cond":
        return "missing"
    return "failed" if cell["model"]["added_patients"] == 40 and cell["seed"] == 1 else None


@pytest.fixture(scope="module")
def study(tmp_path_factory, invented) -> Path:
    """Return a study of six combinations that is half done."""
    folder = tmp_path_factory.mktemp("study")
    return invented.write_study(folder, invented.paper_effect, combinations=SIX, seeds=2, skip=half_done)


@pytest.fixture(scope="module")
def page(study) -> str:
    """Return its page."""
    return write_study_report(study, mixed=True, resamples=FEW).read_text(encoding="utf-8")


def rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_page_is_one_file(page, read_links):
    """A report that is mailed on must still show its figures: two a combination and the diagram."""
    links = read_links(page)
    assert links.open == []
    assert len(links.addresses) == 2 * 6 + 1
    assert all(address.startswith("data:image/") for address in links.addresses)
    assert not re.search(r"url\((?!['\"]?data:)|@import", page)


def test_the_page_says_what_is_missing(page):
    """A reader of a half-done study must not take it for the whole."""
    assert "So far 124 of 168 trials are finished" in page
    assert "124 of 168 trials are finished, 20 failed, 24 are missing" in page
    assert "spleen, 5 patients; spleen, 10 patients" in page
    assert "not enough memory" in page and "hours of U-Nets are left" in page


def test_the_page_carries_answer_and_tests(study, page):
    """The paragraph and the table must say the same as the numbers beside them."""
    found = json.loads((study / "report" / "statistics.json").read_text())
    assert found["answer"] in page
    cell = next(one for one in found["cells"] if one["model"] == "base +20" and one["patients"] == 10)
    row = re.search(rf'data-cell="{cell["dataset"]}/10/base \+20".*?</tr>', page, re.DOTALL)[0]
    assert f"{cell['dice']['value']:.4f}" in row and f"+{100 * cell['gain']['value']:.1f}" in row
    assert f'class="{cell["verdict"]}"' in row and cell["verdict"] == "gain"
    table = page[: page.index("<h2>Scores against")]
    headline = re.search(r'<td class="name">brain, 10 patients</td>.*?</tr>', table, re.DOTALL)[0]
    assert 'class="gain"' in headline and "base +20" in headline and "base +40" in headline
    assert f"{found['ranked']['ranking']['critical_difference']:.2f} apart (Nemenyi)" in page
    assert "score ~ model + (1 | dataset)" in page


def test_every_number_is_in_tables(study, page):
    """Who wants another figure must not copy numbers from a page."""
    report = study / "report"
    found = json.loads((report / "statistics.json").read_text())
    cells = rows(report / "cells.csv")
    # Seven models, and in the smaller of two combinations what more real patients gain.
    assert len(cells) == len(found["cells"]) == 3 * (7 + 8)
    for row, cell in zip(cells, found["cells"], strict=True):
        assert row["model"] == cell["model"]
        assert row.get("gain_value", "") == ("" if cell["gain"] is None else repr(cell["gain"]["value"]))
    trials = rows(report / "trials.csv")
    assert len(trials) == 168 and {row["status"] for row in trials} == {"finished", "failed", "missing"}
    assert len(rows(report / "nemenyi.csv")) == len(rows(report / "ranks.csv")) == 7
    assert len(rows(report / "over_combinations.csv")) == len(rows(report / "mixed.csv")) == 6
    assert "NaN" not in (report / "statistics.json").read_text()


def test_the_same_trials_give_the_same_bytes(study, page, tmp_path):
    """A report that changes by itself cannot be compared with an earlier one; here in a process of its own."""
    code = "import sys; from synthmed.reporting.study import write_study_report as write; "
    code += f"write(sys.argv[1], sys.argv[2], mixed=True, resamples={FEW})"
    subprocess.run([sys.executable, "-c", code, str(study), str(tmp_path)], check=True)
    first = {file.name: file.read_bytes() for file in (study / "report").iterdir()}
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == first


def test_a_study_that_has_just_begun(tmp_path, invented):
    """The live view is opened at once, and must not fail for want of scores."""
    study = invented.write_study(tmp_path / "none", invented.no_effect, skip=lambda cell: "missing", seeds=1)
    page = write_study_report(study, resamples=FEW).read_text(encoding="utf-8")
    assert "No result yet" in page and "No model that adds patients to these is finished yet" in page
    only_real = invented.write_study(
        tmp_path / "real",
        invented.no_effect,
        skip=lambda cell: None if cell["model"]["name"] == "real" else "missing",
        seeds=1,
    )
    page = write_study_report(only_real, resamples=FEW).read_text(encoding="utf-8")
    assert "No result yet" in page and "need two combinations" in page


def test_patients_that_only_real_models_are_trained_with(tmp_path, invented):
    """Trainings that say what more real patients gain would be shown as missing."""
    study = invented.write_study(
        tmp_path, invented.no_effect, models=invented.MODELS[:1], combinations=(("a", 5),), seeds=1
    )
    page = write_study_report(study, resamples=FEW).read_text(encoding="utf-8")
    assert "no model adds any to these" in page and "finished yet" not in page


def test_many_lines_can_be_told_apart(tmp_path, invented):
    """More real patients would look like the first synthetic model."""
    models = [invented.MODELS[0], *({**invented.MODELS[1], "name": f"model {number}"} for number in range(14))]
    study = invented.write_study(tmp_path, invented.no_effect, models=models, combinations=(("a", 5),), seeds=1)
    cells = analyse(study, resamples=FEW).cells
    (axes,) = gains_figure(cells, order=lines(cells), places=amounts(cells)).axes
    drawn = [container.lines[0] for container in axes.containers]
    assert len({(line.get_color(), line.get_marker(), line.get_markerfacecolor()) for line in drawn}) == 14


def test_names_are_escaped(tmp_path, invented):
    """A data set's name with a bracket would vanish from the page, or run a script in the reader's browser."""
    study = invented.write_study(tmp_path, invented.no_effect, combinations=(("<b>", 5),), seeds=1)
    page = write_study_report(study, tmp_path / "out", resamples=FEW).read_text(encoding="utf-8")
    assert "&lt;b&gt;, 5 patients" in page and "<b>" not in page


def test_tables_that_are_found_no_longer_go(tmp_path, invented):
    """Ranks of an earlier configuration beside a page without ranks would be taken for this one's."""
    study = invented.write_study(tmp_path, invented.no_effect, combinations=(("a", 5),), seeds=1)
    (study / "report").mkdir()
    (study / "report" / "ranks.csv").write_text("old")
    write_study_report(study, resamples=FEW)
    assert not (study / "report" / "ranks.csv").exists()


def test_a_folder_without_a_study(tmp_path):
    """One line, not a traceback."""
    with pytest.raises(UserError, match="is no study"):
        write_study_report(tmp_path)


def test_a_report_names_no_place_and_no_case(tmp_path, invented):
    """A report is mailed on; the folders of the study, and what its errors say of files, stay where they are."""
    data = tmp_path / "Klinikum Wolkenstein" / "Quarzheim"
    folder = invented.write_study(
        tmp_path / "Lindwurm" / "study",
        invented.no_effect,
        skip=lambda cell: "failed" if cell["seed"] == 1 else "broken" if cell["seed"] == 2 else None,
    )
    content = json.loads((folder / "study.json").read_text())
    content["configuration"] = {"data": [{"name": "set", "path": str(data)}]}
    (folder / "study.json").write_text(json.dumps(content))
    for file in folder.glob("trials/*/failed.json"):
        cause = (
            f"{data}/Tannhaus.nii.gz is damaged: mend it; see {folder}/log.txt and /home/Morgenrot/x, '/mnt/Veilchen'"
        )
        file.write_text(json.dumps({**json.loads(file.read_text()), "cause": cause}))
    for file in folder.glob("trials/*/trial.json"):
        file.write_text(file.read_text().replace("case0", "Ehrenpreis").replace("patient0", "Birkenlaub"))
    out = write_study_report(folder, tmp_path / "out", resamples=FEW).parent
    everything = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file()).decode().casefold()
    places, people = ("wolkenstein", "quarzheim", "lindwurm"), ("tannhaus", "morgenrot", "veilchen")
    secrets = (*places, *people, "ehrenpreis", "birkenlaub")
    assert [secret for secret in secrets if secret in everything] == []
    assert "is damaged: mend it" in everything
