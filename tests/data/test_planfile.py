"""Tests of synthmed.data.planfile and planwords."""

import shutil
from dataclasses import replace

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from synthmed.data.plan import ExplainedPlan, PlanOptions
from synthmed.data.planfile import make_plan_file, read_plan
from synthmed.data.prepare import plan_only, prepare, prepare_as_planned
from synthmed.data.readers import CaseFiles, Dataset, ReadOptions, read_dataset
from synthmed.data.schema import Plan, Scaling
from synthmed.data.store import Store
from synthmed.errors import UserError

OPTIONS = PlanOptions(
    axis="coronal",
    size=(32, 40),
    spacing=(3.1, 1 / 3),
    normalise=("zscore", "channel 1=window:-3.25,1e3"),
    crop="yes",
    slices="balanced",
)


@pytest.mark.parametrize("options", [PlanOptions(), OPTIONS])
def test_executing_a_plan_gives_the_store_of_the_direct_call(nnunet_set, tmp_path, options):
    """A study could not be repeated from the plan that is published with it."""
    source = nnunet_set(cases=5)
    common = {"split": (0.6, 0.2, 0.2), "train_patients": 2, "seed": 4, "options": options}
    direct = prepare(source, tmp_path / "direct", **common)
    planned = plan_only(source, tmp_path / "plan.yaml", **common)
    assert planned.plan() == direct.plan
    executed = prepare_as_planned(source, tmp_path / "executed", plan=tmp_path / "plan.yaml")
    again = prepare_as_planned(source, tmp_path / "again", plan=direct.path / "plan.yaml")
    assert direct.content_hash == executed.content_hash == again.content_hash
    text = (tmp_path / "plan.yaml").read_text()
    assert {(folder / "plan.yaml").read_text() for folder in (direct.path, executed.path, again.path)} == {text}


def test_patients_and_reading_are_part_of_a_plan(nnunet_set, tmp_path):
    """Two visits of one person would straddle the split once the plan is executed."""
    dataset = read_dataset(nnunet_set(cases=5))
    visits = {"case_0": "anna", "case_3": "anna", "case_1": "ben"}
    cases = [replace(files, patient=visits.get(files.case, files.case)) for files in dataset.cases]
    direct = prepare(replace(dataset, cases=cases), tmp_path / "direct", seed=1)
    path = direct.path / "plan.yaml"
    assert yaml.safe_load(path.read_text())["patients"] == {"anna": ["case_0", "case_3"], "ben": ["case_1"]}
    executed = prepare_as_planned(dataset.path, tmp_path / "executed", plan=path)
    assert executed.content_hash == direct.content_hash
    (tmp_path / "renamed.yaml").write_text(path.read_text().replace("  ben:\n", "  carl:\n"))
    renamed = prepare_as_planned(dataset.path, tmp_path / "renamed", plan=tmp_path / "renamed.yaml")
    assert {case.patient for case in renamed.cases()} == {"anna", "carl", "case_2", "case_4"}


def test_edits_are_followed(nnunet_set, tmp_path):
    """A person would edit the plan in vain."""
    source = nnunet_set(cases=3)
    plan_only(source, tmp_path / "plan.yaml")
    text = (tmp_path / "plan.yaml").read_text()
    edited = text.replace("organ: 1", "liver: 1").replace("size: [48, 32]", "size: [64, 56]")
    edited = edited.replace("crop: false", "crop: yes").replace("high: 99.5", "high: 90", 1)
    (tmp_path / "plan.yaml").write_text(edited + "# a remark\n")
    store = prepare_as_planned(source, tmp_path / "store", plan=tmp_path / "plan.yaml")
    assert store.classes == ("background", "liver", "lesion") and store.size == (64, 56) and store.plan.crop
    assert [scaling.high for scaling in store.plan.intensities] == [90.0, 99.5]
    assert (store.path / "plan.yaml").read_text().endswith("# a remark\n")


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12) | st.sampled_from(
    ["yes", "null", "01", "1e3", "~", "a: b", "# x", "- y", "12:30", "{}", "a\nb", "'", "2024-01-01"]
)


@settings(deadline=None, max_examples=60)
@given(
    names=st.lists(NAMES, min_size=8, max_size=8, unique=True),
    numbers=st.tuples(*[st.floats(-1e9, 1e9)] * 2).filter(lambda pair: pair[0] < pair[1]),
    spacing=st.tuples(*[st.floats(1e-6, 1e6)] * 2),
    ignore=st.none() | st.integers(2, 300),
)
def test_any_name_and_number_survives_the_file(tmp_path_factory, names, numbers, spacing, ignore):
    """A case called "01" or "no" would become a number or a truth value; spacings would lose digits."""
    dataset = Dataset(
        path=tmp_path_factory.getbasetemp(),
        name=names[0],
        licence="",
        layout="",
        channels=(names[1],),
        classes=(names[2], names[3]),
        label_values=(0, 1),
        cases=[CaseFiles(names[4], names[5], ()), CaseFiles(names[6], names[6], ())],
    )
    plan = Plan(
        axis=0,
        size=(32, 40),
        spacing=spacing,
        intensities=(Scaling(method="window", low=numbers[0], high=numbers[1]),),
        label_values=(0, 1),
        channels=1,
        ignore_value=ignore,
    )
    reading = ReadOptions(names[7], ((names[1], "*.png"),))
    explained = ExplainedPlan(plan, {"size": "why"}, ("why",))
    content, text = make_plan_file(
        dataset, explained, {names[4]: "train", names[6]: "test"}, seed=2**63, reading=reading
    )
    path = dataset.path / "names.yaml"
    path.write_text(text, encoding="utf-8", newline="")
    back, _ = read_plan(path)
    assert back == content and back.plan() == plan and back.read_options() == reading
    renamed, assigned = back.apply(replace(dataset, name="other", channels=("other",)), path)
    assert (renamed.name, renamed.channels, renamed.classes) == (names[0], (names[1],), (names[2], names[3]))
    assert renamed.cases == dataset.cases and assigned == {names[4]: "train", names[6]: "test"}


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> tuple:
    """Return a small data set's folder and the text of its plan."""
    from synthmed.data.phantom import write_phantom

    folder = tmp_path_factory.mktemp("planned")
    write_phantom(folder / "set", cases=3, size=16, channels=1)
    plan_only(folder / "set", folder / "plan.yaml")
    return folder / "set", (folder / "plan.yaml").read_text()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("axis: axial", "axis: diagonal", "axis = 'diagonal': input should be"),
        ("size: [32, 32]", "size: [30, 32]", "size 30x32: sides must be multiples of 8"),
        ("size: [32, 32]", "size: [32, wide]", "size.1 = 'wide': input should be a valid integer"),
        ("crop: false", "crop: maybe", "crop = 'maybe': input should be a valid boolean"),
        ("crop: false", "cropp: false", "there is no key 'cropp' here: did you mean crop"),
        ("high: 99.5", "high: 0.1", "channels.0: low 0.5 must be below high 0.1"),
        ("high: 99.5", "high: .nan", "channels.0: low and high must be numbers"),
        ("method: percentiles", "method: magic", "channels.0.method = 'magic': input should be"),
        ("brain: 1", "brain: 2", "each class needs a value of its own"),
        ("brain: 1", "brain: 1\n  brain: 7", "brain stands there twice"),
        ("- phantom_000", "- 7", "write it in quotes"),
        ("- phantom_000", "- phantom_009", "names phantom_009, not in the data set"),
        ("- phantom_000", "- phantom_000\n  - phantom_000", "more than once"),
        ("patients: {}", "patients: {a: [phantom_000, phantom_001, phantom_002]}", "different parts"),
        ("patients: {}", "patients: {a: [nobody]}", "nobody"),
        ("name: T1", "name: T1\n    method: zscore", "method stands there twice"),
        ("split:", "split: [", "not valid YAML"),
        ("format: synthmed-plan", "format: recipe", "is no plan of synthmed"),
        ("format_version: 1", "format_version: 2", "format_version"),
        ("seed: 0", "seed: -1", "seed"),
        ("# Value of each class", "- [", "not valid YAML"),
    ],
)
def test_mistakes_in_a_plan_are_told_in_one_line(good, tmp_path, old, new, message):
    """A person who edits a plan would get a traceback, or a store that is not what they meant."""
    source, text = good
    assert old in text
    path = tmp_path / "plan.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError) as told:
        prepare_as_planned(source, tmp_path / "store", plan=path)
    assert message in str(told.value) and str(path) in str(told.value) and "\n" not in str(told.value)
    assert not (tmp_path / "store").exists()


def test_the_line_of_a_mistake_is_that_in_the_file(good, tmp_path):
    """In a plan of hundreds of cases a mistake would have to be searched for."""
    source, text = good
    lines = text.splitlines()
    number = next(index for index, line in enumerate(lines) if line.startswith("slices:"))
    lines[number] = "slices: some"
    (tmp_path / "plan.yaml").write_text("\n".join(lines))
    with pytest.raises(UserError, match=f"plan.yaml, line {number + 1}: slices = 'some': "):
        read_plan(tmp_path / "plan.yaml")
    with pytest.raises(UserError, match="does not exist"):
        read_plan(tmp_path / "none.yaml")


def test_a_plan_is_never_overwritten(good, tmp_path):
    """Somebody's edits would be lost."""
    source, text = good
    (tmp_path / "plan.yaml").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        plan_only(source, tmp_path / "plan.yaml")
    assert (tmp_path / "plan.yaml").read_text() == "mine"


def test_a_plan_of_another_set_is_refused(good, nnunet_set, tmp_path):
    """Cases would be prepared as quite other ones were planned."""
    _, text = good
    (tmp_path / "plan.yaml").write_text(text)
    with pytest.raises(UserError, match="has 1 channels"):
        prepare_as_planned(nnunet_set(), tmp_path / "store", plan=tmp_path / "plan.yaml")
    other = nnunet_set(channels=1, name="one")
    with pytest.raises(UserError, match="not in the data set"):
        prepare_as_planned(other, tmp_path / "store", plan=tmp_path / "plan.yaml")
    shutil.rmtree(other)


def test_a_store_is_executed_whole(good, tmp_path):
    """A store would differ from what its plan says."""
    source, text = good
    store = prepare(source, tmp_path / "store")
    assert Store.open(store.path).plan == read_plan(store.path / "plan.yaml")[0].plan()
