"""The one loader of YAML: plain values within bounds, the line of each; and JSON within bounds."""

import time

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from synthmed import configuration
from synthmed.configuration import MOST_CHARACTERS, MOST_VALUES, parse_yaml, read_yaml
from synthmed.errors import UserError
from synthmed.files import parse_json, read_json

# What a person writes; control characters and half characters are escaped by a writer or refused.
TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12)
NUMBERS = st.integers(-(10**39), 10**39) | st.floats(allow_nan=False, width=32)


def values(keys):
    """Return a strategy of what a file may say."""
    return st.recursive(
        st.none() | st.booleans() | NUMBERS | TEXTS,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
        max_leaves=12,
    )


unhurried = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])


@unhurried
@given(values(TEXTS | st.integers(0, 99)), st.booleans())
def test_what_was_written_is_read(value, flow):
    """A plan or a configuration would mean something else than what stands in it."""
    assert parse_yaml(yaml.safe_dump(value, default_flow_style=flow, allow_unicode=True), "f").value == value


@pytest.fixture(params=["libyaml", "Python"])
def parser(request, monkeypatch):
    """Read by libyaml and, as where it is missing, by Python."""
    if request.param == "Python":
        monkeypatch.setattr(configuration, "_PARSER", yaml.SafeLoader)
    elif not yaml.__with_libyaml__:
        pytest.skip("needs libyaml")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb:\n  c: 2\n  c: 3\n", 4),
        ("a: 1\n'a': 2\n", 2),
        ("a:\n- {b: 1, b: 1}\n", 2),
        ("a: [1,\n  2\nb: 3\n", 3),
        ("a: x\nb: \t- c\n\td: 1\n", 2),
        ("a: x\nb: c\0d\n", 2),
        ("a: x\nb: \x1b[31m\n", 2),
        ("a: x\nb: !!python/object/apply:os.system [id]\n", 2),
        ("a: x\nb: !unknown c\n", 2),
        ("a: &a\n  b: *a\n", 2),
        ("a: x\nb: *c\n", 2),
        ("a: x\n<<: {b: 1}\n", 2),
        (f"a: x\nb: {'9' * 5000}\n", 2),
        ("a: x\n.nan: 1\n", 2),
        ("a: x\n---\nb: 1\n", 2),
        ("a: " + "\n " * 3 + "[" * 99 + "]" * 99, 4),
    ],
)
def test_what_is_wrong_is_named_with_its_line_by_either_parser(parser, text, line):
    """In a file of hundreds of lines the mistake would have to be searched for."""
    with pytest.raises(UserError, match=r"^f, line \d+: ") as told:
        parse_yaml(text, "f")
    number = int(str(told.value).removeprefix("f, line ").split(":")[0])
    # What is never closed is missed at the next line, or at the end.
    assert line <= number <= line + 1 and "\n" not in str(told.value)


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "{a: " * 100_000, "- " * 100_000, "? " * 100_000, "*a " * 100_000, "&a " * 100_000, ": " * 50_000],
)
def test_depth_takes_neither_the_stack_nor_time(parser, text):
    """A file of 100 kB would end the program, or keep it busy for hours."""
    start = time.process_time()
    with pytest.raises(UserError):
        parse_yaml(text, "f")
    assert time.process_time() - start < 5


def test_aliases_count_as_what_they_stand_for():
    """A kilobyte of aliases would stand for more values than there is memory; a study's own presets use some."""
    assert parse_yaml("a: &a {b: [1, 2]}\nc: *a\nd: [*a, *a]\n", "f").value["d"] == [{"b": [1, 2]}] * 2
    halves = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
    with pytest.raises(UserError, match=str(MOST_VALUES)):
        parse_yaml(halves, "f")
    with pytest.raises(UserError, match=str(MOST_CHARACTERS)):
        parse_yaml(f"a: &a {'x' * 100_000}\nb: [{'*a, ' * 1000}]", "f")


def test_what_looks_like_a_day_is_a_text():
    """A case named 2026-13-45 would end the program, one named 2026-01-01 would be no text."""
    assert parse_yaml("{2026-01-01: 2026-13-45}", "f").value == {"2026-01-01": "2026-13-45"}


class Inner(BaseModel):
    """Part of a model."""

    model_config = ConfigDict(extra="forbid")
    steps: int


class Outer(BaseModel):
    """A model."""

    model_config = ConfigDict(extra="forbid")
    name: str
    parts: list[Inner] = []


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("name: s\nparts:\n- steps: 1\n- steps: many\n", 4, "parts.1.steps = 'many'"),
        ("name: s\nparts:\n- step: 1\n", 3, "did you mean steps"),
        ("parts: []\n", 1, "name is missing"),
        ("name:\n  7\n", 1, "write it in quotes"),
        ("name: &a many\nparts:\n- steps: 1\n- steps: *a\n", 4, "parts.1.steps = 'many'"),
    ],
)
def test_what_a_model_refuses_has_its_line(text, line, words):
    """Pydantic names a place in a value, and not in the file that somebody has to change."""
    with pytest.raises(UserError, match=f"^f, line {line}: .*{words}"):
        parse_yaml(text, "f").check(Outer)


def test_encodings(tmp_path):
    """A file from another editor would be read as other letters, or end the program."""
    for content, told in (
        (b"\xef\xbb\xbfa: 1", None),
        ("a: 1".encode("utf-16"), "UTF-16"),
        (b"a: 1\nb: \xfc", "line 2"),
    ):
        (tmp_path / "f").write_bytes(content)
        if told is None:
            assert read_yaml(tmp_path / "f").value == read_json_of(tmp_path, b'\xef\xbb\xbf{"a": 1}') == {"a": 1}
            continue
        with pytest.raises(UserError, match=told):
            read_yaml(tmp_path / "f")
        with pytest.raises(UserError, match=told):
            read_json(tmp_path / "f")


def read_json_of(folder, content):
    """Return what a JSON file of this content says."""
    (folder / "f.json").write_bytes(content)
    return read_json(folder / "f.json")


@unhurried
@given(values(TEXTS))
def test_json_that_is_no_attack_is_read_as_ever(value):
    """A data set that was read would be refused."""
    import json

    text = json.dumps(value)
    assert parse_json(text, "f") == json.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        "[" * 101 + "]" * 101,
        "9" * 5000,
        "[-" + "9" * 41 + "]",
        "1e400",
        "9" * 400 + ".5",
        '{"a": {"b": 1, "b": 2}}',
        '"\\ud800"',
        '{"\\uDFFF": 1}',
        "",
        "{} {}",
        '"\0"',
    ],
)
def test_json_that_would_harm_is_refused_in_one_line(text):
    """A file would end the program in a place that does not know its name, or lose one of two values silently."""
    with pytest.raises(UserError, match="^f ") as told:
        parse_json(text, "f")
    assert "\n" not in str(told.value) and len(str(told.value)) < 200


def test_a_key_twice_with_one_value_is_no_guess():
    """Public data sets have such files; nothing in them is lost."""
    assert parse_json('{"a": [1], "a": [1]}', "f") == {"a": [1]}
