"""What a configuration may say, and how it is told what it may not."""

import re
from pathlib import Path

import pytest
from fakes import TEXT, configuration

from synthmed.errors import UserError
from synthmed.study.config import parse_configuration, preset_names, read_configuration


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("draws: 2", "drawz: 2", r"line 6: there is no key 'drawz' here: did you mean draws\?"),
        ("draws: 2", "draws: 0", "line 6: draws = 0: input should be greater than or equal to 1"),
        ("patients: [2, 4]", "patients: [2, none]", r"line 5: patients.1 = 'none': input should be a valid integer"),
        ("patients: [2, 4]", "patients: [2, 2]", "patients: 2 stands there twice"),
        ("variant: base", "variant: bass", "line 11: .*variant = 'bass'"),
        ("    added_patients: [2, 4]\n", "", "line 10: models.1: base needs added_patients"),
        ("variant: real}", "variant: real, added_patients: 2}", "line 9: models.0: a real model adds nothing"),
        ("variant: base", "variant: base\n    masks: deformed", "line 10: models.1: masks: deformed goes with"),
        ("variant: base", "variant: base\n    generator: {settings: {batchh: 2}}", "line 12: .*did you mean batch"),
        ("variant: base", "variant: base\n    generator: {settings: {seed: 2}}", "line 12: .*seed is set by the study"),
        ("seeds: 2", "seeds: 2\ntraining: {steps: 0}", "line 8: training: --steps 0"),
        ("seeds: 2", "seeds: 2\nseeds: 3", "line 8: seeds stands there twice"),
        ("seeds: 2", "seeds: [2", "line [89]: not valid YAML"),
        ("phantom: {cases: 8, size: 16, channels: 1}, ", "", "line 4: data.0: give either path"),
        ("name: phantom, ", "", "line 4: name is missing"),
        ("patients: [2, 4]\n", "", "data set phantom: say how many training patients"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(old, new, message):
    """Somebody with a file of two hundred lines would have to guess which one is meant."""
    assert old in TEXT
    with pytest.raises(UserError, match=rf"fake.yaml, {message}" if "line" in message else message):
        parse_configuration(TEXT.replace(old, new, 1), "fake.yaml")


def test_short_forms_mean_what_they_look_like():
    """A number of seeds read as one seed would be a study of one training each."""
    one = configuration(TEXT.replace("patients: [2, 4]", "patients: 3", 1))
    assert one.patients == (3,) and one.seeds == (0, 1)
    assert configuration(TEXT.replace("seeds: 2", "seeds: [7]")).seeds == (7,)
    sized = configuration(TEXT.replace("split: [0.75, 0, 0.25]", "split: '0.5,0,0.5', size: 32x48")).data[0]
    assert sized.size == (32, 48) and sized.split == (0.5, 0.0, 0.5)


def test_presets_are_valid_and_as_large_as_the_documents_say():
    """The preset named after the paper would be another experiment."""
    assert preset_names() == ["gain-hippocampus", "gain-lgg", "hippocampus", "paper", "quick"]
    sizes = {}
    for name in preset_names():
        one = read_configuration(name)
        combinations = sum(len(data.patients or one.patients) for data in one.data)
        models = sum(max(len(model.added_patients), 1) * len(model.augmentation) for model in one.models)
        sizes[name] = combinations, models
    assert sizes == {
        "paper": (18, 26),
        "hippocampus": (2, 7),
        "quick": (1, 4),
        "gain-hippocampus": (4, 13),
        "gain-lgg": (3, 6),
    }


def test_the_example_of_the_documents_is_valid():
    """What people copy first would be refused."""
    page = Path(__file__).parents[2] / "docs" / "study.md"
    if not page.is_file():
        pytest.skip("needs a checkout")
    (text,) = re.findall(r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert [model.name for model in parse_configuration(text, "study.md").models] == [
        "real",
        "base",
        "deformed, pre-trained",
    ]


def test_paths_follow_the_file_and_can_be_named_on_the_command_line(tmp_path, monkeypatch):
    """A study that is started from another folder would not find its data, or find others."""
    text = TEXT.replace("phantom: {cases: 8, size: 16, channels: 1}", "path: mri").replace("[0.75, 0, 0.25]", "s.json")
    (tmp_path / "study.yaml").write_text(text)
    monkeypatch.chdir("/")
    one = read_configuration(str(tmp_path / "study.yaml")).data[0]
    assert (one.path, one.split) == (tmp_path / "mri", tmp_path / "s.json")
    other = tmp_path / "elsewhere"
    assert read_configuration(str(tmp_path / "study.yaml"), paths={"phantom": other}).data[0].path == other
    with pytest.raises(UserError, match="no such data set, but phantom"):
        read_configuration(str(tmp_path / "study.yaml"), paths={"heart": other})
    with pytest.raises(UserError, match="no file and no preset.*quick"):
        read_configuration("nothing.yaml")
